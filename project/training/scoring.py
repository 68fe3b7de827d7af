"""One split scored as a whole: every example once, whatever the number of processes."""

from typing import cast

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from project.data.loaders import EvaluationLoader
from project.network.optimization.losses import LossFunction
from project.task import DataSpec


class SplitScores:
    """Outputs and targets of a split, collected chunk by chunk in each process and then put together."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self._chunks: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, positions: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Keep one chunk: positions within the split (n,), outputs (n, outputs) and targets (n,)."""
        if self.spec.task == "regression":
            outputs = self.spec.in_target_unit(outputs)
        self._chunks.append((positions, outputs, targets))

    def gather(self, loader: EvaluationLoader, trainer: Trainer, device: torch.device) -> tuple[Tensor, Tensor]:
        """Put together what all processes have scored, in the split's order, and forget the chunks.

        Returns:
            Outputs (n, outputs), for regression in the target's unit, and targets (n,), both on the CPU.
        """
        columns = self.spec.num_outputs
        table = torch.zeros(len(loader.indices), columns + 2, device=device)
        for positions, outputs, targets in self._chunks:
            rows = positions.to(device)
            table[rows, :columns] = outputs
            table[rows, columns] = targets.to(table.dtype)
            table[rows, columns + 1] = 1.0
        self._chunks.clear()
        # each row was filled by one process and is 0 in the others: the sum is exact
        table = cast(Tensor, trainer.strategy.reduce(table, reduce_op="sum"))
        table = table[table[:, columns + 1] > 0].cpu()  # rows are missing where Trainer limits cut the evaluation short
        targets = table[:, columns]
        return table[:, :columns], targets if self.spec.task == "regression" else targets.long()

    def mean_loss(self, loss: LossFunction, outputs: Tensor, targets: Tensor) -> float:
        """The mean loss over the examples that `gather` returned."""
        if self.spec.task == "regression":
            return float(loss(self.spec.standardized(outputs), self.spec.standardized(targets)))
        return float(loss(outputs.double(), targets))
