"""Run these settings, and give me each result: short trainings in worker processes that leave nothing behind."""

import contextlib
import logging
import math
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from project.extensions import load_inherited_extensions
from project.runs.saving.platform_differences import usable_cores
from project.settings import Settings

QUIET = {"trainer.logger": False, "trainer.enable_progress_bar": False}
"""What a trial leaves out: nobody reads its curves."""


class TrialWorkers:
    """Processes that train one trial after the other, so that only the first waits until torch is loaded.

    They end with the `with` block, however it is left.

    Args:
        count: How many train at the same time, each with its share of the processor's cores.
        limit: At this time of `time.monotonic` trials in progress are given up, and the processes end.
    """

    def __init__(self, count: int, limit: float = math.inf) -> None:
        self._threads = max(1, usable_cores() // count)
        self._limit = limit
        self._workers: dict[Connection[Any, Any], SpawnProcess] = {}
        for _ in range(count):
            self._start()

    def __enter__(self) -> "TrialWorkers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._threads), daemon=True)
        process.start()
        theirs.close()
        self._workers[ours] = process

    def stop(self) -> None:
        """End all processes now."""
        for process in self._workers.values():
            process.kill()
        for connection, process in self._workers.items():
            process.join()
            connection.close()
        self._workers = {}

    def run(self, trials: Sequence[Settings], until: float = math.inf) -> Iterator[tuple[int, dict[str, Any]]]:
        """Train and score each of some settings once; give the results in the order in which they are ready.

        Args:
            trials: For each trial the run's settings by their flags' names.
            until: After this time of `time.monotonic` no further trial is started.

        Yields:
            The trial's position in `trials`, and what `run_trial` returns for it.
        """
        waiting, busy = deque(enumerate(trials)), dict["Connection[Any, Any]", int]()
        try:
            while True:
                for connection in self._workers.keys() - busy.keys():
                    if waiting and time.monotonic() < until:
                        busy[connection], settings = waiting.popleft()
                        with contextlib.suppress(OSError):  # of a process that has ended: it is noticed below
                            connection.send(settings)
                if not busy:
                    return
                left = None if self._limit == math.inf else max(self._limit - time.monotonic(), 0.0)
                ready = wait(list(busy), left)
                if not ready:
                    return
                for connection in [connection for connection in busy if connection in ready]:
                    number = busy.pop(connection)
                    try:
                        result = connection.recv()
                    except (EOFError, OSError):  # killed, perhaps because the memory was full
                        self._workers.pop(connection).join()
                        self._start()
                        result = {"status": "failed", "error": "its process was killed"}
                    yield number, result
        finally:
            if busy:
                self.stop()


def run_trials(trials: Sequence[Settings], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run trials in processes of their own, which end afterwards; see `TrialWorkers.run`."""
    with TrialWorkers(workers) as processes:
        yield from processes.run(trials)


def _work(connection: "Connection[Any, Any]", threads: int) -> None:
    """Train what comes through the connection, until it is closed or the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too, but its parent ends it
    _end_with_parent_process()
    load_inherited_extensions()
    _prepare(threads)
    while True:
        try:
            settings = connection.recv()
        except EOFError:
            return
        connection.send(run_trial(settings))


def _end_with_parent_process() -> None:
    """Let this process, which multiprocessing started, end as soon as the one that started it does."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _prepare(threads: int) -> None:
    import torch

    from project.runs.command import setup_console

    torch.set_num_threads(threads)
    setup_console()
    logging.getLogger("project").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")  # they are about settings that the run itself has warned of


def run_trial(settings: Settings) -> dict[str, Any]:
    """Train and score once in this process.

    Returns:
        The content of metrics.json, with the `evidence` of a diagnosed run, the last epoch's train/…, `examples` (of
        the training split), `guessing` (the accuracy of guessing, or the rmse of always predicting the mean) and the
        `seconds` that all of it took. A trial that failed has the status `failed` and the reason under `error`.
    """
    # imported late: whoever only lists trials does not wait for Lightning
    from project.errors import DivergenceError, InputError, RunError
    from project.runs.build import build_run
    from project.runs.parser import settings_of
    from project.runs.saving.files import read_json
    from project.runs.train import train
    from project.settings import nest
    from project.studies.running.study_run import shared_datamodule

    started, about = time.monotonic(), dict[str, Any]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            checked = settings_of(nest(settings | QUIET))
            run = build_run(checked, datamodule=shared_datamodule(checked), folder=Path(folder))
            spec = run.datamodule.spec
            about["examples"] = len(run.datamodule.splits["train"])
            about["guessing"] = 1 / len(spec.class_names) if spec.class_names else spec.target_sd
            metrics = train(run) | {"evidence": read_json(Path(folder) / "evidence.json")}
            last = run.module.history[-1] if run.module.history else {}
            metrics |= {name: value for name, value in last.items() if name.startswith("train/")}
        except DivergenceError:
            metrics = read_json(Path(folder) / "metrics.json")
            metrics["evidence"] = read_json(Path(folder) / "evidence.json")
        except (InputError, RunError) as error:
            metrics = {"status": "failed", "error": error.cause}
        except Exception as error:  # one trial that cannot be run must not end the others
            metrics = {"status": "failed", "error": f"{type(error).__name__}: {error}"[:300]}
    return metrics | about | {"seconds": time.monotonic() - started}
