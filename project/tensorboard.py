"""What TensorBoard shows of a run beside its curves: text, graph, pictures, histograms, settings, the projector.

    tensorboard --logdir runs

docs/tensorboard.md says how to read each tab.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import yaml
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from project import pictures
from project.datamodule import ImageDataModule
from project.diagnostics import saturation_bounds
from project.inspection import DiagnosticsCallback, evaluating, layer_tags, spread_examples
from project.judgement import Finding, combined_remedy
from project.losses import decide
from project.metrics import confusion_matrix, probabilities, score_name
from project.mlp import MLP, HiddenLayer, layer_table
from project.module import MLPModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

HISTOGRAM_BINS = 64
SHOWN_HISTOGRAMS = 10
"""Epochs whose histograms are kept: a long training shows every so many of its epochs."""
SHOWN_TILES = 5
"""Epochs whose first-layer weights are kept: what looks like noise takes as long to compress as a training step."""
PROJECTED_EXAMPLES = 1000
PROJECTED_COMPONENTS = 50
"""Principal components of the representation that the projector gets: its files hold numbers as text."""
LARGEST_SPRITE = 8192
"""Pixels of a sprite sheet's side, as the projector's page limits it."""

LAYER_CHARTS = {
    "gradient norm (pre-activations)": "gradient_norm",
    "gradient norm (weights)": "weight_gradient_norm",
    "update / weight": "update_ratio",
    "activation sd": "activation_sd",
    "activation mean": "activation_mean",
    "pre-activation sd": "pre_activation_sd",
    "silent units": "dead_fraction",
    "saturated outputs": "saturated_fraction",
    "effective rank": "effective_rank",
    "weight norm": "weight_norm",
}
"""Charts that overlay all layers: title, and the scalars' group without its `layer_`."""

LEFT_OUT_SETTINGS = ("data.root", "data.download", "model.compile")
"""Settings that decide nothing about the result and would only widen the HParams table."""
TEXT_SETTINGS = ("model.width", "data.augmentation", "data.classes", "trainer.precision")
"""Settings that may be a list: shown as text in every run, so that a column has one type."""
HEADLINE_SETTINGS = ("model.activation", "model.depth", "model.learning_rate", "model.width", "model.norm")
SHOWN_TRAINER_SETTINGS = ("max_epochs", "max_steps", "precision", "gradient_clip_val", "accumulate_grad_batches")


