"""What TensorBoard shows of a run beside its curves: text, graph, pictures, histograms, settings, the projector.

    tensorboard --logdir runs

docs/tensorboard.md says how to read each tab.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from project.diagnosis.measurement.examples import evaluating, layer_tags, spread_examples
from project.diagnosis.monitor import DiagnosticsCallback, datamodule_of
from project.diagnosis.tensorboard import pictures, tabs
from project.network.layers import layer_table_markdown, recorded_signals
from project.task import probabilities
from project.training.metrics import confusion_matrix
from project.training.module import ImageModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


MAX_HISTOGRAM_EPOCHS = 10
"""Epochs whose histograms are kept: a long training shows one in so many of its epochs."""
MAX_TILE_EPOCHS = 5
"""Epochs whose first-layer weights are kept: what looks like noise takes as long to compress as a training step."""


class TensorBoardCallback(Callback):
    """Fill TensorBoard's tabs, from the first process alone, where the run's logger is TensorBoard's.

    Before training: layer table, settings, provenance, graph, sample batch. At epoch ends: histograms, first-layer
    weights. After training: gradients by layer and step. After testing: findings, confusion matrix, mistakes,
    precision and recall, projector, settings with final metrics. Everything is a function of settings and weights, so
    that a resumed run writes what an unbroken one would.

    Args:
        settings: The run's settings by their flags' names, such as `model.activation`.
        diagnostics: The same run's callback that probes and judges; the Trainer calls it before this one.
    """

    def __init__(self, settings: Mapping[str, Any], diagnostics: DiagnosticsCallback) -> None:
        self.settings, self.diagnostics = dict(settings), diagnostics
        self._introduced = False

    def state_dict(self) -> dict[str, Any]:
        return {"introduced": self._introduced}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._introduced = state["introduced"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = _writer(trainer)
        if writer is None or self._introduced:
            return
        module = cast(ImageModule, pl_module)
        writer.add_text("2_network", layer_table_markdown(module.network))
        writer.add_text("3_settings", tabs.settings_markdown(self.settings))
        origin = _run_folder(trainer) / "provenance.json"
        if origin.is_file():
            writer.add_text("4_provenance", tabs.provenance_markdown(json.loads(origin.read_text(encoding="utf-8"))))
        tabs.add_graph(writer, module, str(self.settings["model.loss"]))
        writer.add_custom_scalars(tabs.chart_layout(module))
        # of epoch 0, whose batches are a function of the seed; each training batch reseeds what this draws
        batch = next(iter(datamodule_of(trainer).train_dataloader()))
        _add_picture(writer, "pictures/sample_batch", pictures.sample_batch_figure(batch, module), 0)
        writer.flush()
        self._introduced = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # an epoch's last batch, not the epoch's end: validation comes in between, and before it the gradients are freed
        writer = _writer(trainer) if trainer.is_last_batch else None
        if writer is None:
            return
        module, step = cast(ImageModule, pl_module), trainer.global_step - 1
        if _is_shown(trainer, MAX_HISTOGRAM_EPOCHS):
            self._add_histograms(writer, module, step)
        if _is_shown(trainer, MAX_TILE_EPOCHS):
            tiles = pictures.first_layer_tiles(module)
            if tiles is not None:
                writer.add_image("pictures/first_layer_weights", tiles, step, dataformats="HWC")

    def _add_histograms(self, writer: "SummaryWriter", module: ImageModule, step: int) -> None:
        layers = module.network.layers()
        names = layer_tags(len(layers) - 1)
        values: dict[str, Tensor] = {}
        for name, layer in zip(names, layers, strict=True):
            values[f"weights/{name}"] = layer.weight.detach()
            if layer.weight.grad is not None:  # of the epoch's last step
                values[f"gradients/{name}"] = layer.weight.grad
        inputs, _ = self.diagnostics.examples(module)
        with evaluating(module), recorded_signals(module.network) as signals:
            logits = module.network.forward(inputs)
        for name, (_, activations) in zip(names, [*signals, (logits, logits)], strict=True):
            values[f"activations/{name}"] = activations
        for tag, tensor in values.items():
            tabs.add_histogram(writer, tag, tensor, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = _writer(trainer)
        if writer is None:
            return
        step = trainer.global_step
        if self.diagnostics.steps:
            figure = pictures.gradient_figure(self.diagnostics.steps, self.diagnostics.gradient_norms)
            _add_picture(writer, "pictures/gradients_by_layer_and_step", figure, step)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = _writer(trainer)
        if writer is None:
            return
        module, datamodule, step = cast(ImageModule, pl_module), datamodule_of(trainer), trainer.global_step
        writer.add_text("1_judgement", tabs.judgement_markdown(self.diagnostics.findings), step)
        outputs, targets = cast(tuple[Tensor, Tensor], module.evaluated)
        loader = datamodule.test_dataloader()
        # a Trainer limit can cut the evaluation short: then only the first pictures of the split have outputs
        images = spread_examples(loader, len(loader.indices)).images[: len(targets)].cpu()
        if module.task == "regression":
            scatter = pictures.regression_figure(outputs[:, 0], targets)
            _add_picture(writer, "pictures/predicted_against_true", scatter, step)
            mistakes = pictures.errors_figure(images, outputs[:, 0], targets)
        else:
            names = module.spec.class_names
            confusion = confusion_matrix(outputs, targets, module.task, len(names))
            _add_picture(writer, "pictures/confusion_matrix", pictures.confusion_figure(confusion, names), step)
            shares = probabilities(outputs, module.task)
            for index, name in enumerate(names):
                writer.add_pr_curve(f"precision_recall/{_tag(name)}", targets == index, shares[:, index], step)
            mistakes = pictures.mistakes_figure(images, shares, targets, names)
        _add_picture(writer, "pictures/most_confident_mistakes", mistakes, step)
        tabs.write_projector(_run_folder(trainer), module, datamodule)
        tabs.add_hparams(writer, self.settings, module, validated=datamodule.settings.is_validated)
        writer.flush()


def _writer(trainer: Trainer) -> "SummaryWriter | None":
    if trainer.is_global_zero and isinstance(trainer.logger, TensorBoardLogger):
        return cast("SummaryWriter", trainer.logger.experiment)
    return None


def _run_folder(trainer: Trainer) -> Path:
    return Path(cast(TensorBoardLogger, trainer.logger).log_dir)


def _is_shown(trainer: Trainer, maximum: int) -> bool:
    """Whether this epoch is one of at most `maximum` that are drawn: they are evenly spaced and end with the last."""
    num_epochs = max(trainer.max_epochs or 1, 1)
    return (num_epochs - 1 - trainer.current_epoch) % -(-num_epochs // maximum) == 0


def _tag(name: str) -> str:
    """A class name as part of a tag: to TensorBoard a slash begins a group, and it refuses most other signs."""
    return re.sub(r"[^\w.-]+", "_", name)


def _add_picture(writer: "SummaryWriter", tag: str, figure: "Figure", step: int) -> None:
    writer.add_image(tag, pictures.to_picture(figure), step, dataformats="HWC")
