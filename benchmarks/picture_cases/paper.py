"""Strokes put on paper and photographed: a pen of any width, paper of any colour, uneven light, noise, JPEG."""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from project.data.sources.picture_files import read_image

Array = np.ndarray[Any, np.dtype[Any]]
FINE = 8
"""How many times a small picture is enlarged before its ink is thinned."""
PAPERS = (
    ((250, 250, 247), (20, 20, 25)),  # printer paper, black
    ((245, 236, 214), (35, 55, 140)),  # cream, blue
    ((196, 172, 132), (40, 30, 25)),  # cardboard, black
    ((205, 222, 235), (50, 50, 60)),  # pale blue, pencil
    ((240, 210, 120), (130, 20, 30)),  # sticky note, red
    ((44, 62, 50), (225, 228, 220)),  # blackboard, chalk
)
"""The colours of paper and of ink."""


def skeleton(ink: Array) -> Array:
    """The middle line of ink, one pixel wide: Zhang & Suen 1984, Communications of the ACM 27(3).

    Args:
        ink: bool (height, width).
    """
    thin = np.pad(ink, 1)
    while True:
        before = int(thin.sum())
        for step in (0, 1):
            # the eight neighbours, clockwise from the one above
            ways = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
            around = np.stack([np.roll(thin, (-down, -right), (0, 1)) for down, right in ways])
            num = around.sum(0)
            begins = (~around & np.roll(around, -1, 0)).sum(0)
            up, right, down, left = around[0], around[2], around[4], around[6]
            spare = ~(up & right & down) & ~(right & down & left) if step == 0 else None
            if spare is None:
                spare = ~(up & right & left) & ~(up & down & left)
            thin = thin & ~((num >= 2) & (num <= 6) & (begins == 1) & spare)
        if int(thin.sum()) == before:
            return np.asarray(thin[1:-1, 1:-1])


def middle_line(image: Array) -> Array:
    """The points of the middle line of light ink on black, (points, 2), the ink's height being 1.

    Args:
        image: uint8 (height, width), as in MNIST's files.
    """
    fine = Image.fromarray(image).resize((image.shape[1] * FINE, image.shape[0] * FINE), Image.Resampling.BICUBIC)
    return points_of(skeleton(np.asarray(fine) > 127))


def points_of(line: Array) -> Array:
    """The points of a thin line, bool (height, width), around 0 and about 1 high: float64 (points, 2), x and y."""
    rows, columns = np.nonzero(line)
    points = np.stack((columns, rows), 1).astype(float)
    points -= (points.min(0) + points.max(0)) / 2
    return np.asarray(points / max(np.ptp(points[:, 1]), np.ptp(points[:, 0]) / 1.5, 1))


def photograph(points: Array, random: np.random.Generator, clean: bool = False) -> Array:
    """Points drawn with a pen, uint8 RGB (height, width, 3), of random width, slant, size, position, paper and light.

    Args:
        points: (points, 2), about 1 high, close enough together that a pen's marks overlap.
        random: It decides everything that is not given.
        clean: White on black or black on white without light, noise and JPEG, as a page's canvas gives it.
    """
    side = int(random.integers(240, 520))
    height = side * random.uniform(0.25, 0.7)
    slant = random.uniform(-0.25, 0.25)
    placed = np.stack((points[:, 0] - slant * points[:, 1], points[:, 1]), 1) * height
    placed *= min(1.0, 0.8 * side / max(np.ptp(placed[:, 0]), 1))
    room = (side - np.ptp(placed, 0)) / 2 - 0.06 * side
    placed += side / 2 - (placed.min(0) + placed.max(0)) / 2 + random.uniform(-1, 1, 2) * room.clip(0)
    marks = np.ones((side, side), bool)
    marks[tuple(placed.round().astype(int).clip(0, side - 1).T[::-1])] = False
    pen = np.ptp(placed[:, 1]) * random.uniform(0.03, 0.14)
    ink = np.clip(max(pen, 3.0) / 2 + 0.5 - ndimage.distance_transform_edt(marks), 0, 1)  # (side, side) in 0–1
    if clean:
        level = ink if random.random() < 0.5 else 1 - ink
        return np.repeat((255 * level).round().astype(np.uint8)[..., None], 3, 2)
    paper, colour = (np.array(one, float) for one in PAPERS[random.integers(len(PAPERS))])
    ink *= random.uniform(0.75, 1)
    seen = (1 - ink[..., None]) * paper + ink[..., None] * colour
    seen = ndimage.gaussian_filter(seen * light(side, random)[..., None], (0.7, 0.7, 0))
    seen += random.normal(0, random.uniform(1, 6), seen.shape)
    return jpeg(seen.clip(0, 255).astype(np.uint8), int(random.integers(60, 95)))


def light(side: int, random: np.random.Generator) -> Array:
    """Uneven light, (side, side) up to about 1: a slope across the picture, and in every second one a shadow."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    turn = random.uniform(0, 2 * np.pi)
    across = x * np.cos(turn) + y * np.sin(turn)
    fall = 1 - random.uniform(0, 0.5) * (across + 0.5).clip(0, 1)
    if random.random() < 0.5:
        turn = random.uniform(0, 2 * np.pi)
        edge = x * np.cos(turn) + y * np.sin(turn) + random.uniform(-0.3, 0.3)
        soft = random.uniform(0.01, 0.1)
        fall = fall * (1 - random.uniform(0.3, 0.6) / (1 + np.exp(-edge / soft)))
    return np.asarray(fall)


def jpeg(pixels: Array, quality: int) -> Array:
    """The pixels after JPEG's losses, uint8 (height, width, 3)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def as_read(pixels: Array) -> torch.Tensor:
    """What the project reads of these pixels when they are a PNG file, uint8 (height, width)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return read_image(io.BytesIO(file.getvalue()))
