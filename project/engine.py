"""How a study runs, on Optuna: every run once, by any number of workers, through kills and restarts.

Each run is a trial in Optuna's storage: SQLite in the study's folder, or a database server that machines share. A trial
waits, runs, and ends complete or failed. What holds through every kill:

- A run's *owner* is the first of its trials that has not failed, and only the owner is ever run. Trials are numbered in
  the order of their creation and a failed one never comes back, so no race can make two owners.
- A trial that failed without an error was lost with its worker. It is found by its worker's process, if that was on
  this machine, or else by its heartbeat, and a new trial takes its place.
- What a run found is written in full before its trial is complete.

A worker is one process with one copy of the data for all its runs.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import multiprocessing
import os
import random
import socket
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import filelock
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from project.command import setup_console
from project.errors import InputError, RunError
from project.run_folder import read_json, write_json
from project.signals import Interrupted
from project.study import (
    Cell,
    Range,
    RunRecord,
    Search,
    Settings,
    Study,
    larger_is_better,
    settings_yaml,
)
from project.study_run import EpochReport, check_settings, execute

log = logging.getLogger("project")

HEARTBEAT_S = 10
GRACE_S = 60
"""A worker on another machine that has not been heard of for so long is given up."""
WAIT_S = 0.5
"""How often a worker without work looks for some."""
SHOW_EVERY_S = 1.0
"""How often the progress is read and shown."""
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
    try:
        os.kill(worker["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return bool(worker["started"] == _started(worker["pid"]))


def work(storage: StudyStorage, local: Settings) -> None:
    """Run what there is to run until nothing is left, in this process.

    Args:
        storage: Of the study.
        local: Settings of this machine that change no result, such as `data.root`.
    """
    with _quiet_console():
        if storage.study.search is not None:
            _search(storage, storage.study.search, local)
        next_look = 0.0
        while True:
            if time.monotonic() >= next_look:
                storage.reclaim()
                next_look = time.monotonic() + HEARTBEAT_S
            claimed = storage.claim()
            if claimed is None:
                progress = storage.progress()
                if not progress.running and progress.done + progress.failed >= progress.total:
                    return
                next_look = min(next_look, time.monotonic() + WAIT_S)
                time.sleep(WAIT_S)
                continue
            cell, trial_id = claimed
            _run_cell(storage, cell, trial_id, local)


def _run_cell(storage: StudyStorage, cell: Cell, trial_id: int, local: Settings) -> None:
    folder = storage.folder / "runs" / str(cell.settings.get("data.dataset", "fashion_mnist")) / cell.run_name
    try:
        chosen = storage.chosen(cell.arm) if cell.phase == "final" and cell.tuning else {}
        with storage.heartbeat(trial_id):
            found = execute(cell.settings | chosen | local, folder)
        storage.complete(trial_id, cell, found)
    except Interrupted:
        storage.release(trial_id)
        raise
    except Exception as error:  # one run's error must not end the study
        storage.fail(trial_id, _in_words(error))
    except BaseException:  # Ctrl-C, which Lightning turns into an exit
        storage.release(trial_id)
        raise


def _search(storage: StudyStorage, search: Search, local: Settings) -> None:
    """Take the search's trials until its budget is spent, by this worker and the others."""
    metric = storage.study.selection_metric
    while storage.num_searched() < search.trials:
        trial = storage.ask()
        if trial is None:
            storage.reclaim()
            time.sleep(WAIT_S)
            continue
        settings = storage.study.settings("best", search.seed) | _suggest(trial, search)
        folder = storage.folder / "runs" / "search" / f"trial{trial.number}"
        study = cast(optuna.Study, storage.search)
        try:
            with storage.heartbeat(trial._trial_id):
                found = execute(settings | local, folder, [EpochReport(trial, metric)])
            value = RunRecord("best", search.seed, **found).value(metric)
            if value is None:
                storage.fail(trial._trial_id, f"the run has no {metric}")
            else:
                study.tell(trial, value)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except Interrupted:
            storage.release(trial._trial_id)
            raise
        except Exception as error:  # one trial's error must not end the search
            storage.fail(trial._trial_id, _in_words(error))
        except BaseException:
            storage.release(trial._trial_id)
            raise


def _in_words(error: Exception) -> str:
    if isinstance(error, InputError | RunError):
        return f"{error.cause} ({error.remedy})"
    return "".join(traceback.format_exception(error))[-4000:]


