"""A search for good settings: Optuna proposes them and stops bad trials early, Dask's workers train."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from project.errors import InputError, RunError
from project.extensions import extension_flags
from project.settings import Settings
from project.studies.running.cluster import REPORTS, Workers, answers
from project.studies.running.progress import Progress
from project.studies.running.tasks import train_one
from project.studies.study import FIRST_TUNING_SEED, RunRecord, Search, Study, larger_is_better


def best_of(study: Study, folder: Path) -> Settings | None:
    """What a study's search has found; None if there is no search, or if it has not ended.

    Raises:
        InputError: If the journal of the search is damaged.
    """
    if study.search is None or not _journal(study, folder).is_file():
        return None
    with _whole_journal(study, folder):
        trials = _open(study, folder)
        known = trials.get_trials(deepcopy=False)
        if not all(_is_whole(trial, study.search) for trial in known):
            raise ValueError("a trial of another search")
        return _best(trials) if sum(map(_is_ended, known)) >= study.search.trials else None


def search(
    study: Study,
    budget: Search,
    folder: Path,
    cluster: Workers,
    show: Callable[[Progress], None],
    local: Settings,
) -> Settings:
    """Train the trials of a search that have no result yet, and return the best settings.

    Raises:
        InputError: If the journal of the search is damaged.
        RunError: If no trial worked.
    """
    metric = study.selection_metric
    with _whole_journal(study, folder):
        trials = _open(study, folder)
    for left in trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        trials.tell(left.number, state=TrialState.FAIL)  # it ended with an earlier command: its settings come again
        trials.enqueue_trial(left.params)
    cluster.client.subscribe_topic(REPORTS, lambda event: cluster.events.put(event[1]))
    while True:
        everything = trials.get_trials(deepcopy=False)
        ended = [trial for trial in everything if _is_ended(trial)]
        if len(ended) >= budget.trials:
            return _best(trials)
        for _ in range(min(cluster.free, budget.trials - len(ended) - len(cluster.running))):
            trial = _ask(trials, budget)
            settings = study.settings("best", FIRST_TUNING_SEED) | trial.params
            place = folder.resolve() / "runs" / "search" / f"trial{trial.number}"
            cluster.submit(trial, train_one, settings | local, place, extension_flags(), (trial.number, metric))
        labels = tuple(f"search trial {trial.number}" for trial in cluster.running.values())
        seconds = tuple(trial.duration.total_seconds() for trial in ended[-50:] if trial.duration)
        show(Progress(budget.trials + len(study.arms) * len(study.seeds), len(ended), 0, labels, seconds, ""))
        event = cluster.wait(1.0)
        if isinstance(event, dict):
            for asked in [trial for trial in cluster.running.values() if trial.number == event["trial"]]:
                asked.report(event["value"], event["epoch"])
                answers(cluster.client, asked.number).put(asked.should_prune())
        elif event is not None:
            trial, found = event
            _tell(trials, trial, found, metric)


def _tell(trials: optuna.Study, trial: optuna.Trial, found: dict[str, Any], metric: str) -> None:
    if found["status"] == "pruned":
        trials.tell(trial, state=TrialState.PRUNED)
        return
    value = None if found["status"] == "failed" else RunRecord("best", FIRST_TUNING_SEED, **found).value(metric)
    if value is None:
        trial.set_user_attr("error", found.get("error") or f"the run has no {metric}")
        trials.tell(trial, state=TrialState.FAIL)
    else:
        trials.tell(trial, value)


def _ask(trials: optuna.Study, budget: Search) -> optuna.Trial:
    # each trial has a seed of its own: a search that is continued must not repeat its random numbers
    seed = FIRST_TUNING_SEED + len(trials.get_trials(deepcopy=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        trials.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        trial = trials.ask()
    for key, space in budget.spaces.items():
        if isinstance(space, list):
            trial.suggest_categorical(key, space)
        elif space.whole:
            trial.suggest_int(key, int(space.low), int(space.high), log=space.log)
        else:
            trial.suggest_float(key, space.low, space.high, log=space.log)
    return trial


def _is_ended(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial counts; one that an earlier command left behind does not."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "error" in trial.user_attrs


def _is_whole(trial: optuna.trial.FrozenTrial, budget: Search) -> bool:
    """Whether a trial's settings are among those that are searched, and its numbers are numbers."""
    values = trial.values or []
    if trial.state == TrialState.COMPLETE and (len(values) != 1 or trial.params.keys() != budget.spaces.keys()):
        return False
    numbers = [*values, *trial.intermediate_values.values()]
    return all(type(number) is float for number in numbers) and all(
        value in space if isinstance(space := budget.spaces[name], list) else space.low <= value <= space.high
        for name, value in trial.params.items()
    )


def _best(trials: optuna.Study) -> Settings:
    if not trials.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise RunError("no trial of the search was completed", "look at the errors, or try more trials")
    return dict(trials.best_trial.params)


@contextmanager
def _whole_journal(study: Study, folder: Path) -> Iterator[None]:
    """Refuse a damaged journal: Optuna checks nothing of what it reads, so that anything can be raised."""
    try:
        yield
    except (InputError, RunError, OSError):
        raise
    except Exception as error:
        raise InputError(
            f"{_journal(study, folder)} is damaged", "restore it, or delete it: the search then starts anew"
        ) from error


def _journal(study: Study, folder: Path) -> Path:
    return folder / f"search-{study.search_digest}.journal"


def _open(study: Study, folder: Path) -> optuna.Study:
    """Open the journal of a study's search, or begin one."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(_journal(study, folder)))),
        study_name=study.name,
        direction="maximize" if larger_is_better(study.selection_metric) else "minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
