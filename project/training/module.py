"""The LightningModule: training and evaluation steps, metrics, optimizer and schedule."""

import dataclasses
import math
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from project.data.augmentation import Batch
from project.data.datamodule import ImageDataModule
from project.data.loaders import EvaluationLoader
from project.data.normalization import Normalization
from project.errors import InputError
from project.network.activations import ActivationName
from project.network.initializers import InitName
from project.network.losses import LossName, build_loss
from project.network.mlp import MLP, HiddenLayer
from project.network.norms import NormName
from project.network.optimization.optimizers import OptimizerName, build_optimizer
from project.network.optimization.schedules import ScheduleName, learning_rate_factor
from project.task import DataSpec, TaskName, decide, score_name
from project.training.metrics import evaluation_metrics, score

MOST_UNITS = 10_000_000
"""Layers, or units in a layer, beyond which a network is not even tried."""


class MLPModule(LightningModule):
    """A multilayer perceptron with its loss, its optimizer and the normalization of its data.

    Args:
        spec: What the data look like; taken from the data.
        normalization: Fitted on the training split; taken from the data, kept with the weights.
        task: multiclass; binary (one output, needs data.classes); regression (one output, see data.target).
        depth: Number of hidden layers; 0 is softmax (logistic, linear) regression.
        width: Units per hidden layer: one number, or a list with one for each layer.
        activation: Activation of the hidden layers.
        activation_parameter: Slope of leaky_relu and prelu, α of elu, β of swish and softplus; its usual value if null.
        init: Initial weights; auto suits the activation: xavier_uniform, kaiming_normal or lecun_normal.
        init_scale: Factor on every initial weight.
        init_bias: Initial bias of the hidden units.
        norm: Normalization between linear map and activation.
        dropout: Share of hidden outputs dropped while training, in [0, 1).
        loss: Loss on the logits; auto is cross_entropy, binary_cross_entropy or mse by task.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        huber_delta: Where Huber's loss turns from square to linear, in sd of the target for regression.
        optimizer: sgd, with momentum or nesterov; the adaptive ones; muon for hidden weights with adamw for the rest.
        learning_rate: The highest that the schedule reaches.
        momentum: Of momentum, nesterov, rmsprop and muon; first beta of the Adam family.
        weight_decay: On weights alone, never on biases or norm parameters.
        schedule: Learning rate over the whole training; step means by epoch.
        warmup_fraction: Share of the steps in which the rate first rises to where the schedule starts, in [0, 1).
        compile: Compile the network with torch.compile.
    """

    def __init__(
        self,
        spec: DataSpec,
        normalization: Normalization,
        task: TaskName = "multiclass",
        depth: int = 2,
        width: int | list[int] = 512,
        activation: ActivationName = "relu",
        activation_parameter: float | None = None,
        init: InitName = "auto",
        init_scale: float = 1.0,
        init_bias: float = 0.0,
        norm: NormName = "batch",
        dropout: float = 0.2,
        loss: LossName = "auto",
        label_smoothing: float = 0.0,
        huber_delta: float = 1.0,
        optimizer: OptimizerName = "adamw",
        learning_rate: float = 0.004,
        momentum: float = 0.9,
        weight_decay: float = 0.05,
        schedule: ScheduleName = "one_cycle",
        warmup_fraction: float = 0.0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= warmup_fraction < 1:
            raise InputError(
                f"model.warmup_fraction is {warmup_fraction:g}, but must be at least 0 and less than 1",
                "type for example --model.warmup_fraction 0.1",
            )
        self.spec, self.task = spec, task
        self.normalization = normalization
        too_large = InputError(
            f"a network of model.depth {depth} and model.width {width} does not fit into memory",
            "make one of the two smaller",
        )
        if max([depth, *(width if isinstance(width, list) else [width])]) > MOST_UNITS:
            raise too_large
        try:
            self.mlp = MLP(
                spec.height * spec.width,
                spec.num_outputs,
                depth=depth,
                width=width,
                activation=activation,
                activation_parameter=activation_parameter,
                init=init,
                init_scale=init_scale,
                init_bias=init_bias,
                norm=norm,
                dropout=dropout,
            )
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise too_large from error
        self.loss = build_loss(loss, task, label_smoothing, huber_delta)
        self.optimizer_name, self.learning_rate, self.momentum = optimizer, learning_rate, momentum
        self.weight_decay, self.schedule, self.warmup_fraction = weight_decay, schedule, warmup_fraction
        # the settings are checked now, not after the first epoch's data have been loaded
        self._build_optimizer(fused=False)
        if compile:
            self.mlp.compile()
        self.history: list[dict[str, float]] = []
        """One record per epoch: epoch, steps and that epoch's train/… and validation/… values."""
        self._epoch_sums = torch.zeros(2, dtype=torch.float64)  # of the loss and of the score, over batches
        self._epoch_batches = 0
        self._epoch_validation: dict[str, float] = {}  # what validation found in the epoch under way
        self._scored: list[tuple[Tensor, Tensor, Tensor]] = []  # positions, outputs and targets of each chunk
        self.evaluated: tuple[Tensor, Tensor] | None = None
        """Outputs (n, outputs) and targets (n,) of the last evaluation, in the split's order, on every process."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes which hook runs some forty times a step: past nn.Module's search for parameters, which makes
        # a small network's epoch 5 % longer
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """Gray levels 0–255, (batch, height, width), to logits (batch, outputs) in float32."""
        return cast(Tensor, self.mlp(self.normalization(images))).float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self(batch.images)
        loss, score = self._loss_and_score(logits, batch.targets)
        if batch.mixed_targets is not None and batch.weight is not None:
            other_loss, other_score = self._loss_and_score(logits, batch.mixed_targets)
            loss, score = torch.lerp(other_loss, loss, batch.weight), torch.lerp(other_score, score, batch.weight)
        # summed on the device: nothing is read back before the epoch's end
        self._epoch_sums += torch.stack((loss.detach(), score))
        self._epoch_batches += 1
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        step_ends = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        if every and (self.global_step + 1) % every == 0 and step_ends:
            self.log("train/loss_step", loss.detach(), on_step=True, on_epoch=False, logger=False)
            self._write({"train/loss_step": loss.item()}, self.global_step)
        return loss

    def _write(self, values: dict[str, float], step: int) -> None:
        """Hand values to the loggers now: those that self.log holds back a checkpoint in between would lose."""
        for logger in self.trainer.loggers:
            logger.log_metrics(values | {"epoch": self.current_epoch}, step)

    def _loss_and_score(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to minimize, and accuracy or, for regression, mean squared error in the target's unit; scalars."""
        if self.task == "regression":
            loss = self.loss(logits, self.spec.standardized(targets))
            return loss, (self.spec.in_target_unit(logits.detach())[:, 0] - targets).square().mean()
        return self.loss(logits, targets), (decide(logits.detach(), self.task) == targets).float().mean()

    def on_train_epoch_start(self) -> None:
        self._epoch_sums = torch.zeros(2, dtype=self._sum_dtype, device=self.device)
        self._epoch_batches = 0
        self._epoch_validation = {}

    @property
    def _sum_dtype(self) -> torch.dtype:
        return torch.float32 if self.device.type == "mps" else torch.float64  # Apple's GPU has no float64

    def on_train_epoch_end(self) -> None:
        sums = self.trainer.strategy.reduce(self._epoch_sums.clone(), reduce_op="mean")
        loss, mean_score = (cast(Tensor, sums) / max(self._epoch_batches, 1)).tolist()
        if self.task == "regression":
            mean_score = math.sqrt(mean_score)
        values = {"train/loss": loss, f"train/{score_name(self.task)}": mean_score}
        self._log_epoch(values, logger=False)
        self._write(values, self.global_step - 1)
        record = {"epoch": float(self.current_epoch), "steps": float(self.global_step)}
        self.history.append(record | values | self._epoch_validation)

    def _log_epoch(self, values: dict[str, float], logger: bool = True) -> None:
        # the same number on every process already, so Lightning need not reduce it
        self.log_dict(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            logger=logger and self.trainer.logger is not None,
        )

    def _score_chunk(self, chunk: tuple[Batch, Tensor]) -> None:
        batch, positions = chunk
        outputs = self(batch.images)
        if self.task == "regression":
            outputs = self.spec.in_target_unit(outputs)
        self._scored.append((positions, outputs, batch.targets))

    def _gather(self, loader: EvaluationLoader) -> tuple[Tensor, Tensor]:
        """Everything scored on all processes, in the split's order: outputs (n, outputs) and targets (n,)."""
        columns = self.spec.num_outputs
        table = torch.zeros(len(loader.indices), columns + 2, device=self.device)
        for positions, outputs, targets in self._scored:
            rows = positions.to(self.device)
            table[rows, :columns] = outputs
            table[rows, columns] = targets.to(table.dtype)
            table[rows, columns + 1] = 1.0
        self._scored.clear()
        # each row was filled by one process and is 0 on the others: the sum is exact
        table = cast(Tensor, self.trainer.strategy.reduce(table, reduce_op="sum"))
        table = table[table[:, columns + 1] > 0].cpu()  # rows are missing where Trainer limits cut the evaluation short
        targets = table[:, columns]
        return table[:, :columns], targets if self.task == "regression" else targets.long()

    def _evaluate(self, loader: EvaluationLoader) -> float:
        """Gather what was scored into `evaluated` and return its mean loss."""
        outputs, targets = self.evaluated = self._gather(loader)
        if self.task == "regression":
            return float(self.loss(self.spec.standardized(outputs), self.spec.standardized(targets)))
        return float(self.loss(outputs.double(), targets))

    def on_validation_start(self) -> None:
        """Score with the first process's running statistics on all: each averaged over its own share of the batches."""
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, chunk: tuple[Batch, Tensor], batch_idx: int) -> None:
        self._score_chunk(chunk)

    def on_validation_epoch_end(self) -> None:
        loss = self._evaluate(cast(EvaluationLoader, self.trainer.val_dataloaders))
        outputs, targets = cast(tuple[Tensor, Tensor], self.evaluated)
        value = score(outputs, targets, self.task)
        self._epoch_validation = {"validation/loss": loss, f"validation/{score_name(self.task)}": value}
        # scored once more after the training, the best epoch is no further point of the curve
        self._log_epoch(self._epoch_validation, logger=self.trainer.state.fn == TrainerFn.FITTING)

    def test_step(self, chunk: tuple[Batch, Tensor], batch_idx: int) -> None:
        self._score_chunk(chunk)

    def on_test_epoch_end(self) -> None:
        loss = self._evaluate(cast(EvaluationLoader, self.trainer.test_dataloaders))
        numbers = {name: value for name, value in self.metrics().items() if isinstance(value, float)}
        self._log_epoch({f"test/{name}": value for name, value in ({"loss": loss} | numbers).items()})

    def metrics(self) -> dict[str, Any]:
        """Every metric of the last evaluation (see `project.training.metrics.evaluation_metrics`)."""
        outputs, targets = cast(tuple[Tensor, Tensor], self.evaluated)
        return evaluation_metrics(outputs, targets, self.task, self.spec.class_names)

    def _build_optimizer(self, fused: bool) -> torch.optim.Optimizer:
        hidden_weights = [cast(HiddenLayer, layer).linear.weight for layer in self.mlp.hidden]
        return build_optimizer(
            self.optimizer_name, self.mlp, hidden_weights, self.learning_rate, self.momentum, self.weight_decay, fused
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        # under float16 the scaler must unscale before it clips, which a fused step does too late
        fused = self.device.type in ("cpu", "cuda") and self.trainer.precision != "16-mixed"
        optimizer = self._build_optimizer(fused)
        steps_per_epoch, num_steps = self._num_steps()

        def factor(step: int) -> float:
            return learning_rate_factor(self.schedule, step, num_steps, steps_per_epoch, self.warmup_fraction)

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "name": "learning_rate"},
        }

    def _num_steps(self) -> tuple[int, int]:
        """Optimizer steps per epoch and in all.

        Counted from the data: Lightning's own estimate would set up the loaders too early and lose their position.
        """
        steps_per_epoch = cast(ImageDataModule, cast(Any, self.trainer).datamodule).num_steps_per_epoch
        limit = self.trainer.limit_train_batches
        if isinstance(limit, int):
            steps_per_epoch = min(steps_per_epoch, -(-limit // self.trainer.accumulate_grad_batches))
        else:
            steps_per_epoch = max(int(steps_per_epoch * limit), 1)
        max_steps, max_epochs = self.trainer.max_steps, self.trainer.max_epochs
        num_steps = max_steps if max_steps > 0 else steps_per_epoch * max(max_epochs or 1, 1)
        if max_steps > 0 and max_epochs and max_epochs > 0:
            num_steps = min(max_steps, steps_per_epoch * max_epochs)
        return steps_per_epoch, num_steps

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add plain data alone: the spec to rebuild from, the history, and the sums of an epoch under way."""
        checkpoint["spec"] = dataclasses.asdict(self.spec)
        checkpoint["history"] = self.history
        # each process's own, as another order of adding up would change the last digits
        sums = [torch.empty_like(self._epoch_sums) for _ in range(self.trainer.world_size)]
        if len(sums) > 1:
            torch.distributed.all_gather(sums, self._epoch_sums)
        else:
            sums = [self._epoch_sums]
        checkpoint["epoch_sums"] = torch.stack(sums).cpu()
        checkpoint["epoch_batches"] = self._epoch_batches
        checkpoint["epoch_validation"] = self._epoch_validation

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the training that a checkpoint is from; to evaluate its weights, nothing else is taken from it."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        self.history = checkpoint["history"]
        sums, rank = checkpoint["epoch_sums"], self.trainer.global_rank
        if len(sums) != self.trainer.world_size:  # shared out anew
            sums = sums.mean(0).expand(self.trainer.world_size, 2)
        self._epoch_sums = sums[rank].clone().to(self.device)
        self._epoch_batches = checkpoint["epoch_batches"]
        self._epoch_validation = checkpoint["epoch_validation"]
