"""What happens beside the training loop: the progress bar, one line per epoch, and the clock."""

import logging
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from project.module import MLPModule

log = logging.getLogger("project")


class ProgressBar(TQDMProgressBar):
    """One bar for the whole epoch with the loss and accuracies so far; validation has none of its own."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = ("train/loss_step", "train/accuracy", "validation/accuracy", "validation/rmse")
        values = {name: value for name, value in trainer.callback_metrics.items() if name in shown}
        return {name: f"{float(value):.4f}" for name, value in values.items()}

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def init_test_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)


class EpochLog(Callback):
    """Measure how long training takes, and log one line per epoch.

    A line appears when the next epoch starts: only then have all parts of an epoch said what they found.
    """

    def __init__(self) -> None:
        self.num_reported = 0
        self.train_seconds = 0.0
        self.num_steps = 0
        self.num_examples = 0
        self._started = 0.0
        self._steps_at_start = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MLPModule)
        self.num_reported = len(pl_module.history)
        self._started, self._steps_at_start = time.monotonic(), trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train_seconds = time.monotonic() - self._started
        batch_size = getattr(trainer, "datamodule").batch_size  # noqa: B009 - the attribute is Lightning's, set at run time
        self.num_steps = trainer.global_step
        self.num_examples = (self.num_steps - self._steps_at_start) * batch_size
        self._report(trainer, pl_module)

    def _report(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MLPModule)
        for record in pl_module.history[self.num_reported :]:
            values = ", ".join(f"{name} {value:.4f}" for name, value in record.items() if "/" in name)
            log.info("epoch %d of %s: %s", record["epoch"] + 1, trainer.max_epochs, values)
        self.num_reported = len(pl_module.history)
