"""Pictures of a run: a sample batch, the confusion matrix, mistakes, first-layer weights, gradients by layer and step.

Each function returns a matplotlib `Figure` that belongs to no window and leaves matplotlib's global state alone, except
`first_layer_tiles`, which needs no matplotlib. matplotlib is imported when the first figure is drawn.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from project.data.augmentation import Batch
from project.data.channels import drawable
from project.task import target_name
from project.training.module import ImageModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Picture = np.ndarray[Any, np.dtype[np.uint8]]
"""RGB, (height, width, 3)."""
GRID_COLUMNS = 5
MAX_PICTURES = 20
"""Pictures in a sample batch and among the most confident mistakes."""
READ_AS = "\nabove the truth, below what the network says"
MAX_UNITS = 64
"""Units of the first layer whose weights are drawn."""
MAX_LABELLED_CLASSES = 30
"""Classes of a confusion matrix in which every count is written."""


def to_picture(figure: "Figure") -> Picture:
    """Draw a figure, (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    cast(Any, canvas).draw()
    return cast(Picture, np.asarray(cast(Any, canvas).buffer_rgba())[..., :3].copy())


def _figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout=layout)


def _grid(images: Tensor, captions: Sequence[str], title: str, limits: tuple[float, float]) -> "Figure":
    """Pictures, (n, height, width) or (n, height, width, channels), in rows, each with its caption above."""
    images = drawable(images)
    if images.dim() == 4:  # colours are drawn from 0 to 1
        images = ((images - limits[0]) / max(limits[1] - limits[0], 1e-12)).clamp(0, 1)
    columns, rows = GRID_COLUMNS, max(-(-len(images) // GRID_COLUMNS), 1)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    # in inches: one pair of axes for all pictures is drawn ten times as fast as one for each
    cell_width, picture_height, caption_height, title_height = 1.42, 1.1, 0.16 * lines + 0.1, 0.45
    cell_height = picture_height + caption_height
    width, height = columns * cell_width, rows * cell_height + title_height + 0.1
    figure = _figure(width, height, layout=None)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.text(width / 2, height - title_height / 2, title, ha="center", va="center", fontsize=9.5, parse_math=False)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        centre = (index % columns + 0.5) * cell_width
        top = height - title_height - (index // columns) * cell_height - caption_height
        pixel = min((cell_width - 0.15) / image.shape[1], picture_height / image.shape[0])
        half, bottom = image.shape[1] * pixel / 2, top - image.shape[0] * pixel
        extent = (centre - half, centre + half, bottom, top)
        axis.imshow(image.numpy(), cmap="gray", vmin=limits[0], vmax=limits[1], extent=extent)
        axis.text(centre, top + 0.04, caption, ha="center", va="bottom", fontsize=8, linespacing=1.1, parse_math=False)
    axis.set(xlim=(0, width), ylim=(0, height), aspect="auto")
    return figure


def sample_batch_figure(batch: Batch, module: ImageModule) -> "Figure":
    """The first pictures of a training batch as the network gets them: augmented and normalized, with their targets."""
    spec, num = module.spec, min(MAX_PICTURES, len(batch.targets))
    with torch.no_grad():
        inputs = module.normalization(batch.images).float().cpu()  # (batch, features)
    captions = [target_name(target, spec.class_names) for target in batch.targets[:num]]
    weight = 1.0 if batch.weight is None else float(batch.weight)
    if batch.mixed_targets is not None and weight < 1:
        others = (target_name(target, spec.class_names) for target in batch.mixed_targets[:num])
        captions = [f"{weight:.0%} {a}\n{1 - weight:.0%} {b}" for a, b in zip(captions, others, strict=True)]
    low, high = float(inputs.min()), float(inputs.max())
    mean = round(float(inputs.mean()), 2) + 0.0  # not −0.00
    title = (
        f"The first batch as the network gets it ({num} of {len(inputs)}):\n"
        f"mean {mean:.2f}, sd {inputs.std():.2f}, from {low:.2f} to {high:.2f}"
    )
    return _grid(inputs[:num].view(num, *spec.shape), captions, title, (low, high))


def mistakes_figure(images: Tensor, shares: Tensor, targets: Tensor, class_names: tuple[str, ...]) -> "Figure":
    """The test pictures with wrong answers of which the network is most sure, the most sure first.

    Args:
        images: The pictures in levels 0–255, (n, height, width) or (n, height, width, channels).
        shares: The class probabilities that the network gives, (n, classes).
        targets: The true classes, (n,).
        class_names: The names in the order of the class indices.
    """
    sureness, decided = shares.max(1)
    wrong = (decided != targets).nonzero().flatten()
    surest = wrong[sureness[wrong].sort(descending=True, stable=True).indices][:MAX_PICTURES]
    captions = [
        f"{class_names[int(targets[i])]}\nsays {class_names[int(decided[i])]}, {sureness[i]:.0%}" for i in surest
    ]
    title = f"The {len(surest)} surest of {len(wrong):,} mistakes among {len(targets):,} test pictures{READ_AS}"
    if not len(wrong):
        title = f"No mistake among {len(targets):,} test pictures"
    return _grid(images[surest].float().cpu(), captions, title, (0, 255))


def errors_figure(images: Tensor, outputs: Tensor, targets: Tensor) -> "Figure":
    """The test pictures with the largest errors of a regression, the largest first.

    Args:
        images: The pictures in levels 0–255, (n, height, width) or (n, height, width, channels).
        outputs: What the network answers, in the target's unit, (n,).
        targets: The true values in the same unit, (n,).
    """
    largest = (outputs - targets).abs().sort(descending=True, stable=True).indices[:MAX_PICTURES]
    captions = [f"{targets[i]:.1f}\nsays {outputs[i]:.1f}" for i in largest]
    title = f"The {len(largest)} largest errors among {len(targets):,} test pictures{READ_AS}"
    return _grid(images[largest].float().cpu(), captions, title, (0, 255))


def confusion_figure(confusion: Tensor, class_names: tuple[str, ...]) -> "Figure":
    """Counts by true class (rows) and decided class (columns), coloured by the share of the true class.

    Args:
        confusion: The counts, int64 (classes, classes).
        class_names: The names in the order of the class indices.
    """
    num = len(class_names)
    shares = confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    side = min(max(3.5, 0.42 * num + 1.6), 14)
    figure = _figure(side + 0.9, side)
    axis = figure.add_subplot()
    image = axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="decided class", ylabel="true class")
    axis.set_xticks(range(num), class_names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axis.set_yticks(range(num), class_names, parse_math=False)
    if num <= MAX_LABELLED_CLASSES:
        for row, column in confusion.nonzero().tolist():
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    accuracy = float(confusion.diagonal().sum() / confusion.sum().clamp(min=1))
    axis.set_title(f"Test set: {accuracy:.2%} recognized", fontsize=11)
    return figure


def regression_figure(outputs: Tensor, targets: Tensor) -> "Figure":
    """Predicted against true values; both (n,), in the target's unit."""
    figure = _figure(5, 5)
    axis = figure.add_subplot()
    low = float(torch.minimum(outputs.min(), targets.min()))
    high = float(torch.maximum(outputs.max(), targets.max()))
    axis.plot([low, high], [low, high], color="black", linewidth=1, label="exact")
    axis.scatter(targets.numpy(), outputs.numpy(), s=4, alpha=0.3, linewidths=0)
    axis.set(xlabel="true", ylabel="predicted", aspect="equal")
    axis.set_title(f"Test set: rmse {(outputs - targets).double().square().mean().sqrt():.3g}", fontsize=11)
    axis.legend()
    return figure


def gradient_figure(steps: Sequence[int], norms: Sequence[Sequence[float]]) -> "Figure":
    """Heat map of log10 of each layer's pre-activation gradient norm; gray where there is no gradient at all.

    Args:
        steps: The steps at which the gradients were measured, ascending, (probes,).
        norms: For each of them one norm per layer, of which the output layer's is the last, (probes, layers).
    """
    values = np.asarray(norms, dtype=np.float64).T  # (layers, probes)
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    logarithms = np.ma.masked_invalid(np.log10(values))
    num_layers = len(values)
    figure = _figure(8, min(max(2.4, 0.32 * num_layers + 1.6), 10))
    axis = figure.add_subplot()
    # each column reaches from its step to the next one
    edges = [*steps, steps[-1] + (steps[-1] - steps[-2] if len(steps) > 1 else 1)]
    rows = np.arange(num_layers + 1) - 0.5
    # at least two powers of ten apart, so that healthy gradients do not look dramatic
    low, high = (float(logarithms.min()), float(logarithms.max())) if logarithms.count() else (0.0, 0.0)
    margin = max(2 - (high - low), 0) / 2
    mesh = axis.pcolormesh(edges, rows, logarithms, cmap="viridis", vmin=low - margin, vmax=high + margin)
    axis.set_facecolor("lightgray")
    axis.invert_yaxis()
    every = -(-num_layers // 25)
    names = [*(f"hidden {number}" for number in range(1, num_layers)), "output"]
    axis.set_yticks(range(0, num_layers, every), names[::every])
    axis.set_xlabel("step")
    axis.set_title("Gradient that reaches each layer's pre-activations", fontsize=11)
    figure.colorbar(mesh, label="log10 of its norm")
    return figure


def first_layer_tiles(module: ImageModule) -> Picture | None:
    """The weights of the first layer's first units as pictures: red for positive, blue for negative, white for 0.

    The darkest colour is the largest weight among those drawn. Every tile has the input's shape, or that of a
    convolution's kernel, with a gray frame. The weights of red, green and blue are the three colours of one tile, as
    deviations from a middle gray; for any other number of channels their mean is drawn. There is no picture of weights
    that belong to no pixels.
    """
    weight = torch.nan_to_num(module.network.layers()[0].weight.detach()[:MAX_UNITS].float().cpu())
    if weight.ndim == 4:  # (units, channels, height, width)
        weight = drawable(weight.movedim(1, -1))
    elif weight.ndim == 2 and weight.shape[1] == module.spec.num_features:
        weight = drawable(weight.view(-1, *module.spec.shape))
    else:
        return None
    height, width = weight.shape[1:3]
    share = weight / weight.abs().max().clamp_min(1e-12)  # in [−1, 1]
    if share.dim() == 4:
        colors = 127.5 * (1 + share)
    else:
        fade = 255 * (1 - share.abs())
        full = torch.full_like(fade, 255)
        colors = torch.stack((torch.where(share < 0, fade, full), fade, torch.where(share > 0, fade, full)), dim=3)
    columns = max(math.ceil(math.sqrt(len(weight))), 1)
    rows = -(-len(weight) // columns)
    sheet = torch.full((rows * (height + 1) + 1, columns * (width + 1) + 1, 3), 128.0)
    for index, tile in enumerate(colors):
        top, left = index // columns * (height + 1) + 1, index % columns * (width + 1) + 1
        sheet[top : top + height, left : left + width] = tile
    return cast(Picture, sheet.to(torch.uint8).numpy())
