"""Run these settings, and give me each result: short trainings in worker processes that leave nothing behind."""

import logging
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from project.settings import Settings

QUIET = {"trainer.logger": False, "trainer.enable_checkpointing": False, "trainer.enable_progress_bar": False}
"""What a trial leaves out: nobody reads its curves, and it is never resumed."""


def run_trials(trials: Sequence[Settings], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Train and score each of some settings once; give the results in the order in which they are ready.

    Args:
        trials: For each trial the run's settings by their flags' names.
        workers: The number of processes that train at the same time, each with its share of the processor's cores.

    Yields:
        The trial's position in `trials`, and the content of its metrics.json. A trial that failed has the status
        `failed` and the reason under `error`.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(threads,)) as pool:
        futures = {pool.submit(run_trial, settings): number for number, settings in enumerate(trials)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start_worker(threads: int) -> None:
    import torch

    from project.runs.command import setup_console

    torch.set_num_threads(threads)
    setup_console()
    logging.getLogger("project").setLevel(logging.CRITICAL)


def run_trial(settings: Settings) -> dict[str, Any]:
    """Train and score once in this process; see `run_trials`."""
    # imported late: whoever only lists trials does not wait for Lightning
    from project.errors import DivergenceError, InputError, RunError
    from project.runs.build import build_run
    from project.runs.parser import settings_of
    from project.runs.saving.files import read_json
    from project.runs.train import train
    from project.settings import nest
    from project.studies.running.study_run import shared_datamodule

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            checked = settings_of(nest(QUIET | settings))
            run = build_run(checked, datamodule=shared_datamodule(checked), folder=Path(folder))
            return train(run) | {"evidence": read_json(Path(folder) / "evidence.json")}
        except DivergenceError:
            return read_json(Path(folder) / "metrics.json")
        except (InputError, RunError) as error:
            return {"status": "failed", "error": error.cause}
