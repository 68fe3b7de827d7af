"""The study's record of runs, shared by its workers."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import random
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import filelock
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from project.errors import InputError, RunError
from project.runs.saving.platform_differences import process_exists
from project.settings import Settings
from project.studies.study import Cell, Range, RunRecord, Search, Study, larger_is_better

HEARTBEAT_S = 10
GRACE_S = 60
"""A worker on another machine that has not been heard of for so long is given up."""
MOST_DEATHS = 3
"""A run that takes its worker down so often in one session is recorded as failed."""


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        total: Runs that it needs.
        done: Runs that are complete.
        failed: Runs that ended with an error.
        running: Labels of the runs under way.
        seconds: How long each complete run took, in the order in which they ended.
        last: Label and result of the run that ended last.
    """

    total: int
    done: int
    failed: int
    running: tuple[str, ...]
    seconds: tuple[float, ...]
    last: str

    def seconds_left(self, workers: int) -> float | None:
        """An estimate from the runs so far; None before the first has ended."""
        if not self.seconds:
            return None
        return fmean(self.seconds[-50:]) * (self.total - self.done - self.failed) / max(workers, 1)


class StudyStorage:
    """A study's trials.

    Args:
        study: The study.
        folder: Its folder.
        url: A database's URL; SQLite in the folder if None.
        session: Of the command that runs it; deaths of workers are counted by session.
        retry_failed: Whether runs that failed in another session are run again.

    Raises:
        InputError: If the database cannot be reached.
    """

    def __init__(
        self, study: Study, folder: Path, url: str | None = None, session: str = "", retry_failed: bool = False
    ) -> None:
        self.study, self.folder, self.session, self.retry_failed = study, folder, session, retry_failed
        self.cells = {cell.key: cell for cell in (*study.tuning_cells(), *self._final_cells(study))}
        self._lock: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        options: dict[str, Any] = {"pool_pre_ping": True}
        if url is None:
            folder.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{(folder / 'study.db').resolve()}"
            # SQLite has no locks of single rows, which the claims of several workers need
            self._lock = filelock.FileLock(folder / "study.lock")
            options = {"connect_args": {"timeout": 120}}
        elif url.startswith("postgresql://"):
            url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with self._lock:
                self._open(url, options)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(
                f"the study's database cannot be used: {first[:300]}",
                "check the URL: --storage postgresql://USER:PASSWORD@HOST/DATABASE (pip install 'psycopg[binary]')",
            ) from None

    def _open(self, url: str, options: dict[str, Any]) -> None:
        """Connect, and make tables and studies that are not there yet."""
        study = self.study
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.rdb = _connect(url, options)
        if self.rdb.engine.name == "sqlite":
            _make_fast(self.rdb.engine)
        self.runs = optuna.create_study(
            storage=self.rdb,
            study_name=study.name,
            direction="maximize" if study.maximize else "minimize",
            load_if_exists=True,
        )
        self.search: optuna.Study | None = None
        if study.search is not None:
            self.search = optuna.create_study(
                storage=self.rdb,
                study_name=f"{study.name} search {_fingerprint(study, study.search)}",
                direction="maximize" if larger_is_better(study.selection_metric) else "minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
            )

    def __enter__(self) -> "StudyStorage":
        return self

    def __exit__(self, *_: object) -> None:
        self.rdb.remove_session()
        self.rdb.engine.dispose()

    @staticmethod
    def _final_cells(study: Study) -> list[Cell]:
        cells = study.final_cells()
        if study.search is None:
            return cells
        print_of = _fingerprint(study, study.search)
        return [dataclasses.replace(cell, tuning=print_of) if cell.arm == "best" else cell for cell in cells]

    def fill(self) -> None:
        """Give every run that has no trial, or only lost ones, a trial that waits."""
        with self._lock:
            trials: dict[str, list[FrozenTrial]] = {}
            for trial in self.runs.get_trials(deepcopy=False):
                trials.setdefault(trial.user_attrs["key"], []).append(trial)
            for key, cell in self.cells.items():
                mine = trials.get(key, [])
                if any(trial.state != TrialState.FAIL or self._is_final_failure(trial) for trial in mine):
                    continue
                label = {"key": key, "arm": cell.arm, "seed": cell.seed, "phase": cell.phase}
                deaths = sum(trial.user_attrs.get("session") == self.session for trial in mine)
                if deaths < MOST_DEATHS:
                    self.runs.enqueue_trial({}, user_attrs=label)
                    continue
                error = f"its worker was killed {deaths} times: perhaps the memory is too small"
                failed = {**label, "error": error, "session": self.session}
                self.runs.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=failed))

    def _is_final_failure(self, trial: FrozenTrial) -> bool:
        if "error" not in trial.user_attrs:
            return False
        return not self.retry_failed or trial.user_attrs.get("session") == self.session

    def owners(self) -> dict[str, FrozenTrial]:
        """Each run's trial that counts: the first that did not fail, else the last that failed with an error."""
        owners: dict[str, FrozenTrial] = {}
        for trial in self.runs.get_trials(deepcopy=False):
            key = trial.user_attrs["key"]
            if key not in self.cells or (trial.state == TrialState.FAIL and "error" not in trial.user_attrs):
                continue
            known = owners.get(key)
            if known is None or known.state == TrialState.FAIL:
                owners[key] = trial
        return owners

    def reclaim(self) -> None:
        """Fail the trials whose worker is gone, so that `fill` gives their runs new ones."""
        with self._lock:
            here = _worker()
            for trial in self.runs.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                worker = trial.user_attrs.get("worker")
                if worker and worker["place"] == here["place"] and not _is_alive(worker):
                    self._finish(trial._trial_id, TrialState.FAIL)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                for study in filter(None, (self.runs, self.search)):
                    optuna.storages.fail_stale_trials(study)
        self.fill()

    def claim(self) -> tuple[Cell, int] | None:
        """Take a run that waits and whose settings are known: the run and its trial's id; None if there is none now."""
        with self._lock:
            owners = self.owners()
            ready = self._ready(owners)
            for key, cell in self.cells.items():
                trial = owners.get(key)
                if trial is None or trial.state != TrialState.WAITING or not ready(cell):
                    continue
                # before it is taken, so that no kill can leave it taken and without a heartbeat
                self.rdb.record_heartbeat(trial._trial_id)
                if self._finish(trial._trial_id, TrialState.RUNNING):
                    self._note(trial._trial_id, session=self.session, worker=_worker())
                    return cell, trial._trial_id
        return None

    def _ready(self, owners: Mapping[str, FrozenTrial]) -> Callable[[Cell], bool]:
        """Tells of a run whether everything is there that decides its settings."""
        waiting_arms = {
            cell.arm
            for key, cell in self.cells.items()
            if cell.phase == "tune" and not (key in owners and owners[key].state.is_finished())
        }
        searching = self.study.search is not None and self.num_searched() < self.study.search.trials

        def ready(cell: Cell) -> bool:
            if cell.phase == "tune" or not cell.tuning:
                return True
            return not searching if self.study.search is not None else cell.arm not in waiting_arms

        return ready

    def _finish(self, trial_id: int, state: TrialState, value: float | None = None) -> bool:
        """Change a trial's state; False if it has one already that rules it out."""
        try:
            return self.rdb.set_trial_state_values(trial_id, state, None if value is None else [value])
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _note(self, trial_id: int, **attributes: Any) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            for name, value in attributes.items():
                self.rdb.set_trial_user_attr(trial_id, name, value)

    def complete(self, trial_id: int, cell: Cell, found: dict[str, Any]) -> None:
        """Write down what a run found; what comes from a worker that was given up is dropped."""
        record = RunRecord(cell.arm, cell.seed, cell.phase, point=cell.point, settings=cell.settings, **found)
        worst = -math.inf if self.study.maximize else math.inf
        value = record.value(self.study.metric)
        self._note(trial_id, record=json.loads(json.dumps(found)))
        self._finish(trial_id, TrialState.COMPLETE, worst if value is None else value)

    def fail(self, trial_id: int, error: str) -> None:
        """Write down why a run failed."""
        self._note(trial_id, error=error)
        self._finish(trial_id, TrialState.FAIL)

    def release(self, trial_id: int) -> None:
        """Give a run back that was not finished."""
        self._finish(trial_id, TrialState.FAIL)
        self.fill()

    @contextlib.contextmanager
    def heartbeat(self, trial_id: int) -> Iterator[None]:
        """Tell the storage meanwhile that this worker lives."""

        def beat() -> None:
            # a database that is away for a moment must not end the run
            with contextlib.suppress(optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError):
                self.rdb.record_heartbeat(trial_id)

        with self.meanwhile(HEARTBEAT_S, beat):
            yield

    @contextlib.contextmanager
    def meanwhile(self, every_s: float, act: Callable[[], None]) -> Iterator[None]:
        """Do something with the storage every so many seconds, in a thread of its own."""
        stop = threading.Event()

        def repeat() -> None:
            while not stop.wait(every_s):
                act()
            self.rdb.remove_session()  # a thread has its own

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def records(self) -> list[RunRecord]:
        """Every run of the study that has ended, in the study's order."""
        owners, records, chosen = self.owners(), [], {}
        for key, cell in self.cells.items():
            trial = owners.get(key)
            if trial is None or not trial.state.is_finished():
                continue
            found = trial.user_attrs.get("record")
            if found is None:
                found = {"status": "failed", "error": trial.user_attrs.get("error", "")}
            elif cell.phase == "final" and cell.arm not in chosen:
                chosen[cell.arm] = self.chosen(cell.arm)
            settings = cell.settings | (chosen.get(cell.arm, {}) if cell.phase == "final" else {})
            records.append(RunRecord(cell.arm, cell.seed, cell.phase, point=cell.point, settings=settings, **found))
        return records

    def chosen(self, arm: str) -> Settings:
        """What tuning or searching chose for an arm; nothing where there was nothing to choose.

        Raises:
            RunError: If nothing that was tried worked.
        """
        if self.search is not None:
            return self._searched(arm)
        if self.study.tuning is None:
            return {}
        metric = self.study.selection_metric
        sign = 1 if larger_is_better(metric) else -1
        owners = self.owners()
        scores: dict[int, list[float]] = {}
        for key, cell in self.cells.items():
            if cell.phase != "tune" or cell.arm != arm:
                continue
            trial = owners.get(key)
            found = trial.user_attrs.get("record") if trial else None
            value = RunRecord(arm, cell.seed, **found).value(metric) if found else None
            scores.setdefault(cell.point, []).append(-math.inf if value is None else sign * value)
        best = max(scores, key=lambda point: fmean(scores[point]), default=None)
        if best is None or fmean(scores[best]) == -math.inf:
            raise RunError(f"tuning found no settings that work for arm {arm}", "look at the errors of its tuning runs")
        return self.study.tuning.points[best]

    def _searched(self, arm: str) -> Settings:
        assert self.search is not None
        if arm != "best":
            return {}
        complete = self.search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise RunError("no trial of the search came to its end", "look at the errors, or try more trials")
        return dict(self.search.best_trial.params)

    def num_searched(self) -> int:
        """Trials of the search that count against its budget and have ended."""
        assert self.search is not None
        trials = self.search.get_trials(deepcopy=False)
        return sum(t.state.is_finished() and not _is_lost(t) for t in trials)

    def ask(self) -> optuna.Trial | None:
        """The search's next trial; None if its budget is spent or given out."""
        search, space = self.search, self.study.search
        assert search is not None
        assert space is not None
        with self._lock:
            here = _worker()
            trials = search.get_trials(deepcopy=False)
            for trial in trials:
                worker = trial.user_attrs.get("worker")
                gone = worker and worker["place"] == here["place"] and not _is_alive(worker)
                if trial.state == TrialState.RUNNING and gone:
                    self._finish(trial._trial_id, TrialState.FAIL)
            given = [t for t in search.get_trials(deepcopy=False) if not _is_lost(t)]
            if len(given) >= space.trials:
                return None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                warnings.filterwarnings("ignore", message="Heartbeat of storage")  # `heartbeat` is its like
                # a seed for each trial: a search that goes on must not begin its random numbers again
                search.sampler = optuna.samplers.TPESampler(
                    seed=space.seed + len(trials), multivariate=True, constant_liar=True
                )
                asked = search.ask()
            self.rdb.record_heartbeat(asked._trial_id)
            self._note(asked._trial_id, session=self.session, worker=_worker())
        return asked

    def progress(self) -> Progress:
        """How far the study is, from the storage alone."""
        owners = self.owners()
        done = [trial for trial in owners.values() if trial.state == TrialState.COMPLETE]
        failed = [trial for trial in owners.values() if trial.state == TrialState.FAIL]
        running = [_label(t) for t in owners.values() if t.state == TrialState.RUNNING]
        ended = sorted((*done, *failed), key=lambda trial: trial.datetime_complete or trial.datetime_start)  # type: ignore[arg-type,return-value]
        total, seconds = len(self.cells), [_seconds(trial) for trial in sorted(done, key=lambda t: t.number)]
        last = ""
        if ended:
            metric = self.study.metric
            found = ended[-1].user_attrs.get("record")
            result = f"{metric} {found['metrics'].get(metric, math.nan):.4f}" if found else "failed"
            last = f"{_label(ended[-1])}: {result}"
        num_done = len(done)
        if self.search is not None and self.study.search is not None:
            searched = self.search.get_trials(deepcopy=False)
            total += self.study.search.trials
            num_done += self.num_searched()
            running += [f"search trial {t.number}" for t in searched if t.state == TrialState.RUNNING]
            seconds += [_seconds(trial) for trial in searched if trial.state.is_finished()]
        return Progress(total, num_done, len(failed), tuple(running), tuple(seconds), last)