class TensorBoardCallback(Callback):
    """Fill TensorBoard's tabs, from the first process alone, where the run's logger is TensorBoard's.

    Before training: layer table, settings, provenance, graph, sample batch. At epoch ends: histograms, first-layer
    weights. After training: gradients by layer and step, judgement. After testing: confusion matrix, mistakes,
    precision and recall, projector, settings with final metrics. Everything is a function of settings and weights, so
    that a resumed run writes what an unbroken one would.

    Args:
        settings: The run's settings by their flags' names, such as `model.activation`.
        diagnostics: Of the same run; its callback comes first.
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
        module, datamodule = cast(MLPModule, pl_module), _datamodule(trainer)
        writer.add_text("2_network", layer_table_markdown(module.mlp))
        writer.add_text("3_settings", settings_markdown(self.settings))
        origin = Path(cast(TensorBoardLogger, trainer.logger).log_dir) / "provenance.json"
        if origin.is_file():
            writer.add_text("4_provenance", provenance_markdown(json.loads(origin.read_text(encoding="utf-8"))))
        add_graph(writer, module, str(self.settings["model.loss"]))
        writer.add_custom_scalars(chart_layout(module))
        # of epoch 0, whose batches are a function of the seed; each training batch reseeds what this draws
        batch = next(iter(datamodule.train_dataloader()))
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
        module, step = cast(MLPModule, pl_module), trainer.global_step - 1
        if _is_shown(trainer, SHOWN_HISTOGRAMS):
            self._add_histograms(writer, module, step)
        if _is_shown(trainer, SHOWN_TILES):
            tiles = pictures.first_layer_tiles(module)
            writer.add_image("pictures/first_layer_weights", tiles, step, dataformats="HWC")

    def _add_histograms(self, writer: "SummaryWriter", module: MLPModule, step: int) -> None:
        names = layer_tags(len(module.mlp.hidden))
        linears = [*(cast(HiddenLayer, layer).linear for layer in module.mlp.hidden), module.mlp.output]
        values: dict[str, Tensor] = {}
        for name, linear in zip(names, linears, strict=True):
            values[f"weights/{name}"] = linear.weight.detach()
            if linear.weight.grad is not None:  # of the epoch's last step
                values[f"gradients/{name}"] = linear.weight.grad
        inputs, _ = self.diagnostics.examples(module)
        with evaluating(module):
            signal = inputs
            for name, layer in zip(names, (*module.mlp.hidden, module.mlp.output), strict=True):
                signal = layer(signal)
                values[f"activations/{name}"] = signal
        for tag, tensor in values.items():
            add_histogram(writer, tag, tensor, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = _writer(trainer)
        if writer is None:
            return
        step = trainer.global_step
        if self.diagnostics.steps:
            figure = pictures.gradient_figure(self.diagnostics.steps, self.diagnostics.gradient_norms)
            _add_picture(writer, "pictures/gradients_by_layer_and_step", figure, step)
        writer.add_text("1_judgement", judgement_markdown(self.diagnostics.findings), step)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = _writer(trainer)
        if writer is None:
            return
        module, datamodule, step = cast(MLPModule, pl_module), _datamodule(trainer), trainer.global_step
        outputs, targets = cast(tuple[Tensor, Tensor], module.evaluated)
        loader = datamodule.test_dataloader()
        # an evaluation that a Trainer limit cut short scored the first of the split
        images = spread_examples(loader, len(loader.indices))[1].images[: len(targets)].cpu()
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
        write_projector(Path(cast(TensorBoardLogger, trainer.logger).log_dir), module, datamodule)
        add_hparams(writer, self.settings, module, validated=datamodule.num_validation > 0)
        writer.flush()


def _writer(trainer: Trainer) -> "SummaryWriter | None":
    if trainer.is_global_zero and isinstance(trainer.logger, TensorBoardLogger):
        return cast("SummaryWriter", trainer.logger.experiment)
    return None


def _datamodule(trainer: Trainer) -> ImageDataModule:
    return cast(ImageDataModule, cast(Any, trainer).datamodule)


def _is_shown(trainer: Trainer, most: int) -> bool:
    """Whether this epoch is among the at most about `most` of a training that are drawn: evenly spaced ones."""
    num_epochs = max(trainer.max_epochs or 1, 1)
    return (num_epochs - 1 - trainer.current_epoch) % -(-num_epochs // most) == 0  # the last one among them


def _tag(name: str) -> str:
    """A class name as part of a tag: TensorBoard takes a slash for a group and refuses most other signs."""
    return re.sub(r"[^\w.-]+", "_", name)


def _event_file(writer: "SummaryWriter") -> Any:
    """What the writer writes to, for what its own methods cannot say."""
    return cast(Any, writer)._get_file_writer()


def _add_picture(writer: "SummaryWriter", tag: str, figure: "Figure", step: int) -> None:
    writer.add_image(tag, pictures.to_picture(figure), step, dataformats="HWC")


def layer_table_markdown(mlp: MLP) -> str:
    """The layer table (N7) in Markdown."""
    rows = layer_table(mlp)
    lines = ["| layer | output shape | parameters | counted as |", "| --- | --- | ---: | --- |"]
    lines += [f"| {row.layer} | {row.output_shape} | {row.parameters:,} | {row.formula} |" for row in rows]
    return "\n".join([*lines, f"| total | | {sum(row.parameters for row in rows):,} | |"])


def settings_markdown(settings: Mapping[str, Any]) -> str:
    """Every setting that has a value, by its flag's name, as code."""
    shown = {name: value for name, value in settings.items() if value is not None}
    values = {
        name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in shown.items()
    }
    return _code("\n".join(f"{name}: {value}" for name, value in values.items()))


def provenance_markdown(origin: Mapping[str, Any]) -> str:
    """Where the run comes from; of an uncommitted change only how long it is."""
    shown = {name: value for name, value in origin.items() if name != "git_diff"}
    num_changed = str(origin.get("git_diff") or "").count("\n")
    shown["uncommitted_change"] = f"{num_changed} lines, kept in provenance.json" if num_changed else "none"
    return _code(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))


