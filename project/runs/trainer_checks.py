"""Trainer settings that Lightning accepts and that then fail in the middle of a run."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    Timer,
)
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from project.data.datamodule import ImageDataModule
from project.data.loaders import EVALUATION_SHARDS
from project.errors import InputError, RunError, check_in_range
from project.runs.saving.signals import Interrupted

LAUNCHED = {"TORCHELASTIC_RUN_ID", "NODE_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "LSB_JOBID"}
"""Of these there is at least one in the environment of a process that was started on several machines."""


REFUSED_CALLBACKS: dict[type[Callback], tuple[str, str]] = {
    BatchSizeFinder: (
        "BatchSizeFinder looks for the largest batch that fits into memory, but data.batch_size decides what a network "
        "learns",
        "leave it out, and choose for example --data.batch_size 1024: the data are in memory already",
    ),
    GradientAccumulationScheduler: (
        "GradientAccumulationScheduler changes during the training how many examples a step sees, but that is "
        "data.batch_size from the first step to the last",
        "leave it out; --trainer.accumulate_grad_batches 4 makes each step of 4 smaller batches",
    ),
    StochasticWeightAveraging: (
        "StochasticWeightAveraging has its average only after the last validation, which is too late for choosing the "
        "best epoch, and a resumed run would have another one",
        "average the weights with --trainer.callbacks+=EMAWeightAveraging, and type --model.schedule constant for an "
        "even learning rate",
    ),
}
"""Callbacks that contradict what a run is, each with cause and remedy."""
SETUP_ERRORS = (MisconfigurationException, ImportError)
"""What Lightning and its callbacks raise where a setting does not fit, or a package is missing."""
VALUE_ERRORS = (ArithmeticError, TypeError, ValueError, RuntimeError)
"""What Lightning raises where a value is of the right type and makes no sense."""
MAX_DEVICES = 10_000
"""The largest number of devices of one machine with which a training is tried."""


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Refuse callbacks that contradict what a run is, and a limit on time that leaves none.

    Raises:
        InputError: With what does the same for a run.
    """
    for callback in callbacks:
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            raise InputError(
                "the limit on time (trainer.max_time, or a Timer's duration) is 0: nothing would be trained",
                "type for example --trainer.max_time 00:01:00:00 for an hour",
            )
        for kind, (cause, remedy) in REFUSED_CALLBACKS.items():
            if isinstance(callback, kind):
                raise InputError(cause, remedy)


def check_trainer_settings(settings: Mapping[str, Any], validated: bool) -> None:
    """Refuse what Lightning accepts and then does nothing with, or fails with in the middle of a run.

    Args:
        settings: Of the Trainer.
        validated: Whether there is a validation split.
    """
    lowest = {
        "accumulate_grad_batches": 1,
        "check_val_every_n_epoch": 1,
        "gradient_clip_val": 0,
        "log_every_n_steps": 0,
    }
    for name, bound in lowest.items():
        value = settings.get(name)
        if value is not None and not value >= bound:  # not a number is neither
            raise InputError(
                f"trainer.{name} is {value}, but must be {bound} or more",
                f"type for example --trainer.{name} {max(bound, 1)}, or leave it out",
            )
    for kind in ("epochs", "steps"):
        fewest, most = settings.get(f"min_{kind}"), settings.get(f"max_{kind}")
        check_in_range(f"trainer.min_{kind}", fewest, 0, "1, or leave it out")
        if fewest and most and 0 < most < fewest:
            raise InputError(
                f"trainer.min_{kind} is {fewest}, but trainer.max_{kind} is {most}",
                f"type --trainer.max_{kind} {fewest}, or leave --trainer.min_{kind} out",
            )
    for name in ("max_epochs", "max_steps", "limit_train_batches", "limit_test_batches"):
        if settings.get(name) == 0:
            what = "tested" if "test" in name else "trained"
            raise InputError(
                f"trainer.{name} is 0: nothing would be {what}", f"leave --trainer.{name} out, or raise it"
            )
    devices = str(settings.get("devices"))
    if devices.isdecimal():
        check_in_range("trainer.devices", int(devices), 1, "1", MAX_DEVICES)
    interval, epochs = settings.get("val_check_interval"), settings.get("check_val_every_n_epoch")
    if interval is not None and not re.search("[1-9]", str(interval)):  # also 0.0, and a time of 0 as text or mapping
        raise InputError(
            f"trainer.val_check_interval is {interval}: there is no time between two validations",
            "type for example --trainer.val_check_interval 0.5, or leave it out",
        )
    if validated and epochs and 0 < (settings.get("max_epochs") or 0) < epochs:
        raise InputError(
            f"trainer.check_val_every_n_epoch is {epochs}, but the training has {settings['max_epochs']} epochs, "
            "so that nothing would be validated",
            "type a smaller number, or --data.num_validation 0 to train without validation",
        )
    if settings.get("gradient_clip_algorithm") and settings.get("gradient_clip_val") is None:
        raise InputError(
            f"trainer.gradient_clip_algorithm is {settings['gradient_clip_algorithm']}, but without "
            "trainer.gradient_clip_val nothing is clipped",
            "add for example --trainer.gradient_clip_val 1, or leave it out",
        )
    if settings.get("model_registry") is not None:
        raise InputError(
            "trainer.model_registry names a place on a server, but a run keeps its checkpoints in its folder",
            "leave it out",
        )
    if settings.get("barebones"):
        raise InputError(
            "trainer.barebones is true, but a run needs its callbacks, its checkpoints and its log",
            "leave it out; --diagnostics.enabled false and --trainer.logger false leave out what takes time",
        )
    if (settings.get("num_nodes") or 1) > 1 and not LAUNCHED.intersection(os.environ):
        raise InputError(
            f"trainer.num_nodes is {settings['num_nodes']}, but nothing has started this on several machines",
            "start it with torchrun or SLURM on each of them: configs/trainer shows how",
        )
    if validated and settings.get("limit_val_batches") == 0:
        raise InputError(
            "trainer.limit_val_batches is 0, but there is a validation split, which decides the best epoch",
            "type --data.num_validation 0 to train without validation",
        )
    if settings.get("max_epochs", 1) in (None, -1) and settings.get("max_steps") in (None, -1):
        raise InputError(
            f"trainer.max_epochs is {'null' if settings['max_epochs'] is None else -1}: the training would have no "
            "end, and the schedule needs one",
            "give a number; early stopping (--patience) ends the training before it where nothing improves",
        )


