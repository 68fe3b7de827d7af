"""How a study runs: every run once, by any number of workers, even if they are killed and started again.

A worker is one process, which loads the data once for all its runs. The workers share the study's `StudyStorage`.
"""

import contextlib
import dataclasses
import functools
import logging
import multiprocessing
import os
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from project.errors import InputError, RunError
from project.extensions import load_inherited_extensions
from project.runs.command import setup_console
from project.runs.saving.files import read_json, write_json
from project.runs.saving.signals import Interrupted
from project.settings import Settings, settings_yaml
from project.studies.running.database import HEARTBEAT_S
from project.studies.running.progress import Progress
from project.studies.running.storage import MAX_DEATHS, StudyStorage
from project.studies.running.study_run import EpochReport, check_settings, execute
from project.studies.running.worker import end_with_parent_process
from project.studies.study import FIRST_TUNING_SEED, Cell, RunRecord, Search, Study

log = logging.getLogger("project")

WAIT_S = 0.5
"""How often a worker without work looks for some."""
SHOW_EVERY_S = 1.0
"""How often the progress is read and shown."""


def work(storage: StudyStorage, local: Settings) -> None:
    """Take and execute runs in this process until none is left."""
    with _quiet_console():
        if storage.study.search is not None:
            _search(storage, storage.study.search, local)
        next_look = 0.0
        while True:
            if time.monotonic() >= next_look:
                storage.reclaim()
                next_look = time.monotonic() + HEARTBEAT_S
            claimed = storage.claim()
            if claimed is not None:
                _run_cell(storage, *claimed, local)
                continue
            progress = storage.progress()
            if not progress.running and progress.ended >= progress.total:
                return
            # others still have runs in progress, which come back if their workers end
            next_look = 0.0
            time.sleep(WAIT_S)


def _run_cell(storage: StudyStorage, cell: Cell, trial_id: int, local: Settings) -> None:
    folder = storage.folder / "runs" / str(cell.settings.get("data.dataset", "fashion_mnist")) / cell.run_name
    with _attempt(storage, trial_id):
        chosen = storage.chosen(cell.arm) if cell.phase == "final" else {}
        storage.complete(trial_id, cell, execute(cell.settings | chosen | local, folder))


def _search(storage: StudyStorage, search: Search, local: Settings) -> None:
    """Execute the search's trials until its budget is spent, by this worker and the others."""
    metric = storage.study.selection_metric
    while storage.num_searched() < search.trials:
        trial = storage.ask()
        if trial is None:
            storage.reclaim()
            time.sleep(WAIT_S)
            continue
        settings = storage.study.settings("best", FIRST_TUNING_SEED) | _suggest(trial, search)
        folder = storage.folder / "runs" / "search" / f"trial{trial.number}"
        with _attempt(storage, trial._trial_id):
            try:
                found = execute(settings | local, folder, [EpochReport(trial, metric)])
            except optuna.TrialPruned:
                trial.study.tell(trial, state=TrialState.PRUNED)
                continue
            value = RunRecord("best", FIRST_TUNING_SEED, **found).value(metric)
            if value is None:
                storage.fail(trial._trial_id, f"the run has no {metric}")
            else:
                trial.study.tell(trial, value)


@contextlib.contextmanager
def _attempt(storage: StudyStorage, trial_id: int) -> Iterator[None]:
    """Send heartbeats while a trial is worked on; write down its error, or give it back if this worker must stop."""
    try:
        with storage.heartbeat(trial_id):
            yield
    except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into an exit
        storage.release(trial_id)
        raise
    except Exception as error:  # the error of one run must not end the study
        if isinstance(error, InputError | RunError):
            storage.fail(trial_id, f"{error.cause} ({error.remedy})")
        else:
            storage.fail(trial_id, "".join(traceback.format_exception(error))[-4000:])


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
    """Keep the runs' own messages off the console, which shows the study's progress; each run's log file has them."""
    with contextlib.ExitStack() as stack:
        for handler in log.handlers:
            if type(handler) is logging.StreamHandler:
                stack.callback(handler.setLevel, handler.level)
                handler.setLevel(logging.CRITICAL)
        stack.enter_context(warnings.catch_warnings())
        # a study's runs have no TensorBoard files unless it asks for them
        warnings.filterwarnings("ignore", message=".*have no logger configured.*")
        yield


def _worker_process(open_storage: Callable[[], StudyStorage], local: Settings, number: int, workers: int) -> None:
    """Work as one of several workers: with an equal share of the cores and the next GPU, until the parent ends."""
    import torch

    end_with_parent_process()
    load_inherited_extensions()
    setup_console()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    gpus = torch.cuda.device_count()
    if gpus > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
    with contextlib.suppress(KeyboardInterrupt), open_storage() as storage:
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
    """Do all runs of a study that are not done yet.

    Args:
        folder: It holds the runs and, if there is no URL, the database.
        url: It names a database that several machines share.
        workers: So many processes work on this machine; a single one is this process itself.
        retry_failed: If true, runs that failed before are run again.
        show: The function is called with the progress every second and at the end.
        local: These settings, such as `data.root`, belong to this machine and change no result.

    Returns:
        Every run of the study, failed ones too.

    Raises:
        InputError: If the study or the database cannot be used.
        RunError: If the workers die again and again.
    """
    if workers < 1:
        raise InputError(f"--workers is {workers}, but must be at least 1", "type for example --workers 2")
    check_settings(study)
    open_storage = functools.partial(StudyStorage, study, folder, url, uuid.uuid4().hex[:12], retry_failed)

    def start(number: int) -> Any:
        arguments = (open_storage, local or {}, number, workers)
        process = multiprocessing.get_context("spawn").Process(target=_worker_process, args=arguments)
        process.start()
        return process

    with open_storage() as storage:

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
    """Start the workers, replace those that die, and wait until all have finished."""
    processes, deaths = [start(number) for number in range(workers)], 0
    try:
        while any(process.is_alive() for process in processes):
            show()
            for number, process in enumerate(processes):
                process.join(SHOW_EVERY_S / workers)
                if process.exitcode:  # None while it works, 0 when it has finished
                    deaths += 1
                    if deaths > MAX_DEATHS * workers:
                        raise RunError(
                            f"the workers died {deaths} times, the last one with status {process.exitcode}",
                            "start the study again, it continues where it was; fewer --workers need less memory",
                        )
                    processes[number] = start(number)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def study_records(study: Study, folder: Path, url: str | None = None) -> list[RunRecord]:
    """The runs of a study that have ended so far; nothing is run."""
    if url is not None or (folder / "study.db").is_file():
        with StudyStorage(study, folder, url) as storage:
            return storage.records()
    return [RunRecord(**record) for record in read_json(folder / "records.json").get("records", [])]
