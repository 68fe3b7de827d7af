"""Drawings and photographs of handwriting prepared as MNIST's digits were: even light, ink found, width, place.

    from project.serving.predict.ink import prepare_ink
    image, inverted = prepare_ink(read_image(Path("photograph.jpg")), 28, 28)  # uint8 (28, 28), light on black

LeCun et al. 1998, section III.A, describe MNIST's own preparation: a box of 20 × 20 pixels, its ink's centre of mass in
the middle of 28 × 28. What a photograph needs before that is the classical way of reading documents: the light is
divided by an estimate of the paper's (a median over wide windows), and the threshold is Otsu's (Otsu 1979, IEEE
Transactions on Systems, Man, and Cybernetics 9(1)).
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from project.serving.predict import Polarity

BOX_FRACTION = 20 / 28
"""The side of the box for the ink as a share of the network's input (LeCun et al. 1998, section III.A)."""
STROKE_FRACTIONS = (2.3 / 28, 3.2 / 28)
"""Strokes' width as a share of the input's shorter side: the middle half of MNIST's training pictures."""
MIN_CONTRAST = 8
"""With fewer gray levels between its darkest and lightest place, a picture counts as blank."""
WORK_SIDE = 400
"""The longer side, in pixels, at which ink is looked for; larger pictures are made smaller."""
PAPER_SIDE = 32
"""The longer side, in pixels, at which the paper's level is estimated, over windows of half of it."""
BOX_SIDE = 160
"""The longer side of the ink, in pixels, at which the width of its strokes is changed."""
ADDED_LEVEL = 256
"""Added to the paper's level before contrast is divided by it: of light on black paper nothing is known."""
FLAT_FRACTION = 0.5
"""Where more than this share of a picture has one and the same level, that is its background's."""
SPECK_FRACTION = 0.04
"""A part of the ink with less than this share of the largest part's area is dirt."""
Array = np.ndarray[Any, np.dtype[Any]]


def prepare_ink(image: Tensor, height: int, width: int, polarity: Polarity = "auto") -> tuple[Tensor, bool] | None:
    """Light ink on black, as MNIST has it, from a picture of ink on paper of any brightness in uneven light.

    Args:
        image: Gray levels, uint8 (height, width), of any size.
        height: The height of the network's input.
        width: The width of the network's input.
        polarity: as_is if the ink is lighter than the paper, invert if it is darker; auto decides by which of the two
            is rarer.

    Returns:
        uint8 (`height`, `width`) and whether the ink was darker than the paper; None if the picture is blank.
    """
    if int(image.max()) - int(image.min()) < MIN_CONTRAST:
        return None
    contrast, inverted = _even_contrast(image.numpy(), polarity)
    ink = _crop(_without_specks(contrast > threshold(contrast)))
    shorter = min(height, width)
    box_height, box_width = (max(round(side * BOX_FRACTION), 1) for side in (height, width))
    for _ in range(2):  # another width of the strokes changes how large the whole is
        ink = _with_strokes(ink, [fraction * shorter for fraction in STROKE_FRACTIONS], box_height, box_width)
    factor = min(box_height / ink.shape[0], box_width / ink.shape[1])
    return _place(_resized(ink, factor), height, width), inverted


def _even_contrast(levels: Array, polarity: Polarity) -> tuple[Array, bool]:
    """How much lighter each place is than the paper around it, and whether dark and light were exchanged for that."""
    small = _resized(levels, min(1.0, WORK_SIDE / max(levels.shape)))
    counts = np.bincount(levels.ravel(), minlength=256)
    if counts.max() > FLAT_FRACTION * levels.size:  # a drawing on a screen: no light fell on it
        contrast = small - float(counts.argmax())
    else:
        small = ndimage.gaussian_filter(small, 1.0)
        coarse = _resized(small, min(1.0, PAPER_SIDE / max(small.shape)))
        coarse = ndimage.median_filter(coarse, PAPER_SIDE // 2 + 1, mode="nearest")
        paper = np.asarray(Image.fromarray(coarse).resize(small.shape[::-1], Image.Resampling.BILINEAR))
        contrast = (small - paper) / (paper + ADDED_LEVEL)
    tail = contrast - np.median(contrast)
    inverted = polarity == "invert" or (polarity == "auto" and float((tail * tail * tail).mean()) < 0)
    return (-contrast if inverted else contrast), inverted


def threshold(values: Array) -> float:
    """The threshold that leaves the least variance within the two sides (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * centres)
    above = np.maximum(below[-1] * 1.0 - below, 1e-9)
    between = (sums[-1] * below / below[-1] - sums) ** 2 / (np.maximum(below, 1) * above)
    return float(centres[np.argmax(between[:-1])])


def _without_specks(ink: Array) -> Array:
    parts, num = ndimage.label(ink, np.ones((3, 3)))
    if num < 2:
        return ink
    areas = np.bincount(parts.ravel())[1:]
    large = np.flatnonzero(areas > SPECK_FRACTION * areas.max()) + 1
    return np.isin(parts, large)


def _with_strokes(ink: Array, limits: list[float], box_height: int, box_width: int) -> Array:
    """Ink of about BOX_SIDE, its strokes' mean width brought within limits, which are in pixels of the box."""
    factor = min(box_height / ink.shape[0], box_width / ink.shape[1])
    finer = BOX_SIDE / max(box_height, box_width)
    fine = np.pad(_resized(ink, factor * finer) > 0.5, round(limits[1] * finer) + 1)
    inside = ndimage.distance_transform_edt(fine)
    # in a long strip the mean distance to the edge is a quarter of its width
    stroke = 4 * inside[fine].mean() if fine.any() else 0.0
    grow = (min(max(stroke, limits[0] * finer), limits[1] * finer) - stroke) / 2
    signed = np.where(fine, inside - 0.5, 0.5 - ndimage.distance_transform_edt(~fine))
    changed = signed > -grow
    return _crop(changed) if changed.any() else ink


def _crop(ink: Array) -> Array:
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _resized(values: Array, factor: float) -> Array:
    """float32 values at another size: the mean of each pixel's area where it gets smaller."""
    size = [max(round(side * factor), 1) for side in values.shape[::-1]]
    kind = Image.Resampling.BOX if factor <= 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, kind))


def _place(levels: Array, height: int, width: int) -> Tensor:
    """Levels from 0 to 1 on black, uint8 up to 255, their centre of mass in the middle unless that cuts ink off."""
    placed = torch.zeros(height, width)
    box = torch.from_numpy(levels / levels.max())
    starts = []
    for size, weights in zip((height, width), (box.sum(1), box.sum(0)), strict=True):
        mass_center = (weights * torch.arange(len(weights))).sum() / weights.sum()
        # pixel 14 of 28, where it is in MNIST's files on average
        starts.append(min(max(round(size / 2 - mass_center.item()), 0), size - len(weights)))
    placed[starts[0] : starts[0] + box.shape[0], starts[1] : starts[1] + box.shape[1]] = box
    return (255 * placed).round_().to(torch.uint8)
