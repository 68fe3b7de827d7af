"""From a run's settings to its parts: data, network, Trainer and run folder."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import LearningRateFinder
from pytorch_lightning.callbacks import ProgressBar as ProgressBarBase
from pytorch_lightning.loggers import TensorBoardLogger

from project.data.datamodule import ImageDataModule
from project.diagnosis.observers import Observers, build_observers
from project.errors import InputError
from project.network.layers import num_products
from project.network.norms import NORMS
from project.runs.command import check_launcher, ignore_known_warnings, is_first_process
from project.runs.parser import settings_of, trainer_arguments
from project.runs.saving.checkpointing import PlainCheckpointIO, RunCheckpoint
from project.runs.saving.files import write_text
from project.runs.saving.platform_differences import usable_cores
from project.runs.saving.resumption import Resumption, check_same_data, find_resumption
from project.runs.saving.run_folder import claim_run_folder
from project.runs.settings import RunSettings
from project.runs.tables import Described, run_facts
from project.runs.trainer_checks import (
    SETUP_ERRORS,
    VALUE_ERRORS,
    check_callbacks,
    check_limits,
    check_machine,
    check_trainer_settings,
    explain_trainer_error,
)
from project.settings import as_list, flatten
from project.threads import auto_threads
from project.training.callbacks import EarlyStop, EpochLog, LearningRateSearch, ProgressBar, Threads
from project.training.internals import NoProfiler, prepare_logger, quieten_lightning
from project.training.module import ImageModule

log = logging.getLogger("project")


@dataclass(eq=False, repr=False)
class Run(Described):
    """A run that is ready to be trained.

    Args:
        settings: What decides it.
        datamodule: Its data.
        module: Its network.
        folder: Where it is kept; None for a trial that leaves nothing (trainer.fast_dev_run).
        resumption: The run that it goes on with, if any.
        observers: What looks inside it while it trains; None if that is switched off.
        checkpoint: What saves it; None if that is switched off.
        epoch_log: Its clock, and the line per epoch.
        metrics: The content of metrics.json; empty before the training ends.
        unlock: Lets others train in the folder again; the run's training, or its end, calls it.
        num_threads: The threads that each of its processes computes with on the CPU.
    """

    settings: RunSettings
    datamodule: ImageDataModule
    module: ImageModule
    folder: Path | None = None
    resumption: Resumption | None = None
    observers: Observers | None = None
    checkpoint: RunCheckpoint | None = None
    epoch_log: EpochLog = field(default_factory=EpochLog)
    metrics: dict[str, Any] = field(default_factory=dict)
    unlock: Callable[[], object] = lambda: None
    trainer: Trainer = field(init=False)
    num_threads: int = field(init=False)

    def facts(self) -> dict[str, str]:
        verdict = self.metrics.get("verdict", "not trained yet")
        return run_facts(self.module, self.settings.data.dataset, self.folder, verdict)


def build_run(
    settings: RunSettings | Mapping[str, Any],
    *,
    datamodule: ImageDataModule | None = None,
    folder: Path | None = None,
) -> Run:
    """Make everything that a run's settings describe, and its folder.

    Args:
        settings: All of them, or what differs from the defaults as nested plain data: {"model": {"depth": 3}}.
        datamodule: Data that are loaded already, in place of those that the settings describe.
        folder: An existing, empty folder for the run, in place of RUN_ROOT/DATASET/RUN_NAME.

    Raises:
        InputError: If the settings, the data and the machine do not fit together.
    """
    settings = settings if isinstance(settings, RunSettings) else settings_of(settings)
    check_launcher()
    quieten_lightning()
    ignore_known_warnings()
    seed_everything(settings.seed_everything, workers=True, verbose=False)
    # before the data are fetched, the network is made, or a folder
    check_trainer_settings(settings.trainer, validated=settings.data.is_validated)
    plain = {
        name: value for name, value in settings.trainer.items() if name not in ("callbacks", "plugins", "profiler")
    }
    check_machine(trainer_arguments(replace(settings, trainer=plain), None))
    datamodule = datamodule or ImageDataModule(settings.data, task=settings.model.task, seed=settings.seed_everything)
    # a number in place of auto: what is saved says what was done
    settings = replace(settings, data=replace(settings.data, num_validation=datamodule.num_validation))
    run = Run(settings, datamodule, ImageModule(datamodule.spec, datamodule.normalization, settings.model))
    batch_norm = NORMS[settings.model.norm].over == "examples"
    datamodule.check_batches(batch_norm=batch_norm)
    check_limits(settings.trainer, datamodule)
    if settings.resume not in (None, "auto"):
        run.resumption = find_resumption(Path(str(settings.resume)))
    if not settings.trainer.get("fast_dev_run"):
        if run.resumption:
            check_same_data(run.resumption.folder, datamodule)
        if folder:
            run.folder = folder
        else:
            try:
                run.folder, run.unlock = claim_run_folder(settings, run.resumption, owner=run)
            except OSError as error:
                raise InputError(
                    f"the run folder cannot be written: {error.strerror} ({error.filename})",
                    "make it writable, or go on with a copy of it",
                ) from None
    try:
        arguments = trainer_arguments(settings, run.folder)
        callbacks = _callbacks(run, arguments)
        run.trainer = _build_trainer(arguments, callbacks)
        run.num_threads = _num_threads(run)
        run.trainer.callbacks.insert(0, Threads(run.num_threads))  # type: ignore[attr-defined] # set by Lightning
        # only now is it known how many processes share a batch
        datamodule.check_batches(run.trainer.world_size, run.trainer.accumulate_grad_batches, batch_norm)
    except (*SETUP_ERRORS, *VALUE_ERRORS) as error:
        run.unlock()  # Windows removes no folder that has an open file in it
        if run.folder is not None and run.resumption is None and is_first_process():
            shutil.rmtree(run.folder)
        raise error if isinstance(error, InputError) else explain_trainer_error(error) from error
    return run


def _num_threads(run: Run) -> int:
    """The threads of each process: those that a resumed run had, those that were typed, or what suits the network."""
    if run.resumption and run.resumption.threads:
        return run.resumption.threads
    if run.settings.threads != "auto":
        return run.settings.threads
    num_processes = run.trainer.num_devices if run.trainer.strategy.root_device.type == "cpu" else 1
    products = num_products(run.module.network, run.module.spec.num_features)
    return auto_threads(products * run.settings.data.batch_size, usable_cores(), num_processes)


def _callbacks(run: Run, arguments: dict[str, Any]) -> list[Callback]:
    """Make the callbacks and the logger that the settings ask for; the Trainer's arguments get what belongs to them."""
    settings, monitor = run.settings, run.settings.watched
    if not settings.data.is_validated:
        arguments["limit_val_batches"] = 0
        if monitor != settings.monitor:
            log.warning("data.num_validation is 0: no validation, so %s decides the best epoch", monitor)
    mode: Literal["min", "max"] = "max" if monitor.endswith("accuracy") else "min"
    given = arguments["callbacks"] = as_list(arguments.get("callbacks"))
    check_callbacks(given)
    callbacks: list[Callback] = [run.epoch_log]
    own_bar = any(isinstance(callback, ProgressBarBase) for callback in given)
    shown = arguments.get("enable_progress_bar") is not False and (own_bar or sys.stderr.isatty())
    arguments["enable_progress_bar"] = shown
    if shown and not own_bar:
        callbacks.append(ProgressBar())
    arguments["profiler"] = arguments.get("profiler") or NoProfiler()
    if run.folder is None:
        return callbacks
    # for what Lightning and its callbacks write by themselves
    arguments["default_root_dir"] = arguments.get("default_root_dir") or str(run.folder)
    arguments["callbacks"] = [
        LearningRateSearch(callback, partial(_take_learning_rate, run))
        if isinstance(callback, LearningRateFinder)
        else callback
        for callback in given
    ]
    if arguments.get("logger") in (None, True):
        arguments["logger"] = TensorBoardLogger(
            str(run.folder.parent), name="", version=run.folder.name, default_hp_metric=False
        )
    if is_first_process():
        for logger in as_list(arguments["logger"] or None):
            prepare_logger(logger, run.resumption.step if run.resumption else None)
    if settings.patience:
        # asked where its number is made: an epoch that max_steps cuts short has no validation
        at_epoch_end = monitor.startswith("train/")
        callbacks.append(
            EarlyStop(monitor=monitor, mode=mode, patience=settings.patience, check_on_train_epoch_end=at_epoch_end)
        )
    if settings.diagnostics.enabled:
        run.observers = build_observers(flatten(settings.as_dict()), settings.diagnostics.every_n_steps, run.folder)
        callbacks += run.observers.callbacks
    if arguments.get("enable_checkpointing") is not False:
        every = settings.checkpoint_every_n_steps
        run.checkpoint = RunCheckpoint(run.folder / "checkpoints", monitor, mode, every)
        callbacks.append(run.checkpoint)
        arguments["plugins"] = [*as_list(arguments.get("plugins")), PlainCheckpointIO(run.folder)]
    return callbacks


def _take_learning_rate(run: Run, learning_rate: float) -> None:
    """Write down the learning rate that was searched for before the first step, as if it had been given."""
    run.settings = replace(run.settings, model=replace(run.settings.model, learning_rate=learning_rate))
    log.info("the range test chose --model.learning_rate %g", learning_rate)
    if run.folder is not None and is_first_process():
        write_text(run.folder / "config.yaml", run.settings.as_yaml())


def _build_trainer(arguments: dict[str, Any], callbacks: list[Callback]) -> Trainer:
    if not torch.cuda.is_available():
        # Lightning has torch look for a GPU driver on disk at every step of Adam, 65 µs each: once was enough
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    return Trainer(**{**arguments, "callbacks": [*arguments["callbacks"], *callbacks]})