def _suggest(trial: optuna.Trial, search: Search) -> Settings:
    settings: Settings = {}
    for key, space in search.spaces.items():
        if isinstance(space, list):
            settings[key] = trial.suggest_categorical(key, space)
        elif space.whole:
            settings[key] = trial.suggest_int(key, int(space.low), int(space.high), log=space.log)
        else:
            settings[key] = trial.suggest_float(key, space.low, space.high, log=space.log)
    return settings


@contextlib.contextmanager
def _quiet_console() -> Iterator[None]:
    """Keep the runs' own words off the console, where the study's progress is; each run's log file has them."""
    handlers = [handler for handler in log.handlers if type(handler) is logging.StreamHandler]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # a study's runs have no TensorBoard files unless it asks for them
            warnings.filterwarnings("ignore", message=".*have no logger configured.*")
            yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def _worker_process(
    study: Study,
    folder: Path,
    url: str | None,
    session: str,
    retry_failed: bool,
    local: Settings,
    number: int,
    workers: int,
) -> None:
    """One of several workers: an equal share of the cores, a GPU in turn, and gone when its parent is."""
    import torch

    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    setup_console()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    gpus = torch.cuda.device_count()
    if gpus > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
    with contextlib.suppress(KeyboardInterrupt), StudyStorage(study, folder, url, session, retry_failed) as storage:
        work(storage, local)


def run_study(
    study: Study,
    folder: Path,
    url: str | None = None,
    workers: int = 1,
    retry_failed: bool = False,
    show: Callable[[Progress], None] | None = None,
    local: Settings | None = None,
) -> list[RunRecord]:
    """Run whatever of a study is not done yet.

    Args:
        study: The study.
        folder: Where its runs, and without a URL its database, are kept.
        url: A database that several machines share.
        workers: Processes on this machine; one works in this process itself.
        retry_failed: Run again what failed before.
        show: Called with the progress every second and at the end.
        local: Settings of this machine that change no result, such as `data.root`.

    Returns:
        Every run of the study, failed ones too.

    Raises:
        InputError: If the study or the database is not usable.
        RunError: If the workers die again and again.
    """
    if workers < 1:
        raise InputError(f"--workers is {workers}, but must be at least 1", "type for example --workers 2")
    check_settings(study)
    session = uuid.uuid4().hex[:12]

    def start(number: int) -> Any:
        arguments = (study, folder, url, session, retry_failed, local or {}, number, workers)
        process = multiprocessing.get_context("spawn").Process(target=_worker_process, args=arguments)
        process.start()
        return process

    with StudyStorage(study, folder, url, session, retry_failed) as storage:

        def show_progress() -> None:
            if show:
                show(storage.progress())

        storage.reclaim()
        if workers == 1:
            with storage.meanwhile(SHOW_EVERY_S, show_progress):
                work(storage, local or {})
        else:
            _run_workers(start, workers, show_progress)
        show_progress()
        if study.search is not None:
            best = {"patience": 0} | study.base | storage.chosen("best")
            (folder / "best.yaml").write_text(settings_yaml(best), encoding="utf-8")
        records = storage.records()
    write_json(folder / "records.json", {"records": [dataclasses.asdict(record) for record in records]})
    return records


def _run_workers(start: Callable[[int], Any], workers: int, show: Callable[[], None]) -> None:
    """Start the workers, start one again that dies, and wait until all are through."""
    processes, deaths = [start(number) for number in range(workers)], 0
    try:
        while any(process.is_alive() for process in processes):
            show()
            for number, process in enumerate(processes):
                process.join(SHOW_EVERY_S / workers)
                if process.exitcode:  # neither alive nor through
                    deaths += 1
                    if deaths > MOST_DEATHS * workers:
                        raise RunError(
                            f"the workers died {deaths} times, the last one with status {process.exitcode}",
                            "start the study again: it goes on where it was; fewer --workers need less memory",
                        )
                    processes[number] = start(number)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def study_records(study: Study, folder: Path, url: str | None = None) -> list[RunRecord]:
    """What there is of a study so far, without running anything."""
    if url is not None or (folder / "study.db").is_file():
        with StudyStorage(study, folder, url) as storage:
            return storage.records()
    return [RunRecord(**record) for record in read_json(folder / "records.json").get("records", [])]