def check_limits(settings: Mapping[str, Any], datamodule: ImageDataModule) -> None:
    """Refuse a share of the batches that is none of them, and a validation or an end that never comes.

    Args:
        settings: Of the Trainer.
        datamodule: Whose batches.
    """
    passes = datamodule.num_steps_per_epoch * (settings.get("accumulate_grad_batches") or 1)
    for split, num_batches in (("train", passes), ("val", EVALUATION_SHARDS), ("test", EVALUATION_SHARDS)):
        share = settings.get(f"limit_{split}_batches")
        if isinstance(share, float) and 0 < share < 1 and int(share * num_batches) == 0:
            raise InputError(
                f"trainer.limit_{split}_batches is {share:g}, which is less than one of {num_batches} batches",
                f"type --trainer.limit_{split}_batches 1 for a single batch, or a share of at least "
                f"{math.ceil(1000 / num_batches) / 1000:g}",
            )
    limit = settings.get("limit_train_batches")
    if limit is not None:  # a whole number is one of batches, any other a share of them
        passes = min(passes, limit) if isinstance(limit, int) else int(passes * limit)
    epochs, interval = settings.get("max_epochs") or -1, settings.get("val_check_interval")
    # without check_val_every_n_epoch, batches are counted over all epochs
    longest = passes if settings.get("check_val_every_n_epoch", 1) is not None else passes * epochs
    if datamodule.settings.is_validated and isinstance(interval, int) and 0 < longest < interval:
        raise InputError(
            f"trainer.val_check_interval is {interval}, but there are only {longest} batches",
            f"type --trainer.val_check_interval {longest} or less, or leave it out",
        )
    fewest = settings.get("min_steps") or 0
    if 0 < datamodule.num_steps_per_epoch * epochs < fewest:
        raise InputError(
            f"trainer.min_steps is {fewest}, but {epochs} epochs have {datamodule.num_steps_per_epoch * epochs} steps",
            "raise --trainer.max_epochs, or leave --trainer.min_steps out",
        )


def check_machine(arguments: Mapping[str, Any]) -> None:
    """Refuse what this machine does not have, and all else that Lightning refuses, before anything is made.

    Args:
        arguments: Of the Trainer, without what writes files: loggers, callbacks, plugins, the profiler.
    """
    quiet: dict[str, Any] = dict.fromkeys(
        ("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    try:
        trainer = Trainer(**{**arguments, **quiet})
    except (*SETUP_ERRORS, *VALUE_ERRORS) as error:
        raise explain_trainer_error(error) from error
    check_callbacks(trainer.callbacks)  # type: ignore[attr-defined]


def explain_trainer_error(error: Exception) -> InputError:
    """What Lightning says of its settings, as cause and remedy."""
    text = " ".join(str(error).split())
    # of an argument that is none of several types, the parser lists what each says: the first is what the class says
    if detail := re.search(r"Errors: - (?:Problem with given class_path '[\w.]+': )?(.*?) - ", text):
        text = detail[1]
    # Lightning's own words where a package is missing, and Python's
    missing = re.search(r"pip install -U '?([\w-]+)|[`']([\w-]+)`? is not installed|No module named '(\w+)", text)
    if missing:
        package = next(name for name in missing.groups() if name)
        return InputError(
            f"{package} is not installed, but a setting of the Trainer needs it",
            f"type pip install {package}, or leave that setting out",
        )
    if "No supported gpu backend" in text or "CUDAAccelerator" in text or "can not run on your system" in text:
        return InputError(
            f"a GPU is asked for, but torch {torch.__version__} sees none on this machine (CPU only)",
            "type --trainer.accelerator cpu, or leave --trainer.accelerator out",
        )
    if "gpu" in text.lower() and "You requested" in text:
        return InputError(text, "type --trainer.devices with a number that this machine has")
    return InputError(text[:500], "fix that trainer setting; --help.trainer lists them")


def explain_failure(
    error: BaseException, folder: Path | None, world_size: int, resumed: Path | None
) -> InputError | RunError | None:
    """A failure of the training that has nothing to do with the program, as cause and remedy; None for any other.

    Args:
        error: What stopped the training.
        folder: The run folder.
        world_size: Number of the run's processes.
        resumed: The checkpoint that was being loaded, if the training had not begun.
    """
    remedy = f"then go on from the last checkpoint with --resume {folder}"
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return RunError(
            f"a file of the run cannot be written: {error.strerror or error}{where}", f"make room, {remedy}"
        )
    if isinstance(error, RuntimeError) and world_size > 1 and "gloo" in str(error).lower():
        return RunError("another process of this run died", f"see what it said, {remedy}")
    if isinstance(error, SETUP_ERRORS):
        return explain_trainer_error(error)
    known = isinstance(error, InputError | RunError | Interrupted) or not isinstance(error, Exception)
    if resumed and not known:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        return InputError(
            f"{resumed} does not fit the run's settings: {reason[0].strip()[:200]}",
            "restore the run's own checkpoint and config.yaml, or start a new run",
        )
    return None
