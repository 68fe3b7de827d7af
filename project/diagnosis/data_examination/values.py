"""Gray levels that are clipped or coarse, and pixels that carry nothing."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from project.diagnosis.data_examination.features.pictures import ExaminedData, Example, Illustrated, spread_indices
from project.diagnosis.judgement.findings import Finding, Severity

SAMPLE = 10_000
FEW_LEVELS = 16
"""With at most this many gray levels (4 bits) the pictures are coarse; noted up to four times as many."""
PILED = 0.5
"""Pictures are clipped when more than this share of what is not background has the largest (or smallest) value. MNIST
has 4 % at 255."""
PILED_WITHIN = 0.1
"""The same where that value is well within 0–255: sensors and drawings saturate at the ends, not there."""
LIVE = 0.2
"""A constant pixel is no quiet border when a neighbour differs from its own usual value in more than this share of the
pictures: towards a natural border the activity falls little by little."""
CERTAIN = 15.0
"""A pixel that is constant in one split should have changed this many times, as often as it does in the other: by
chance it is constant with probability exp(−15)."""
BORDER = 0.25
"""Constant pixels of a quiet border are noted above this share."""


def level_counts(images: Tensor) -> Tensor:
    """How often each gray level occurs in a sample of the pictures, int64 (256,)."""
    return torch.bincount(images[spread_indices(len(images), SAMPLE)].flatten().int(), minlength=256)


def judge_levels(data: ExaminedData) -> list[Illustrated]:
    """Judge how many gray levels there are, and whether they pile up at an end."""
    found = []
    for split in ("train", "test"):
        if split not in data.splits:
            continue
        part = data.splits[split]
        counts = level_counts(part.images)
        used = counts.nonzero().flatten()
        step = _common_step(used)
        if len(used) < 2:
            continue  # all pictures are blank, which is told elsewhere
        examples = [Example(part.images[i], split) for i in spread_indices(len(part.images), 6)]
        if len(used) <= 4 * FEW_LEVELS or step > 1:
            severity: Severity = "warning" if len(used) <= FEW_LEVELS else "note"
            sentence = f"The pictures of {split} have only {len(used)} gray levels, {step} apart"
            sentence += ": fine differences are lost. Go back to the source before they were rounded."
            found.append(Illustrated(Finding("few_gray_levels", severity, sentence), examples))
        usual = int(counts.argmax())
        others = counts.clone()
        others[usual] = 0
        for end in (int(used[-1]), int(used[0])):
            share = float(others[end] / others.sum())
            within = 5 < end < 250
            if len(used) > FEW_LEVELS and share > (PILED_WITHIN if within else PILED):
                sentence = (
                    f"{share:.0%} of what is not background in {split} has the gray level {end}: the pictures are "
                    "clipped, and differences beyond it are lost."
                )
                found.append(Illustrated(Finding("clipped", "warning", sentence), examples))
    return found


def _common_step(used: Tensor) -> int:
    """Greatest common divisor of the distances between gray levels."""
    return max(math.gcd(*used.diff().tolist()), 1)


def constant_pixels(images: Tensor) -> Tensor:
    """Which pixels have one and the same value in all pictures, in all channels, bool (height, width)."""
    same = images.amin(0) == images.amax(0)
    return same if same.dim() == 2 else same.all(2)


def activity(images: Tensor) -> Tensor:
    """Share of a sample of the pictures in which each pixel differs from its own usual value, (height, width)."""
    sample = images[spread_indices(len(images), SAMPLE)]
    usual = images[spread_indices(len(images), 1001)].median(dim=0).values
    other = sample != usual
    return (other if other.dim() == 3 else other.any(3)).float().mean(0)


def judge_pixels(data: ExaminedData) -> list[Illustrated]:
    """Judge pixels that never change in training: within the picture, or in a wide border."""
    images = data.learning.images
    dead = constant_pixels(images)
    if dead.all():
        sentence = "Every picture is the same: there is nothing to learn from."
        examples = [Example(images[0], "all pictures")]
        return [Illustrated(Finding("constant_features", "severe", sentence), examples)]
    padded = functional.pad(activity(images), (1, 1, 1, 1))
    around = torch.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]).amax(0)
    sharp = dead & (around > LIVE)
    edged = functional.pad(dead.float(), (1, 1, 1, 1))
    beside = edged[:-2, 1:-1] + edged[2:, 1:-1] + edged[1:-1, :-2] + edged[1:-1, 2:]
    compact = float((beside[dead] >= 2).float().mean()) > 0.5 if dead.any() else False
    found = []
    if sharp.any() and not is_frame(dead):
        sentence = (
            f"{int(dead.sum())} pixels ({dead.float().mean():.1%}) never change although pixels beside them do: "
            f"{region_text(dead)}. They look cut off or stuck."
        )
        severity: Severity = "warning" if compact and dead.float().mean() > 0.005 else "note"
        found.append(Illustrated(Finding("dead_region", severity, sentence), _examples(images, "train")))
    elif dead.float().mean() > BORDER:
        sentence = f"{dead.float().mean():.0%} of the pixels, all at the border, never change: they carry nothing."
        found.append(Illustrated(Finding("constant_features", "note", sentence), _examples(images, "train")))
    return found


def judge_one_split(data: ExaminedData) -> list[Illustrated]:
    """Judge pixels that never change in one split, although they are busy in the other."""
    if "test" not in data.splits:
        return []
    parts = {"training": data.learning.images, "test": data.splits["test"].images}
    for name, other in (("test", "training"), ("training", "test")):
        images = parts[name]
        busy = activity(parts[other])
        dead = constant_pixels(images) & (busy * len(images) > CERTAIN)
        if (dead & (busy > LIVE)).any():
            sentence = (
                f"{int(dead.sum())} pixels never change in {name} but do in {other}: {region_text(dead)}. Something "
                "has erased them."
            )
            severity: Severity = "severe" if dead.float().mean() > 0.05 else "warning"
            examples = _examples(images, name) + _examples(parts[other], other)
            return [Illustrated(Finding("dead_region", severity, sentence), examples)]
    return []


def is_frame(dead: Tensor) -> bool:
    """Whether the constant pixels are a frame on all four sides, as padding makes it."""
    live = ~dead
    rows, columns = live.any(1).nonzero().flatten(), live.any(0).nonzero().flatten()
    widths = [int(rows[0]), int(columns[0]), len(dead) - 1 - int(rows[-1]), dead.shape[1] - 1 - int(columns[-1])]
    inside = dead[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return min(widths) > 0 and max(widths) - min(widths) <= 2 and not bool(inside.any())


def region_text(mask: Tensor) -> str:
    """Where a region is, by the rows and columns of the box around it, counted from 1."""
    rows, columns = mask.any(1).nonzero().flatten() + 1, mask.any(0).nonzero().flatten() + 1
    return f"rows {rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]}"


def _examples(images: Tensor, caption: str) -> list[Example]:
    return [Example(images[i], caption) for i in spread_indices(len(images), 3)]