def _connect(url: str, options: dict[str, Any]) -> optuna.storages.RDBStorage:
    """Connect to a database and make Optuna's tables, perhaps while another machine makes them too."""
    for attempts_left in (4, 3, 2, 1, 0):
        try:
            return optuna.storages.RDBStorage(url, options, heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            if not attempts_left:  # then it is not that two were at it at once
                raise
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - so that two do not meet again
    raise AssertionError


def _make_fast(engine: sqlalchemy.Engine) -> None:
    """Let SQLite write without waiting for the disk each time; no kill of a process can lose what was committed."""

    @sqlalchemy.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()


def _fingerprint(study: Study, search: Search) -> str:
    """Of everything that decides what a search finds."""
    spaces = {key: dataclasses.asdict(s) if isinstance(s, Range) else s for key, s in search.spaces.items()}
    content = [spaces, search.trials, search.seed, study.settings("best", search.seed), study.selection_metric]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _is_lost(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and "error" not in trial.user_attrs


def _label(trial: FrozenTrial) -> str:
    phase = "tuning " if trial.user_attrs["phase"] == "tune" else ""
    return f"{phase}{trial.user_attrs['arm']} seed {trial.user_attrs['seed']}"


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0


def _worker() -> dict[str, Any]:
    """Which process this is, in a way that no later process can be taken for it."""
    place = [socket.gethostname()]
    with contextlib.suppress(OSError):  # Linux alone tells these
        place.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        place.append(str(Path("/proc/self/ns/pid").readlink()))
    return {"place": " ".join(place), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """When a process started, in the system's own ticks; empty where the system does not tell."""
    try:
        # the name, in brackets, may itself hold blanks and brackets
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _is_alive(worker: Mapping[str, Any]) -> bool:
    return process_exists(worker["pid"]) and bool(worker["started"] == _started(worker["pid"]))