def _code(text: str) -> str:
    """Text as Markdown shows it letter by letter."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def judgement_markdown(findings: Sequence[Finding]) -> str:
    """The findings as a list, the severest first, with the flags that would mend them."""
    if not findings:
        return "Nothing stands out."
    lines = []
    for finding in findings:
        remedy = f" Try `{' '.join(finding.remedy)}`." if finding.remedy else ""
        lines.append(f"- **{finding.severity}** ({finding.code.replace('_', ' ')}): {finding.sentence}{remedy}")
    flags = combined_remedy(findings)
    return "\n".join([*lines, "", f"All together: `{' '.join(flags)}`" if len(findings) > 1 and flags else ""])


def chart_layout(module: MLPModule) -> dict[str, dict[str, list[Any]]]:
    """The Custom Scalars tab: training beside validation, and all layers in one chart for each quantity."""
    score = score_name(module.task)
    training = {
        "loss": ["Multiline", ["^train/loss$", "^validation/loss$"]],
        score: ["Multiline", [f"^train/{score}$", f"^validation/{score}$"]],
        "learning rate": ["Multiline", ["^learning_rate(/pg1)?$"]],
    }
    blocks = [cast(HiddenLayer, layer) for layer in module.mlp.hidden]
    bounded = [math.isfinite(saturation_bounds(block.activation)[1]) for block in blocks]
    absent = ("dead_fraction" if all(bounded) else "", "" if any(bounded) else "saturated_fraction")
    layers = {
        title: ["Multiline", [f"^layer_{quantity}/"]]
        for title, quantity in LAYER_CHARTS.items()
        if quantity not in absent and (blocks or not quantity.startswith("activation"))
    }
    layers["gradient of the first over the last hidden layer"] = ["Multiline", ["^diagnostics/gradient_ratio$"]]
    return {"1 Training": training, "2 Layer by layer": layers}


def add_graph(writer: "SummaryWriter", module: MLPModule, loss: str) -> None:
    """Write the network as a graph whose nodes are its layers, with shapes on the edges.

    Made from the layers themselves: torch's own way traces the network, which is deprecated, and shows dozens of
    nodes that nobody wrote.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    spec, mlp = module.spec, module.mlp
    nodes = [_node("images", "Input", [], [spec.height, spec.width])]
    features = spec.height * spec.width
    nodes.append(_node("normalization", "Normalization", ["images"], [features]))
    last = "normalization"
    tags = layer_tags(len(mlp.hidden))
    for tag, layer in zip(tags, mlp.hidden, strict=False):
        block = cast(HiddenLayer, layer)
        for name in ("linear", "norm", "activation", "dropout"):
            part = getattr(block, name)
            if name in ("linear", "activation") or not isinstance(part, nn.Identity):
                last = _add_part(nodes, f"{tag}/{name}", part, last, block.linear.out_features)
    last = _add_part(nodes, "output/linear", mlp.output, last, mlp.output.out_features)
    nodes.append(_node("targets", "Input", [], []))
    nodes.append(_node("loss", loss, [last, "targets"], None))
    graph = GraphDef(node=nodes, versions=VersionDef(producer=22))
    _event_file(writer).add_event(Event(graph_def=graph.SerializeToString()))


def _add_part(nodes: list[Any], name: str, part: nn.Module, before: str, features: int) -> str:
    """Append a layer's part and its parameters; returns its name."""
    inputs = [before]
    for parameter_name, parameter in part.named_parameters():
        nodes.append(_node(f"{name}/{parameter_name}", "Parameter", [], list(parameter.shape), batch=False))
        inputs.append(f"{name}/{parameter_name}")
    detail = part.extra_repr()
    nodes.append(_node(f"{name}/{type(part).__name__}", type(part).__name__, inputs, [features], detail=detail))
    return f"{name}/{type(part).__name__}"


def _node(
    name: str, kind: str, inputs: list[str], shape: list[int] | None, batch: bool = True, detail: str = ""
) -> Any:
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    sizes = [] if shape is None else [-1, *shape] if batch else shape
    proto = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
    attributes = {"_output_shapes": AttrValue(list=AttrValue.ListValue(shape=[proto]))}
    if detail:
        attributes["settings"] = AttrValue(s=detail.encode())
    return NodeDef(name=name, op=kind, input=inputs, attr=attributes)


def add_histogram(writer: "SummaryWriter", tag: str, values: Tensor, step: int) -> None:
    """Count values in `HISTOGRAM_BINS` equal bins on their device; values that are not all finite are left out."""
    flat = values.detach().flatten().float()
    low_high = torch.aminmax(flat)
    summary = torch.stack((low_high.min, low_high.max, flat.sum(), torch.dot(flat, flat)))
    if not torch.isfinite(summary).all():
        return
    low, high, total, squares = summary.tolist()
    if low == high:
        limits, counts = [high], [float(flat.numel())]
    else:
        counts = torch.histc(flat, HISTOGRAM_BINS, low, high).tolist()
        limits = torch.linspace(low, high, HISTOGRAM_BINS + 1, dtype=torch.float64)[1:].tolist()
    writer.add_histogram_raw(tag, low, high, flat.numel(), total, squares, limits, counts, step)


