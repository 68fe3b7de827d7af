"""What TensorBoard's tabs show beside scalars and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor, nn

from project.data.channels import gray
from project.data.datamodule import ImageDataModule
from project.data.loaders import spread_examples
from project.diagnosis.judgement.findings import Finding, combined_remedy
from project.diagnosis.measurement.examples import layer_tags
from project.diagnosis.measurement.quantities import DIAGNOSTICS
from project.inside import open_inside
from project.network.layers import evaluating
from project.pages import markdown
from project.task import decide, score_name, target_name
from project.training.internals import event_file_writer
from project.training.module import ImageModule

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


MAX_HISTOGRAM_BINS = 30
"""TensorBoard's page draws as many: finer ones would only be torn apart again."""
MAX_PROJECTED_EXAMPLES = 1000
MAX_COMPONENTS = 50
"""Principal components of the representation that the projector gets: its files hold numbers as text."""
MAX_SPRITE_SIDE = 8192
"""Pixels of a sprite sheet's side: the projector's page takes no more."""
LAYER_CHARTS = {
    "log10 of gradient norm (pre-activations)": "gradient_norm_log10",
    "log10 of gradient norm (weights)": "weight_gradient_norm_log10",
    "log10 of update / weight": "update_ratio_log10",
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
"""Settings that do not change the result and would only widen the HParams table."""
TEXT_SETTINGS = ("model.width", "data.augmentation", "data.classes", "trainer.precision")
"""Settings that may be a list: shown as text in every run, so that a column has one type."""
SHOWN_TRAINER_SETTINGS = ("max_epochs", "max_steps", "precision", "gradient_clip_val", "accumulate_grad_batches")


def settings_markdown(settings: Mapping[str, Any]) -> str:
    """Every setting that has a value, by its flag's name, as code."""
    lines = (
        f"{name}: {value if isinstance(value, str) else json.dumps(value, default=str)}"
        for name, value in settings.items()
        if value is not None
    )
    return _code("\n".join(lines))


def provenance_markdown(origin: Mapping[str, Any]) -> str:
    """Where the run comes from; an uncommitted change appears only with its length."""
    shown = {name: value for name, value in origin.items() if name != "git_diff"}
    num_changed = str(origin.get("git_diff") or "").count("\n")
    shown["uncommitted_change"] = f"{num_changed} lines, kept in provenance.json" if num_changed else "none"
    return _code(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))


