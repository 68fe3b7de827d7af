"""What happens beside the training loop: the progress bar, one line per epoch, and the clock."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, LearningRateFinder, Timer, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from project.errors import InputError
from project.training.internals import range_test
from project.training.module import ImageModule

log = logging.getLogger("project")

FINISHED = ("completed", "early_stopped", "out_of_time")
"""The statuses of a run whose training came to an end and whose network was tested."""


class ProgressBar(TQDMProgressBar):
    """One bar for the whole epoch with the loss and accuracies so far; validation and test show none."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = ("train/loss_step", "train/accuracy", "validation/accuracy", "validation/rmse")
        values = {name: value for name, value in trainer.callback_metrics.items() if name in shown}
        return {name: f"{float(value):.4f}" for name, value in values.items()}

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    init_test_tqdm = init_validation_tqdm


class Threads(Callback):
    """The number of threads that a process computes with. Lightning, when it starts several, sets another number.

    Args:
        number: Of this process.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        torch.set_num_threads(self.number)


class EarlyStop(EarlyStopping):
    """Lightning's early stopping; a resumed run uses its own patience, and knows whether it had stopped already."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class LearningRateSearch(Callback):
    """Lightning's LearningRateFinder, so that the run is the one that `model.learning_rate` would have given.

    Lightning sets the rate in the optimizer alone, where the schedule overwrites it after a step. Here the optimizer
    and its schedule are made anew from the module's settings. A resumed run has its rate already.

    Args:
        finder: It does the range test, before the first step.
        take: Called with the learning rate that it chose.

    Raises:
        InputError: If the losses of the range test name no learning rate.
    """

    def __init__(self, finder: LearningRateFinder, take: Callable[[float], None]) -> None:
        self.finder, self.take = finder, take

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.ckpt_path is not None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        module = cast(ImageModule, pl_module)
        found = range_test(self.finder, trainer, module)
        if found is None:
            raise InputError(
                "the range test of LearningRateFinder names no learning rate: the loss never fell steadily",
                "leave the callback out, or give it more steps: --trainer.callbacks.num_training_steps 200",
            )
        module.settings = replace(module.settings, learning_rate=found)
        trainer.strategy.setup_optimizers(trainer)
        self.take(found)


def how_it_ended(trainer: Trainer, module: ImageModule) -> Literal["completed", "early_stopped", "out_of_time"]:
    """Why the training ended: after its last step, because nothing improved, or by a limit on time.

    The limit is trainer.max_time's, or that of a Timer among the callbacks.
    """
    if _stopped_early(trainer, module):
        return "early_stopped"
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    left = [seconds for timer in timers if (seconds := timer.time_remaining()) is not None]
    if any(seconds <= 0 for seconds in left) and trainer.global_step < module.num_steps:
        return "out_of_time"
    return "completed"


def _stopped_early(trainer: Trainer, module: ImageModule) -> bool:
    """Whether the training ended before its last epoch because the monitored value did not improve."""
    waited = any(
        callback.wait_count >= callback.patience
        for callback in trainer.early_stopping_callbacks
        if isinstance(callback, EarlyStopping)
    )
    return waited and len(module.history) < (trainer.max_epochs or 0)


class EpochLog(Callback):
    """Measure how long training takes, over all its resumptions, and log one line per epoch.

    A line appears when the next epoch starts, because only then are all values of an epoch known.
    """

    def __init__(self) -> None:
        self.num_reported = 0
        self.begun = self.ended = False
        self._seconds_before = 0.0  # of training, up to the checkpoint that was resumed
        self._started: float | None = None

    @property
    def train_seconds(self) -> float:
        """Seconds of training so far, without those that a crash lost."""
        return self._seconds_before + (time.monotonic() - self._started if self._started is not None else 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {"train_seconds": self.train_seconds, "num_reported": self.num_reported}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds_before, self.num_reported = state_dict["train_seconds"], state_dict["num_reported"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begun = True
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begun = self.ended = True
        self.stop()
        self._report(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the clock."""
        self._seconds_before, self._started = self.train_seconds, None

    def _report(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ImageModule)
        for record in pl_module.history[self.num_reported :]:
            values = ", ".join(f"{name} {value:.4f}" for name, value in record.items() if "/" in name)
            log.info("epoch %d of %s: %s", record["epoch"] + 1, trainer.max_epochs, values)
        self.num_reported = len(pl_module.history)