def write_projector(folder: Path, module: MLPModule, datamodule: ImageDataModule) -> None:
    """Write the last hidden layer's representation of test pictures where the projector looks for it.

    Its first principal components go into `folder`/projector, with true and decided classes and a sheet of the pictures
    themselves.
    """
    from PIL import Image
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    _, batch = spread_examples(datamodule.test_dataloader(), PROJECTED_EXAMPLES)
    with evaluating(module):
        signal = module.mlp.representation(module.normalization(batch.images))
        decided = decide(module.mlp.output(signal).float(), module.task).cpu()
    points = principal_components(signal.float().cpu(), PROJECTED_COMPONENTS)
    home = folder / "projector"
    home.mkdir(exist_ok=True)
    rows = ("\t".join(f"{number:.5g}" for number in point) for point in points.tolist())
    (home / "tensors.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    names = module.spec.class_names
    true = [pictures.target_name(target, names) for target in batch.targets.cpu()]
    said = [pictures.target_name(one, names) for one in decided] if names else []
    if names:
        lines = [
            "true\tdecided\tright",
            *(f"{a}\t{b}\t{'yes' if a == b else 'no'}" for a, b in zip(true, said, strict=True)),
        ]
    else:
        lines = true
    (home / "metadata.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name = "last hidden layer, test pictures" if len(module.mlp.hidden) else "inputs, test pictures"
    embedding.tensor_path, embedding.metadata_path = "projector/tensors.tsv", "projector/metadata.tsv"
    images = batch.images.float().cpu().clamp(0, 255).to(torch.uint8)
    num, height, width = images.shape
    columns = math.ceil(math.sqrt(num))
    if columns * max(height, width) <= LARGEST_SPRITE:
        sheet = torch.zeros(columns * columns, height, width, dtype=torch.uint8)
        sheet[:num] = images
        sheet = sheet.view(columns, columns, height, width).transpose(1, 2).reshape(columns * height, columns * width)
        Image.fromarray(sheet.numpy()).save(home / "sprite.png")
        embedding.sprite.image_path = "projector/sprite.png"
        embedding.sprite.single_image_dim.extend([width, height])
    (folder / "projector_config.pbtxt").write_text(str(config), encoding="utf-8")


def principal_components(points: Tensor, most: int) -> Tensor:
    """Coordinates along the directions of largest variance, the largest first.

    Args:
        points: (n, features).
        most: Components at most.

    Returns:
        (n, min(n, features, most)); the sign of each direction is that of its largest entry.
    """
    centred = points - points.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    directions = directions[:most]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    components: Tensor = centred @ (directions * largest.sign()).T
    return components


def add_hparams(writer: "SummaryWriter", settings: Mapping[str, Any], module: MLPModule, validated: bool) -> None:
    """Write the settings that matter, and which scalars are the run's final metrics, into the run's own event file.

    torch's `add_hparams` starts a folder of its own, so that the table shows each run twice.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

    infos: list[Any] = []
    values: dict[str, str | float] = {}
    for name, value in settings.items():
        group, _, short = name.partition(".")
        of_trainer = group == "trainer" and short in SHOWN_TRAINER_SETTINGS
        if name in LEFT_OUT_SETTINGS or not (group in ("model", "data", "seed_everything") or of_trainer):
            continue
        if name in TEXT_SETTINGS or isinstance(value, str):
            values[name] = "none" if value is None else str(value)
        elif value is not None:
            values[name] = float(value)
        text = isinstance(values.get(name), str)
        kind = api_pb2.DATA_TYPE_STRING if text else api_pb2.DATA_TYPE_FLOAT64
        # the page shows five columns until more are ticked: first the settings that are said to differ between runs
        infos.append(api_pb2.HParamInfo(name=name, type=kind, differs=name in HEADLINE_SETTINGS))
    splits = ("test", "validation") if validated else ("test",)
    tags = [f"{split}/{name}" for split in splits for name in (score_name(module.task), "loss")]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag) for tag in tags]
    start = SessionStartInfo()
    for name, value in values.items():
        if isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    contents = {
        metadata.EXPERIMENT_TAG: HParamsPluginData(
            experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
        ),
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(
            session_end_info=SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
        ),
    }
    for tag, content in contents.items():
        described = metadata.create_summary_metadata(content)
        part = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
        _event_file(writer).add_summary(Summary(value=[part]))
