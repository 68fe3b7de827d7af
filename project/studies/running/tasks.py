"""What a worker does. This module imports no torch: a study's own process, which names these functions, has none."""

import errno
import logging
import os
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distributed import get_worker

from project.errors import InputError, RunError
from project.extensions import load_named_extensions
from project.runs.command import setup_console
from project.settings import Settings
from project.studies.running.checks import check_settings
from project.studies.running.cluster import DISK
from project.studies.study import Study

_one_at_a_time = threading.Lock()
"""A cluster's worker may have several threads, but torch's random numbers belong to the process."""


def train_one(
    settings: Settings, folder: Path, extensions: Sequence[str], trial: tuple[int, str] | None = None
) -> dict[str, Any]:
    """Train and score once; return what a `RunRecord` keeps of it, with the reason if the run failed.

    Args:
        settings: The run's settings by the names of their flags.
        folder: The run folder is created here.
        extensions: The flags that load the extensions.
        trial: For a trial of a search its number, and the metric that it reports after each epoch.
    """

    def execute() -> dict[str, Any]:
        from project.studies.running.study_run import EpochReport, execute  # with torch

        return execute(settings, folder, [EpochReport(*trial)] if trial else [])

    return _attempt(execute, extensions)


def refusal(study: Study, extensions: Sequence[str]) -> dict[str, Any]:
    """The `cause` and the `remedy` if a study has a wrong setting of the Trainer; empty if it has none."""

    def check() -> dict[str, Any]:
        try:
            check_settings(study, with_trainer=True)
        except InputError as error:
            return {"cause": error.cause, "remedy": error.remedy}
        return {}

    return _attempt(check, extensions)


def data_of(settings: Settings, extensions: Sequence[str]) -> dict[str, Any]:
    """The SHA-256 of the data files that these settings name, under `sha256`."""

    def load() -> dict[str, Any]:
        from project.runs.parser import settings_of
        from project.settings import nest
        from project.studies.running.study_run import shared_datamodule

        datamodule = shared_datamodule(settings_of(nest(settings)))
        datamodule.prepare_data()
        datamodule.setup("fit")
        return {"sha256": datamodule.data.sha256}

    return _attempt(load, extensions)


def _attempt(act: Callable[[], dict[str, Any]], extensions: Sequence[str]) -> dict[str, Any]:
    """Do something in this worker, alone; an error, which must not end the study, becomes the result."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each run's log file has what is said of the run
        try:
            _prepare(extensions)
            return act()
        except Exception as error:
            if disk := _disk_error(error):
                return {DISK: disk}
            if isinstance(error, InputError | RunError):
                return {"status": "failed", "error": f"{error.cause} ({error.remedy})"}
            return {"status": "failed", "error": "".join(traceback.format_exception(error))[-4000:]}


def _disk_error(error: BaseException | None) -> str:
    """What the system says of the disk, if that is why something failed, or empty."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
        error = error.__cause__ or error.__context__
    return ""


def _prepare(extensions: Sequence[str]) -> None:
    setup_console()
    for handler in logging.getLogger("project").handlers:
        if type(handler) is logging.StreamHandler:
            handler.setLevel(logging.CRITICAL)  # the console shows the study's progress
    load_named_extensions(extensions)
    import torch

    number, gpus = get_worker().name, torch.cuda.device_count()
    if isinstance(number, int) and gpus > 1:  # a worker of this machine takes the next GPU
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(number % gpus))