def _code(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def judgement_markdown(findings: Sequence[Finding]) -> str:
    """The findings as a list, the most severe first, with the flags that would fix them."""
    if not findings:
        return "Nothing stands out."
    lines = []
    for finding in findings:
        remedy = f" Try `{' '.join(finding.remedy)}`." if finding.remedy else ""
        said = f"{markdown(finding.sentence)}{remedy}"
        lines.append(f"- **{finding.severity}** ({finding.code.replace('_', ' ')}): {said}")
    flags = combined_remedy(findings)
    return "\n".join([*lines, "", f"All together: `{' '.join(flags)}`" if len(findings) > 1 and flags else ""])


def chart_layout(module: ImageModule) -> dict[str, dict[str, list[Any]]]:
    """The Custom Scalars tab: training beside validation, and all layers in one chart for each quantity."""
    score = score_name(module.task)
    training = {
        **{name: [f"^curves/{name}/train$", f"^curves/{name}/validation$"] for name in ("loss", score)},
        "learning rate": ["^curves/optimizer/learning_rate$"],
    }
    bounded = [layer.activation_row.saturation is not None for layer in module.network.layers()[:-1]]
    absent = ("dead_fraction" if all(bounded) else "", "" if any(bounded) else "saturated_fraction")
    layers = {
        title: [f"^layer_{quantity}/"]
        for title, quantity in LAYER_CHARTS.items()
        if quantity not in absent and (bounded or not quantity.startswith("activation"))
    }
    layers |= {name.replace("_", " "): [f"^layer_{name}/"] for name in DIAGNOSTICS}
    layers["log10 of the first over the last hidden layer's gradient"] = ["^diagnostics/gradient_ratio_log10$"]
    tab = {"1 Training": training, "2 Layer by layer": layers}
    return {group: {title: ["Multiline", tags] for title, tags in charts.items()} for group, charts in tab.items()}


def add_graph(writer: "SummaryWriter", module: ImageModule, loss: str) -> None:
    """Write the network as a graph whose nodes are its layers, with shapes on the edges.

    It is made from the layers themselves: torch's own way traces the network, which is deprecated, and shows dozens of
    nodes that nobody wrote.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    spec, layers = module.spec, module.network.layers()
    nodes = [
        _node("images", "Input", [], [-1, *spec.shape]),
        _node("normalization", "Normalization", ["images"], [-1, spec.num_features]),
    ]
    last = total = "normalization"
    for tag, layer in zip(layer_tags(len(layers) - 1), layers, strict=True):
        # a layer of channels has places too, whose number depends on the input's size
        shape = [-1, layer.num_units, *[-1] * (layer.weight.ndim - 2)]
        for name, part in layer.parts.items():
            last = _add_part(nodes, f"{tag}/{name}", part, last, shape)
            if name == "linear":
                if layer.skips:
                    nodes.append(_node(f"{tag}/sum", "Add", [last, total], shape))
                    last = f"{tag}/sum"
                total = last
    nodes += [_node("targets", "Input", [], [-1]), _node("loss", loss, [last, "targets"], [])]
    graph = GraphDef(node=nodes, versions=VersionDef(producer=22))
    event_file_writer(writer).add_event(Event(graph_def=graph.SerializeToString()))


def _add_part(nodes: list[Any], name: str, part: nn.Module, before: str, output_shape: list[int]) -> str:
    """Append a layer's part and its parameters; returns the name of its node."""
    parameters = {f"{name}/{own}": list(parameter.shape) for own, parameter in part.named_parameters()}
    nodes += [_node(full_name, "Parameter", [], shape) for full_name, shape in parameters.items()]
    kind = type(part).__name__
    nodes.append(_node(f"{name}/{kind}", kind, [before, *parameters], output_shape, part.extra_repr()))
    return f"{name}/{kind}"


def _node(name: str, kind: str, inputs: list[str], shape: list[int], detail: str = "") -> Any:
    """A node of the graph; in its shape, −1 is the batch, and of a channel its places."""
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    proto = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
    attributes = {"_output_shapes": AttrValue(list=AttrValue.ListValue(shape=[proto]))}
    if detail:
        attributes["settings"] = AttrValue(s=detail.encode())
    return NodeDef(name=name, op=kind, input=inputs, attr=attributes)


def add_histogram(writer: "SummaryWriter", tag: str, values: Tensor, step: int) -> None:
    """Count values in equal bins on their device; values that are not all finite are left out.

    There are as many bins as the square root of the number of values, and at most `MAX_HISTOGRAM_BINS`: narrower ones
    would show chance.
    """
    flat = values.detach().flatten().float()
    low_high = torch.aminmax(flat)
    summary = torch.stack((low_high.min, low_high.max, flat.sum(), torch.dot(flat, flat)))
    if not torch.isfinite(summary).all():
        return
    low, high, total, squares = summary.tolist()
    if low == high:
        limits, counts = [high], [float(flat.numel())]
    else:
        num_bins = min(math.isqrt(flat.numel()), MAX_HISTOGRAM_BINS)
        counts = torch.histc(flat, num_bins, low, high).tolist()
        limits = torch.linspace(low, high, num_bins + 1, dtype=torch.float64)[1:].tolist()
    writer.add_histogram_raw(tag, low, high, flat.numel(), total, squares, limits, counts, step)


def write_projector(folder: Path, module: ImageModule, datamodule: ImageDataModule) -> None:
    """Write the last hidden layer's representation of test pictures where the projector looks for it.

    Its first principal components go into `folder`/projector, with true and decided classes. The projector shows them
    as a sheet of pictures, and as points. Nothing but a click in its page chooses what points are coloured by, so the
    pictures have the colours of their classes.
    """
    from PIL import Image
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    batch = spread_examples(datamodule.test_dataloader(), MAX_PROJECTED_EXAMPLES)
    with evaluating(module):
        signal = module.network.representation(module.normalization(batch.images))
        decided = decide(module.network.output(signal).float(), module.task).cpu()
    points = principal_components(signal.float().cpu(), MAX_COMPONENTS)
    rows = ["\t".join(f"{number:.5g}" for number in point) for point in points.tolist()]
    names, targets = module.spec.class_names, batch.targets.cpu()
    labels = [target_name(target, names) for target in targets]
    if names:  # with more than one column, the file needs a heading
        answers = (target_name(one, names) for one in decided)
        pairs = zip(labels, answers, strict=True)
        labels = ["true\tdecided\tright", *(f"{a}\t{b}\t{'yes' if a == b else 'no'}" for a, b in pairs)]
    for name, lines in {"tensors.tsv": rows, "metadata.tsv": labels}.items():
        with open_inside(folder, f"projector/{name}", "x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    images = gray(batch.images.float().cpu().clamp(0, 255))
    num, height, width = images.shape
    columns = math.ceil(math.sqrt(num))
    has_sheet = columns * max(height, width) <= MAX_SPRITE_SIDE
    if has_sheet:
        sheet = torch.zeros(columns * columns, height, width, 3, dtype=torch.uint8)
        sheet[:num] = on_colours(images, target_colours(targets, len(names)))
        sheet = sheet.view(columns, columns, height, width, 3).transpose(1, 2)
        with open_inside(folder, "projector/sprite.png", "xb") as file:
            Image.fromarray(sheet.reshape(columns * height, columns * width, 3).numpy()).save(file, "PNG")
    shown = "last hidden layer" if len(module.network.layers()) > 1 else "inputs"
    config = ProjectorConfig()
    # the projector shows the first name first
    for view in (f"pictures, coloured by true {'class' if names else 'value'}",) * has_sheet + (
        "points, for Color by",
    ):
        embedding = config.embeddings.add()
        embedding.tensor_name = f"{shown}: {view}"
        embedding.tensor_path, embedding.metadata_path = "projector/tensors.tsv", "projector/metadata.tsv"
        if view.startswith("pictures"):
            embedding.sprite.image_path = "projector/sprite.png"
            embedding.sprite.single_image_dim.extend([width, height])
    with open_inside(folder, "projector_config.pbtxt", "x", encoding="utf-8") as file:
        file.write(str(config))


def target_colours(targets: Tensor, num_classes: int) -> Tensor:
    """A colour for each target: well apart for classes, from dark to light for real numbers.

    Args:
        targets: Classes, int64, or real numbers, (n,).
        num_classes: How many classes there are; 0 for real numbers.

    Returns:
        Red, green and blue in 0–1, (n, 3).
    """
    from matplotlib import colormaps

    if num_classes:
        # whole numbers are places in a list of colours, others in 0–1 along a scale
        places, scale = (targets, "tab10") if num_classes <= 10 else (targets / num_classes, "hsv")
    else:
        low, high = targets.min(), targets.max()
        places, scale = (targets - low) / (high - low).clamp(min=1e-12), "viridis"
    return torch.from_numpy(colormaps[scale](places.numpy())[:, :3])


def on_colours(images: Tensor, colours: Tensor) -> Tensor:
    """Pictures whose black is a colour and whose white is white, so that a small one too shows its colour.

    Args:
        images: Gray levels 0–255, (n, height, width).
        colours: Red, green and blue in 0–1, (n, 3).

    Returns:
        uint8, (n, height, width, 3).
    """
    lightness = (images / 255)[..., None]
    return (255 * torch.lerp(colours[:, None, None].to(lightness), torch.ones(3), lightness)).to(torch.uint8)


def principal_components(points: Tensor, maximum: int) -> Tensor:
    """Coordinates of points, (n, features), along the directions of largest variance, the largest first.

    Returns:
        (n, min(n, features, maximum)); each direction has the sign of its largest entry, which makes it unique.
    """
    centred = points - points.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    directions = directions[:maximum]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    components: Tensor = centred @ (directions * largest.sign()).T
    return components


def add_hparams(writer: "SummaryWriter", settings: Mapping[str, Any]) -> None:
    """Write the settings that matter into the run's own event file.

    torch's `add_hparams` starts a folder of its own, so that the table shows each run twice. And it describes the whole
    experiment in each run, of which TensorBoard takes any one; without such a description TensorBoard itself looks
    through all runs, and puts the settings first in which they differ.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

    start = SessionStartInfo()
    for name, value in settings.items():
        group, _, short = name.partition(".")
        of_trainer = group == "trainer" and short in SHOWN_TRAINER_SETTINGS
        if name in LEFT_OUT_SETTINGS or not (group in ("model", "data", "seed_everything") or of_trainer):
            continue
        if name in TEXT_SETTINGS or isinstance(value, str):
            start.hparams[name].string_value = "none" if value is None else str(value)
        elif value is not None:
            start.hparams[name].number_value = float(value)
    contents = {
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(
            session_end_info=SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
        ),
    }
    for tag, content in contents.items():
        described = metadata.create_summary_metadata(content)
        part = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
        event_file_writer(writer).add_summary(Summary(value=[part]))
