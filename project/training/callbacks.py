"""What happens beside the training loop: the progress bar, one line per epoch, and the clock."""

import logging
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from project.training.module import ImageModule

log = logging.getLogger("project")


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


class EarlyStop(EarlyStopping):
    """Lightning's early stopping; a resumed run uses its own patience, and knows whether it had stopped already."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def stopped_early(trainer: Trainer, module: ImageModule) -> bool:
    """Whether the training ended before its last epoch because the monitored value did not improve.

    A limit on time or steps also stops a training, but that is not early stopping.
    """
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
