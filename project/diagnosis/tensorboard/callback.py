"""What loggers show of a run beside its curves: text and pictures; TensorBoard also graph, histograms, projector, …

    tensorboard --logdir runs

docs/tensorboard.md says how to read each tab.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from project.data.loaders import spread_examples
from project.diagnosis.measurement.examples import layer_tags
from project.diagnosis.monitor import DiagnosticsCallback, datamodule_of
from project.diagnosis.tensorboard import pictures, tabs
from project.diagnosis.tensorboard.loggers import add_picture, add_text, takes_pictures
from project.inside import open_inside
from project.network.layers import evaluating, layer_table_markdown, recorded_signals
from project.plain_data import decode, parse_json
from project.settings import flatten
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
    """Give text and pictures to the loggers that take them, and fill TensorBoard's tabs; from the first process alone.

    Before training: layer table, settings, provenance, graph, sample batch. At epoch ends: histograms, first-layer
    weights. After training: gradients by layer and step. After testing: findings, confusion matrix, mistakes,
    precision and recall, projector, settings with final metrics. Everything is a function of settings and weights, so
    that a resumed run writes what an unbroken one would. Graph, histograms, precision and recall, projector and the
    table of settings are TensorBoard's alone.

    Args:
        settings: The run's settings by their flags' names, such as `model.activation`.
        diagnostics: The same run's callback that probes and judges; the Trainer calls it before this one.
        folder: The run's folder, from which the provenance is read.
    """

    def __init__(
        self, settings: Mapping[str, Any], diagnostics: DiagnosticsCallback, folder: Path | None = None
    ) -> None:
        self.settings, self.diagnostics, self.folder = dict(settings), diagnostics, folder
        self._introduced = False

    def state_dict(self) -> dict[str, Any]:
        return {"introduced": self._introduced}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._introduced = state["introduced"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._introduced or not takes_pictures(trainer):
            return
        module = cast(ImageModule, pl_module)
        # with the numbers that the module really has
        self.settings |= flatten({"model": asdict(module.settings)})
        add_text(trainer, "2_network", layer_table_markdown(module.network))
        add_text(trainer, "3_settings", tabs.settings_markdown(self.settings))
        origin = self.folder / "provenance.json" if self.folder else None
        if origin and origin.is_file():
            with open_inside(origin.parent, origin.name) as file:
                add_text(trainer, "4_provenance", tabs.provenance_markdown(parse_json(decode(file.read()))))
        if writer := _writer(trainer):
            tabs.add_graph(writer, module, str(self.settings["model.loss"]))
            writer.add_custom_scalars(tabs.chart_layout(module))
        # of epoch 0, whose batches are a function of the seed; each training batch reseeds what this draws
        batch = next(iter(datamodule_of(trainer).train_dataloader()))
        _add_figure(trainer, "pictures/sample_batch", pictures.sample_batch_figure(batch, module), 0)
        if writer:
            writer.flush()
        self._introduced = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # an epoch's last batch, not the epoch's end: validation comes in between, and before it the gradients are freed
        if not trainer.is_last_batch or not takes_pictures(trainer):
            return
        module, step = cast(ImageModule, pl_module), trainer.global_step - 1
        if _is_shown(trainer, MAX_HISTOGRAM_EPOCHS) and (writer := _writer(trainer)):
            self._add_histograms(writer, module, step)
        if _is_shown(trainer, MAX_TILE_EPOCHS):
            tiles = pictures.first_layer_tiles(module)
            if tiles is not None:
                add_picture(trainer, "pictures/first_layer_weights", tiles, step)

    def _add_histograms(self, writer: "SummaryWriter", module: ImageModule, step: int) -> None:
        layers = module.network.layers()
        names = layer_tags(len(layers) - 1)
        values: dict[str, Tensor] = {}
        for name, layer in zip(names, layers, strict=True):
            values[f"layer_weights/{name}"] = layer.weight.detach()
            if layer.weight.grad is not None:  # of the epoch's last step
                values[f"layer_gradients/{name}"] = layer.weight.grad
        inputs, _ = self.diagnostics.examples(module)
        with evaluating(module), recorded_signals(module.network) as signals:
            logits = module.network.forward(inputs)
        for name, (_, activations) in zip(names, [*signals, (logits, logits)], strict=True):
            values[f"layer_activations/{name}"] = activations
        for tag, tensor in values.items():
            tabs.add_histogram(writer, tag, tensor, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.diagnostics.steps and takes_pictures(trainer):
            figure = pictures.gradient_figure(self.diagnostics.steps, self.diagnostics.gradient_norms)
            _add_figure(trainer, "pictures/gradients_by_layer_and_step", figure, trainer.global_step)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not takes_pictures(trainer):
            return
        writer = _writer(trainer)
        module, datamodule, step = cast(ImageModule, pl_module), datamodule_of(trainer), trainer.global_step
        add_text(trainer, "1_judgement", tabs.judgement_markdown(self.diagnostics.findings), step)
        outputs, targets = cast(tuple[Tensor, Tensor], module.evaluated)
        loader = datamodule.test_dataloader()
        # a Trainer limit can cut the evaluation short: then only the first pictures of the split have outputs
        images = spread_examples(loader, len(loader.indices)).images[: len(targets)].cpu()
        if module.task == "regression":
            scatter = pictures.regression_figure(outputs[:, 0], targets)
            _add_figure(trainer, "pictures/predicted_against_true", scatter, step)
            mistakes = pictures.errors_figure(images, outputs[:, 0], targets)
        else:
            names = module.spec.class_names
            confusion = confusion_matrix(outputs, targets, module.task, len(names))
            _add_figure(trainer, "pictures/confusion_matrix", pictures.confusion_figure(confusion, names), step)
            shares = probabilities(outputs, module.task)
            for index, name in enumerate(names if writer else ()):
                cast("SummaryWriter", writer).add_pr_curve(
                    f"precision_recall/{_tag(name)}", targets == index, shares[:, index], step
                )
            mistakes = pictures.mistakes_figure(images, shares, targets, names)
        _add_figure(trainer, "pictures/most_confident_mistakes", mistakes, step)
        if writer:
            tabs.write_projector(Path(writer.log_dir), module, datamodule)
            tabs.add_hparams(writer, self.settings)
            writer.flush()


def _writer(trainer: Trainer) -> "SummaryWriter | None":
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return cast("SummaryWriter", loggers[0].experiment) if trainer.is_global_zero and loggers else None


def _is_shown(trainer: Trainer, maximum: int) -> bool:
    """Whether this epoch is one of at most `maximum` that are drawn: they are evenly spaced and end with the last."""
    num_epochs = max(trainer.max_epochs or 1, 1)
    return (num_epochs - 1 - trainer.current_epoch) % -(-num_epochs // maximum) == 0


def _tag(name: str) -> str:
    """A class name as part of a tag: to TensorBoard a slash begins a group, and it refuses most other signs."""
    return re.sub(r"[^\w.-]+", "_", name)


def _add_figure(trainer: Trainer, tag: str, figure: "Figure", step: int) -> None:
    add_picture(trainer, tag, pictures.to_picture(figure), step)
