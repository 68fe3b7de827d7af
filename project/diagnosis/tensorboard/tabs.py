"""What TensorBoard's tabs show beside scalars and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import yaml
from torch import Tensor, nn

from project.data.datamodule import ImageDataModule
from project.diagnosis.examples import evaluating, layer_tags, spread_examples
from project.diagnosis.judgement.findings import Finding, combined_remedy
from project.network.mlp import HiddenLayer
from project.task import decide, score_name, target_name
from project.training.internals import event_file_writer
from project.training.module import ImageModule

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


HISTOGRAM_BINS = 64
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


def chart_layout(module: ImageModule) -> dict[str, dict[str, list[Any]]]:
    """The Custom Scalars tab: training beside validation, and all layers in one chart for each quantity."""
    score = score_name(module.task)
    training = {
        "loss": ["Multiline", ["^train/loss$", "^validation/loss$"]],
        score: ["Multiline", [f"^train/{score}$", f"^validation/{score}$"]],
        "learning rate": ["Multiline", ["^learning_rate(/pg1)?$"]],
    }
    blocks = [cast(HiddenLayer, layer) for layer in module.mlp.hidden]
    bounded = [block.activation_row.saturation is not None for block in blocks]
    absent = ("dead_fraction" if all(bounded) else "", "" if any(bounded) else "saturated_fraction")
    layers = {
        title: ["Multiline", [f"^layer_{quantity}/"]]
        for title, quantity in LAYER_CHARTS.items()
        if quantity not in absent and (blocks or not quantity.startswith("activation"))
    }
    layers["gradient of the first over the last hidden layer"] = ["Multiline", ["^diagnostics/gradient_ratio$"]]
    return {"1 Training": training, "2 Layer by layer": layers}


def add_graph(writer: "SummaryWriter", module: ImageModule, loss: str) -> None:
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
    event_file_writer(writer).add_event(Event(graph_def=graph.SerializeToString()))


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


def write_projector(folder: Path, module: ImageModule, datamodule: ImageDataModule) -> None:
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
    true = [target_name(target, names) for target in batch.targets.cpu()]
    said = [target_name(one, names) for one in decided] if names else []
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


def add_hparams(writer: "SummaryWriter", settings: Mapping[str, Any], module: ImageModule, validated: bool) -> None:
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
        event_file_writer(writer).add_summary(Summary(value=[part]))
