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
import logging
import multiprocessing
import os
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import TrialState

from project.errors import InputError, RunError
from project.runs.command import setup_console
from project.runs.saving.files import read_json, write_json
from project.runs.saving.signals import Interrupted
from project.settings import Settings, settings_yaml
from project.studies.running.storage import HEARTBEAT_S, MOST_DEATHS, Progress, StudyStorage
from project.studies.running.study_run import EpochReport, check_settings, execute
from project.studies.study import Cell, RunRecord, Search, Study

log = logging.getLogger("project")

WAIT_S = 0.5
"""How often a worker without work looks for some."""
SHOW_EVERY_S = 1.0
"""How often the progress is read and shown."""


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

    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
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
