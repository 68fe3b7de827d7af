"""Pictures that are no digits, by kind, in two halves: with other letters, other fonts, other noise and other faces."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from benchmarks.picture_cases.paper import Array, photograph, points_of, skeleton

Half = Literal["development", "report"]
LETTERS: dict[Half, str] = {"development": "ACFHKNRUWcdfkmruwx", "report": "EJMPVXYaehnptvy"}
"""Letters that are not usually mistaken for a digit, as are O0 I1 L1 Z2 S5 G6 b6 T7 B8 g9 q9 and their like."""
FONTS: dict[Half, tuple[str, ...]] = {
    "development": ("DejaVuSans", "DejaVuSansMono"),
    "report": ("DejaVuSerif", "STIXGeneral", "cmss10"),
}
"""Files of matplotlib's."""


def letter(half: Half, random: np.random.Generator) -> Array:
    """The middle line of a letter's print, drawn with a pen and photographed: uint8 RGB."""
    name = FONTS[half][random.integers(len(FONTS[half]))]
    font = ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", f"{name}.ttf"), 160)
    canvas = Image.new("L", (300, 300))
    ImageDraw.Draw(canvas).text((60, 40), LETTERS[half][random.integers(len(LETTERS[half]))], 255, font)
    return photograph(_points(canvas), random)


def face(half: Half, random: np.random.Generator) -> Array:
    """A face made of lines, drawn with a pen and photographed: uint8 RGB."""
    canvas = Image.new("L", (300, 300))
    pen = ImageDraw.Draw(canvas)
    wide, high = random.integers(80, 120, 2)
    box = (150 - wide, 150 - high, 150 + wide, 150 + high)
    eye, apart, drop = (
        int(value) for value in (random.integers(6, 16), random.integers(25, 45), random.integers(20, 45))
    )
    eyes = [(150 + sign * apart, 150 - drop) for sign in (-1, 1)]
    mouth = (110, 165, 190, 165 + int(random.integers(20, 45)))
    if half == "development":
        pen.ellipse(box, outline=255)
        for x, y in eyes:
            pen.ellipse((x - eye, y - eye, x + eye, y + eye), outline=255)
        pen.arc(mouth, 10, 170, fill=255)
    else:
        corners = [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])]
        top = [(150, box[1] - 40), (box[2], box[3]), (box[0], box[3])]
        pen.polygon(corners if random.random() < 0.5 else top, outline=255)
        for x, y in eyes:
            pen.line([(x - eye, y - eye), (x + eye, y + eye)], fill=255)
            pen.line([(x - eye, y + eye), (x + eye, y - eye)], fill=255)
        pen.line([(mouth[0], mouth[1]), (150, mouth[3]), (mouth[2], mouth[1])], fill=255)
    return photograph(_points(canvas), random)


def noise(half: Half, random: np.random.Generator) -> Array:
    """Noise without any form, uint8 RGB, of the network's size or larger."""
    side = int(random.choice([28, 64, 280]))
    kind = random.integers(3)
    levels: Array
    if half == "development":
        if kind == 0:
            levels = random.normal(128, 60, (side, side))
        elif kind == 1:
            levels = random.uniform(0, 255, (side, side))
        else:
            levels = _stretched(ndimage.gaussian_filter(random.normal(size=(side, side)), side / 40))
    elif kind == 0:
        return random.integers(0, 256, (side, side, 3), dtype=np.uint8)  # each colour by itself
    elif kind == 1:
        levels = 255.0 * (random.random((side, side)) < random.uniform(0.1, 0.5))
    else:
        blocks = random.uniform(0, 255, (7, 7))
        levels = np.asarray(Image.fromarray(blocks.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST))
    return np.repeat(np.clip(levels, 0, 255).astype(np.uint8)[..., None], 3, 2)


def _stretched(values: Array) -> Array:
    return np.asarray(255 * (values - values.min()) / np.ptp(values))


def _points(canvas: Image.Image) -> Array:
    return points_of(skeleton(np.asarray(canvas) > 127))


KINDS: dict[str, Callable[[Half, np.random.Generator], Array]] = {"noise": noise, "letters": letter, "faces": face}
"""What makes one picture of each kind."""
