"""The results of each epoch: sums over the batches of the current epoch, and one record for every epoch that ended."""

import math
from typing import Any, cast

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from project.task import TaskName, score_name


class EpochRecord:
    """Loss and score of the training, added up on the device: nothing is read back before the epoch's end.

    Attributes:
        history: One record per epoch: `epoch`, `steps` and that epoch's train/… and validation/… values.
        sums: The sums of the batches' losses and scores in the current epoch, float64 (2,).
        validation: The results of the validation in the current epoch.
    """

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []
        self.sums = torch.zeros(2, dtype=torch.float64)
        self.validation: dict[str, float] = {}
        self._num_batches = 0

    def start_epoch(self, device: torch.device) -> None:
        # Apple's GPU has no float64
        self.sums = torch.zeros(2, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        self._num_batches = 0
        self.validation = {}

    def add_batch(self, loss: Tensor, score: Tensor) -> None:
        """Add a batch's loss and score, both scalars: accuracy, or mean squared error in the target's unit."""
        self.sums += torch.stack((loss.detach(), score))
        self._num_batches += 1

    def finish_epoch(self, trainer: Trainer, task: TaskName) -> dict[str, float]:
        """Add the epoch's record to `history` and return its train/… values, the same on every process."""
        sums = trainer.strategy.reduce(self.sums.clone(), reduce_op="mean")
        loss, mean_score = (cast(Tensor, sums) / max(self._num_batches, 1)).tolist()
        if task == "regression":
            mean_score = math.sqrt(mean_score)
        values = {"train/loss": loss, f"train/{score_name(task)}": mean_score}
        record = {"epoch": float(trainer.current_epoch), "steps": float(trainer.global_step)}
        self.history.append(record | values | self.validation)
        return values

    def state(self, world_size: int) -> dict[str, Any]:
        """Plain data for a checkpoint, with each process's own sums: another order of adding changes last digits."""
        sums = [torch.empty_like(self.sums) for _ in range(world_size)]
        if world_size > 1:
            torch.distributed.all_gather(sums, self.sums)
        else:
            sums = [self.sums]
        return {
            "history": self.history,
            "epoch_sums": torch.stack(sums).cpu(),
            "epoch_batches": self._num_batches,
            "epoch_validation": self.validation,
        }

    def load(self, checkpoint: dict[str, Any], trainer: Trainer, device: torch.device) -> None:
        """Continue from what `state` saved, also with another number of processes."""
        sums = checkpoint["epoch_sums"]
        if len(sums) != trainer.world_size:  # each process takes an equal part
            sums = sums.mean(0).expand(trainer.world_size, 2)
        self.sums = sums[trainer.global_rank].clone().to(device)
        self.history, self._num_batches = checkpoint["history"], checkpoint["epoch_batches"]
        self.validation = checkpoint["epoch_validation"]
