"""The LightningModule: a network with its loss, its optimizer and the normalization of its data."""

import copy
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
from project.network.networks import NETWORKS
from project.network.optimization.losses import LOSSES, build_loss
from project.network.optimization.optimizers import build_optimizer
from project.network.optimization.schedules import learning_rate_factor
from project.settings import with_keywords_of
from project.task import DataSpec, decide, score_name
from project.training.epoch_record import EpochRecord
from project.training.internals import FastAttributes
from project.training.metrics import evaluation_metrics, score
from project.training.scoring import SplitScores
from project.training.settings import NETWORK_SETTINGS, ModelKeywords, ModelSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

NO_PLAIN_DATA = "holds something other than tensors, numbers, texts, lists and mappings"
"""What is said of a checkpoint that is refused: torch's own words advise to load it unsafely."""
MAX_UNCHECKED_DEPTH = 1000
"""A deeper network than this has a saved tensor for each layer."""


@with_keywords_of(ModelSettings)
class ImageModule(FastAttributes, LightningModule):
    """A network that is trained and scored on images.

    Args:
        spec: What the data look like; `ImageDataModule.spec` gives it.
        normalization: The normalization that was fitted on the training split; it is saved with the weights.
        settings: They describe the network, its loss and its optimizer.
        keywords: Fields of `ModelSettings`, in place of `settings`; the task is that of the data.

    Raises:
        InputError: If the network does not fit into memory, or the settings make none.
        TypeError: If both settings and keywords are given, or a keyword is no setting.
    """

    def __init__(
        self,
        spec: DataSpec,
        normalization: Normalization,
        settings: ModelSettings | None = None,
        **keywords: "Unpack[ModelKeywords]",
    ) -> None:
        super().__init__()
        # a copy: a network in evaluation mode must not switch that of another one on the same data
        self.spec, self.normalization = spec, copy.deepcopy(normalization)
        if settings is not None and keywords:
            raise TypeError("give either settings or keywords")
        keywords.setdefault("task", spec.task)
        self.settings = settings = settings or ModelSettings(**keywords)
        self.task = settings.task
        try:
            described = {name: getattr(settings, name) for name in NETWORK_SETTINGS}
            self.network = NETWORKS[settings.network].build(spec, described)
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise InputError(
                f"a network of model.depth {settings.depth} and model.width {settings.width} does not fit into memory",
                "make one of the two smaller",
            ) from error
        self.loss = build_loss(settings.loss, settings.task, settings.label_smoothing, settings.huber_delta)
        if settings.compile:
            self.network.compile()
        self.epochs = EpochRecord()
        self._scores = SplitScores(spec)
        self.logs_validation = True
        """Whether validation adds a point to the loggers' curves: not when a run scores its best epoch once more."""
        self.evaluated: tuple[Tensor, Tensor] | None = None
        """Outputs (n, outputs) and targets (n,) of the last evaluation, in the split's order, in every process."""

    @property
    def history(self) -> list[dict[str, float]]:
        """One record per epoch: epoch, steps and that epoch's train/… and validation/… values."""
        return self.epochs.history

    def forward(self, images: Tensor) -> Tensor:
        """Gray levels 0–255, (batch, height, width), to logits (batch, outputs) in float32."""
        return cast(Tensor, self.network(self.normalization(images))).float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, score = self.loss_and_score(batch)
        self.epochs.add_batch(loss, score)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        step_ends = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        if every and (self.global_step + 1) % every == 0 and step_ends:
            self.log("train/loss_step", loss.detach(), on_step=True, on_epoch=False, logger=False)
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            self._write({"train/loss_step": loss.item(), "learning_rate": rate}, self.global_step)
        return loss

    def loss_and_score(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A training batch's loss to minimize, and its accuracy or, for regression, mean squared error; scalars."""
        logits = self(batch.images)
        loss, score = self._loss_and_score(logits, batch.targets)
        if batch.mixed_targets is not None and batch.weight is not None:
            other_loss, other_score = self._loss_and_score(logits, batch.mixed_targets)
            loss, score = torch.lerp(other_loss, loss, batch.weight), torch.lerp(other_score, score, batch.weight)
        return loss, score

    def _write(self, values: dict[str, float], step: int) -> None:
        """Give values to the loggers now: self.log keeps them until later, and a checkpoint in between loses them."""
        for logger in self.trainer.loggers:
            logger.log_metrics(values | {"epoch": self.current_epoch}, step)

    def _loss_and_score(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to minimize, and accuracy or, for regression, mean squared error in the target's unit; scalars."""
        if self.task == "regression":
            loss = self.loss(logits, self.spec.standardized(targets))
            return loss, (self.spec.in_target_unit(logits.detach())[:, 0] - targets).square().mean()
        return self.loss(logits, targets), (decide(logits.detach(), self.task) == targets).float().mean()

    def on_train_epoch_start(self) -> None:
        self.epochs.start_epoch(self.device)

    def on_train_epoch_end(self) -> None:
        values = self.epochs.finish_epoch(self.trainer, self.task)
        self._log_epoch(values, logger=False)
        self._write(values, self.global_step - 1)

    def _log_epoch(self, values: dict[str, float], logger: bool = True) -> None:
        # the same number on every process already, so Lightning need not reduce it
        self.log_dict(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            logger=logger and self.trainer.logger is not None,
        )

    def _evaluate(self, loader: EvaluationLoader) -> float:
        """Gather what was scored into `evaluated` and return its mean loss."""
        self.evaluated = self._scores.gather(loader, self.trainer, self.device)
        return self._scores.mean_loss(self.loss, *self.evaluated)

    def on_validation_start(self) -> None:
        """Give all processes the first one's running statistics: each averages over its own share of the batches."""
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, chunk: tuple[Batch, Tensor], batch_idx: int) -> None:
        batch, positions = chunk
        self._scores.add(positions, self(batch.images), batch.targets)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        loss = self._evaluate(cast(EvaluationLoader, self.trainer.val_dataloaders))
        outputs, targets = cast(tuple[Tensor, Tensor], self.evaluated)
        value = score(outputs, targets, self.task)
        self.epochs.validation = {"validation/loss": loss, f"validation/{score_name(self.task)}": value}
        self._log_epoch(self.epochs.validation, logger=self.logs_validation)

    def on_test_epoch_end(self) -> None:
        loss = self._evaluate(cast(EvaluationLoader, self.trainer.test_dataloaders))
        numbers = {name: value for name, value in self.metrics().items() if isinstance(value, float)}
        self._log_epoch({f"test/{name}": value for name, value in ({"loss": loss} | numbers).items()})

    def metrics(self) -> dict[str, Any]:
        """Every metric of the last evaluation (see `project.training.metrics.evaluation_metrics`).

        Without the calibration error where the loss, such as hinge, trains no probabilities.
        """
        outputs, targets = cast(tuple[Tensor, Tensor], self.evaluated)
        found = evaluation_metrics(outputs, targets, self.task, self.spec.class_names)
        if self.task not in LOSSES[self.settings.loss].probabilities:
            found.pop("calibration_error", None)
        return found

    def build_optimizer(self, fused: bool) -> torch.optim.Optimizer:
        """The optimizer that the settings describe, over all parameters, at its highest learning rate."""
        hidden_weights = [layer.weight for layer in self.network.layers()[:-1]]
        settings = self.settings
        return build_optimizer(settings.optimizer, self.network, hidden_weights, *settings.optimizer_numbers, fused)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        # under float16 the scaler must unscale before it clips, but a fused step unscales after that
        fused = self.device.type in ("cpu", "cuda") and self.trainer.precision != "16-mixed"
        optimizer, settings = self.build_optimizer(fused), self.settings
        steps_per_epoch, num_steps = self._num_steps()

        def factor(step: int) -> float:
            return learning_rate_factor(settings.schedule, step, num_steps, steps_per_epoch, settings.warmup_fraction)

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "name": "learning_rate"},
        }

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self._num_steps()[1]

    def _num_steps(self) -> tuple[int, int]:
        """Optimizer steps per epoch and in all.

        They are counted from the data: Lightning's own estimate sets up the loaders too early and loses their position.
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

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights and buffers by name, also from an older checkpoint, where the network's name is `mlp`."""
        renamed = {re.sub(r"^mlp\.", "network.", name): value for name, value in state_dict.items()}
        return super().load_state_dict(renamed, strict, assign)

    @classmethod
    def rebuild(cls, settings: ModelSettings, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> "ImageModule":
        """Build the network that settings describe, with trained weights and in evaluation mode.

        Args:
            settings: The model's settings.
            spec: The fields of `DataSpec`, as a checkpoint or an exported file stores them.
            state: The weights and buffers by name; they decide the shapes of the normalization.

        Raises:
            Exception: Any error of the constructors, if the three do not fit together.
        """
        normalization = Normalization(state["normalization.shift"].clone(), state["normalization.scale"].clone())
        described = DataSpec(**{**spec, "class_names": tuple(spec["class_names"])})  # JSON makes the names a list
        for name, part in (("shift", normalization.shift), ("scale", normalization.scale)):
            if tuple(part.shape) not in ((), (described.num_features,)) or not part.is_floating_point():
                shape, one_each = tuple(part.shape), described.num_features
                raise ValueError(f"the normalization's {name} has the shape {shape}, not () or ({one_each},)")
        _check_size(described, settings, state)
        module = cls(described, normalization, settings)
        module.load_state_dict(state)
        return module.eval()

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's takes what would replace the settings
        cls, checkpoint_path: str | Path, map_location: Any = "cpu"
    ) -> "ImageModule":
        """The network of a checkpoint that any Trainer wrote, in evaluation mode; it is read as plain data.

        Args:
            checkpoint_path: The file.
            map_location: The device of the weights.

        Raises:
            InputError: If the checkpoint is of a version that did not save the settings, or holds more than plain data.
        """
        try:
            checkpoint = torch.load(checkpoint_path, map_location=map_location, weights_only=True)
        except Exception as error:
            if not is_no_plain_data(error):
                raise
            raise InputError(
                f"{checkpoint_path} {NO_PLAIN_DATA}",
                "name a checkpoint that a Trainer wrote of this project's module",
            ) from None
        if "settings" not in checkpoint:
            raise InputError(
                f"{checkpoint_path} does not have the model's settings", "load the run folder: load_run(RUN)"
            )
        return cls.rebuild(ModelSettings(**checkpoint["settings"]), checkpoint["spec"], checkpoint["state_dict"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add only plain data: what rebuilds the network, the history, and an unfinished epoch's sums."""
        checkpoint["spec"] = dataclasses.asdict(self.spec)
        checkpoint["settings"] = dataclasses.asdict(self.settings)
        checkpoint |= self.epochs.state(self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the training of a checkpoint; an evaluation takes nothing but the weights from it."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.epochs.load(checkpoint, self.trainer, self.device)


def is_no_plain_data(error: Exception) -> bool:
    """Whether torch refused to load a file because it holds more than plain data."""
    return type(error).__name__ == "UnpicklingError"


def _check_size(spec: DataSpec, settings: ModelSettings, state: Mapping[str, Tensor]) -> None:
    """Refuse settings of a network that is larger than the weights that it shall get, before it takes memory.

    Raises:
        ValueError: If it has more layers or more weights.
    """
    layers, num_weights = settings.depth, 0
    if settings.depth <= max(len(state), MAX_UNCHECKED_DEPTH):
        described = {name: getattr(settings, name) for name in NETWORK_SETTINGS}
        try:
            with torch.device("meta"):  # shapes without memory
                network = NETWORKS[settings.network].build(spec, described)
        except (NotImplementedError, RuntimeError):  # a network of the user's own may need real numbers
            return
        layers, num_weights = 0, sum(weight.numel() for weight in network.parameters())
    if layers or num_weights > sum(weight.numel() for weight in state.values()):
        raise ValueError(
            f"model.depth {settings.depth} and model.width {settings.width} make more weights than were saved"
        )
