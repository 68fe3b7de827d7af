"""A study's record of its runs, which its workers share.

Each run is a trial in Optuna's storage. A trial waits, runs, and ends complete or failed. Whenever a worker is killed:

- A run's *owner* is the first of its trials that has not failed, and only the owner is ever run. Trials are numbered in
  the order of their creation and a failed one never comes back, so no race can make two owners.
- A trial that failed without an error was lost with its worker. It is found by its worker's process, if that was on
  this machine, or else by its heartbeat, and a new trial takes its place.
- The results of a run are completely written before its trial is complete.
"""

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from project.errors import RunError
from project.settings import Settings
from project.studies.running.database import DATABASE_ERRORS, HEARTBEAT_S, open_database, quiet_optuna
from project.studies.running.progress import Progress
from project.studies.running.worker import has_ended_here, this_worker
from project.studies.study import FIRST_TUNING_SEED, Cell, RunRecord, Study, larger_is_better

MAX_DEATHS = 3
"""A run whose workers die so often in one session is recorded as failed."""


class StudyStorage:
    """A study's trials.

    Args:
        folder: The study's folder holds the database if there is no `url` of a database server.
        session: Each command that runs the study has a name of its own; deaths of workers are counted by session.
        retry_failed: If true, runs that failed in another session are run again.

    Raises:
        InputError: If the database cannot be used.
    """

    def __init__(
        self, study: Study, folder: Path, url: str | None = None, session: str = "", retry_failed: bool = False
    ) -> None:
        self.study, self.folder, self.session, self.retry_failed = study, folder, session, retry_failed
        self.cells = {cell.key: cell for cell in study.cells()}
        self.rdb, self._lock = open_database(folder, url)
        with self._lock:
            self.runs = self._trials(study.name, study.metric)
            self.search: optuna.Study | None = None
            if study.search is not None:
                self.search = self._trials(f"{study.name} search {study.tuning_digest}", study.selection_metric)

    def _trials(self, name: str, metric: str) -> optuna.Study:
        return optuna.create_study(
            storage=self.rdb,
            study_name=name,
            direction="maximize" if larger_is_better(metric) else "minimize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        )

    def __enter__(self) -> "StudyStorage":
        return self

    def __exit__(self, *_: object) -> None:
        self.rdb.remove_session()
        self.rdb.engine.dispose()

    def fill(self) -> None:
        """Add a waiting trial for every run that has no trial, or only lost ones."""
        with self._lock:
            trials: dict[str, list[FrozenTrial]] = {}
            for trial in self.runs.get_trials(deepcopy=False):
                trials.setdefault(trial.user_attrs["key"], []).append(trial)
            for key, cell in self.cells.items():
                existing = trials.get(key, [])
                if any(trial.state != TrialState.FAIL or self._is_final_failure(trial) for trial in existing):
                    continue
                label = {"key": key, "arm": cell.arm, "seed": cell.seed, "phase": cell.phase}
                deaths = sum(trial.user_attrs.get("session") == self.session for trial in existing)
                if deaths < MAX_DEATHS:
                    self.runs.enqueue_trial({}, user_attrs=label)
                    continue
                error = f"its worker was killed {deaths} times: perhaps the memory is too small"
                failed = {**label, "error": error, "session": self.session}
                self.runs.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=failed))

    def _is_final_failure(self, trial: FrozenTrial) -> bool:
        again = self.retry_failed and trial.user_attrs.get("session") != self.session
        return "error" in trial.user_attrs and not again

    def owners(self) -> dict[str, FrozenTrial]:
        """Each run's trial that counts: the first that did not fail, else the last that failed with an error."""
        owners: dict[str, FrozenTrial] = {}
        for trial in self.runs.get_trials(deepcopy=False):
            key = trial.user_attrs["key"]
            if key not in self.cells or _is_lost(trial):
                continue
            if key not in owners or owners[key].state == TrialState.FAIL:
                owners[key] = trial
        return owners

    def reclaim(self) -> None:
        """Fail the trials whose workers have ended, and let `fill` replace them."""
        with self._lock, quiet_optuna():
            for trials in filter(None, (self.runs, self.search)):
                self._fail_orphans(trials)
                optuna.storages.fail_stale_trials(trials)
        self.fill()

    def _fail_orphans(self, trials: optuna.Study) -> None:
        """Fail the trials of this machine's ended workers at once: their heartbeats would count for GRACE_S more."""
        for trial in trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if has_ended_here(trial.user_attrs.get("worker")):
                self._finish(trial._trial_id, TrialState.FAIL)

    def claim(self) -> tuple[Cell, int] | None:
        """Take a waiting run whose settings are known: the run and its trial's id; None if there is none now."""
        with self._lock:
            owners = self.owners()
            undecided = self._undecided_arms(owners)
            for key, cell in self.cells.items():
                waiting = key in owners and owners[key].state == TrialState.WAITING
                if not waiting or (cell.phase == "final" and cell.arm in undecided):
                    continue
                trial_id = owners[key]._trial_id
                # the heartbeat comes first, so that a kill between the two cannot leave a claimed trial without one
                self.rdb.record_heartbeat(trial_id)
                if self._finish(trial_id, TrialState.RUNNING):
                    self._note(trial_id, session=self.session, worker=this_worker())
                    return cell, trial_id
        return None

    def _undecided_arms(self, owners: dict[str, FrozenTrial]) -> set[str]:
        """The arms whose final settings are not chosen yet, because tuning or searching has not ended."""
        if self.study.search is not None:
            return {"best"} if self.num_searched() < self.study.search.trials else set()
        tune = {key: cell.arm for key, cell in self.cells.items() if cell.phase == "tune"}
        return {arm for key, arm in tune.items() if key not in owners or not owners[key].state.is_finished()}

    def _finish(self, trial_id: int, state: TrialState, value: float | None = None) -> bool:
        """Change a trial's state; return False if the trial has ended or another worker was faster."""
        try:
            return self.rdb.set_trial_state_values(trial_id, state, None if value is None else [value])
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _note(self, trial_id: int, **attributes: Any) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            for name, value in attributes.items():
                self.rdb.set_trial_user_attr(trial_id, name, value)

    def complete(self, trial_id: int, cell: Cell, found: dict[str, Any]) -> None:
        """Write down what a run found; the results of a worker that had lost the run are dropped."""
        value = self._record(cell, found).value(self.study.metric)
        worst = -math.inf if self.study.maximize else math.inf
        self._note(trial_id, record=json.loads(json.dumps(found)))
        self._finish(trial_id, TrialState.COMPLETE, worst if value is None else value)

    def fail(self, trial_id: int, error: str) -> None:
        """Write down why a run failed."""
        self._note(trial_id, error=error)
        self._finish(trial_id, TrialState.FAIL)

    def release(self, trial_id: int) -> None:
        """Give back a run that has not ended, for any worker to take."""
        self._finish(trial_id, TrialState.FAIL)
        self.fill()

    def heartbeat(self, trial_id: int) -> contextlib.AbstractContextManager[None]:
        """Report every HEARTBEAT_S seconds that this worker still works on a trial."""

        def beat() -> None:
            # a database that cannot be reached for a moment must not end the run
            with contextlib.suppress(*DATABASE_ERRORS):
                self.rdb.record_heartbeat(trial_id)

        return self.meanwhile(HEARTBEAT_S, beat)

    @contextlib.contextmanager
    def meanwhile(self, every_s: float, act: Callable[[], None]) -> Iterator[None]:
        """Do something with the storage every so many seconds, in a thread of its own."""
        stop = threading.Event()

        def repeat() -> None:
            while not stop.wait(every_s):
                act()
            self.rdb.remove_session()  # each thread has one

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _record(self, cell: Cell, found: dict[str, Any], chosen: Settings | None = None) -> RunRecord:
        settings = cell.settings | (chosen or {})
        return RunRecord(cell.arm, cell.seed, cell.phase, point=cell.point, settings=settings, **found)

    def records(self) -> list[RunRecord]:
        """Every run of the study that has ended, in the study's order."""
        owners = self.owners()
        ended = {key: owners[key].user_attrs for key in self.cells if key in owners and owners[key].state.is_finished()}
        final = [self.cells[key] for key in ended if "record" in ended[key] and self.cells[key].phase == "final"]
        chosen = {arm: self.chosen(arm) for arm in {cell.arm for cell in final}}
        records = []
        for key, noted in ended.items():
            cell = self.cells[key]
            found = noted.get("record", {"status": "failed", "error": noted.get("error", "")})
            records.append(self._record(cell, found, chosen.get(cell.arm) if cell.phase == "final" else None))
        return records

    def chosen(self, arm: str) -> Settings:
        """The settings that tuning or searching chose for an arm; none if there was nothing to choose.

        Raises:
            RunError: If nothing that was tried worked.
        """
        if self.search is not None:
            if arm != "best":
                return {}
            if not self.search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                raise RunError("no trial of the search was completed", "look at the errors, or try more trials")
            return dict(self.search.best_trial.params)
        if self.study.tuning is None:
            return {}
        metric = self.study.selection_metric
        sign = 1 if larger_is_better(metric) else -1
        owners = self.owners()
        scores: dict[int, list[float]] = {}
        for key, cell in self.cells.items():
            if cell.phase == "tune" and cell.arm == arm:
                found = owners[key].user_attrs.get("record") if key in owners else None
                value = self._record(cell, found).value(metric) if found else None
                scores.setdefault(cell.point, []).append(-math.inf if value is None else sign * value)
        best = max(scores, key=lambda point: fmean(scores[point]), default=None)
        if best is None or fmean(scores[best]) == -math.inf:
            raise RunError(f"tuning found no settings that work for arm {arm}", "look at the errors of its tuning runs")
        return self.study.tuning.points[best]

    def num_searched(self) -> int:
        """How many of the search's trials have ended; lost ones do not count."""
        assert self.search is not None
        return sum(t.state.is_finished() and not _is_lost(t) for t in self.search.get_trials(deepcopy=False))

    def ask(self) -> optuna.Trial | None:
        """The search's next trial; None if all trials of its budget have been given to workers."""
        search, budget = self.search, self.study.search
        assert search is not None
        assert budget is not None
        with self._lock, quiet_optuna():
            self._fail_orphans(search)
            trials = search.get_trials(deepcopy=False)
            if sum(not _is_lost(trial) for trial in trials) >= budget.trials:
                return None
            # each trial has a seed of its own: a search that is continued must not repeat its random numbers
            seed = FIRST_TUNING_SEED + len(trials)
            search.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            asked = search.ask()
            self.rdb.record_heartbeat(asked._trial_id)
            self._note(asked._trial_id, session=self.session, worker=this_worker())
        return asked

    def progress(self) -> Progress:
        """How far the study is, from the storage alone."""
        owners = self.owners().values()
        done, failed = ([t for t in owners if t.state == state] for state in (TrialState.COMPLETE, TrialState.FAIL))
        running = [_label(trial) for trial in owners if trial.state == TrialState.RUNNING]
        seconds = [_seconds(trial) for trial in sorted(done, key=lambda trial: trial.number)]
        total, num_done, last = len(self.cells), len(done), ""
        if done or failed:
            latest = max((*done, *failed), key=lambda trial: trial.datetime_complete or trial.datetime_start)  # type: ignore[arg-type,return-value]
            metric, found = self.study.metric, latest.user_attrs.get("record")
            result = f"{metric} {found['metrics'].get(metric, math.nan):.4f}" if found else "failed"
            last = f"{_label(latest)}: {result}"
        if self.search is not None and self.study.search is not None:
            searched = self.search.get_trials(deepcopy=False)
            total += self.study.search.trials
            num_done += self.num_searched()
            running += [f"search trial {t.number}" for t in searched if t.state == TrialState.RUNNING]
            seconds += [_seconds(trial) for trial in searched if trial.state.is_finished()]
        return Progress(total, num_done, len(failed), tuple(running), tuple(seconds), last)


def _is_lost(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and "error" not in trial.user_attrs


def _label(trial: FrozenTrial) -> str:
    phase = "tuning " if trial.user_attrs["phase"] == "tune" else ""
    return f"{phase}{trial.user_attrs['arm']} seed {trial.user_attrs['seed']}"


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0
