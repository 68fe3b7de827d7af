"""What the demo's page shows: a network's answer as HTML, and the files of the page itself, which lie in `assets`.

Colours have one meaning throughout: orange is positive, blue negative, black 0.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from project.pages import template
from project.training.familiarity import UNLIKE_FRACTION

POSITIVE, NEGATIVE = (255, 138, 31), (59, 139, 255)
"""The colours of the largest positive and of the largest negative number, RGB; page.css has the first one too."""
UNDERLAY = 0.3
"""How bright the picture shines through the map of its pixels, as a share of its own brightness."""
MAX_BARS = 12
"""The maximum number of bars: fewer classes are shown in their own order, of more classes the most probable."""
MAX_DRAWN_UNITS = 4096
"""The maximum number of units that are drawn of a layer; the rest is only counted."""
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def _asset(name: str) -> str:
    return (files("project.serving.demo") / "assets" / name).read_text(encoding="utf-8")


CSS = _asset("page.css")
"""The page's style, in the colours of Gradio's theme, light or dark."""
CANVAS, CANVAS_SCRIPT = _asset("canvas.html"), _asset("canvas.js")
"""The drawing area and the gallery: they send JSON with picture (a data URL), kind, truth and paper, or nothing."""


@dataclass(frozen=True)
class Answer:
    """What one network answers to one picture.

    Args:
        name: The run's name.
        description: One line about the run.
        class_names: The classes' names in the order of their indices; empty for regression.
        image: What the network sees, uint8 (height, width) or (height, width, 3).
        inverted: Whether the picture was inverted for the network.
        prepared: Whether its ink was prepared as MNIST's was.
        answer: The probabilities, (classes,), or for regression one number in the target's unit, ().
        unit: The unit of a regression's number; it may be empty.
        decision: The index of the class decided for.
        hidden: Each hidden layer's outputs, (units,).
        attribution: What each pixel adds to the answer, (height, width).
        unlike: Whether the picture is unlike anything that the network was trained on; None if that is not known.
    """

    name: str
    description: str
    class_names: tuple[str, ...]
    image: Tensor
    inverted: bool
    prepared: bool
    answer: Tensor
    unit: str
    decision: int
    hidden: list[Tensor]
    attribution: Tensor
    unlike: bool | None = None

    @property
    def is_sound(self) -> bool:
        """Whether the network's outputs are numbers, which those of a diverged network are not."""
        return bool(self.answer.isfinite().all())

    @property
    def words(self) -> str:
        """The decided class, or the number and its unit."""
        return self.class_names[self.decision] if self.class_names else f"{self.answer:.2f} {self.unit}".rstrip()

    @property
    def shares(self) -> list[float]:
        """The classes' probabilities; empty for regression."""
        return self.answer.tolist() if self.class_names else []

    @property
    def shown_classes(self) -> list[int]:
        """The classes that get a bar, in the order of the bars."""
        shares = self.shares
        order = list(range(len(shares)))
        return order if len(order) <= MAX_BARS else sorted(order, key=lambda index: -shares[index])[:MAX_BARS]


def png_url(pixels: Pixels) -> str:
    """A data URL of a picture, uint8 (height, width) or (height, width, 3 or 4)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def signed_colors(values: Tensor, underlay: Tensor | None = None) -> Pixels:
    """Numbers as colours, uint8 (height, width, 3); the number of the largest size gets the full colour.

    Args:
        values: The numbers, (height, width); one that is not finite counts as 0.
        underlay: Levels 0–255, (height, width) or (height, width, 3), that shine through where a number is small.
    """
    values = torch.nan_to_num(values.float(), 0.0, 0.0, 0.0)
    share = (values / values.abs().max().clamp_min(1e-30))[..., None]  # in [−1, 1]
    color = torch.where(share > 0, torch.tensor(POSITIVE), torch.tensor(NEGATIVE)).float()
    ground = torch.zeros(())
    if underlay is not None:
        ground = UNDERLAY * underlay.float().reshape(*values.shape, -1)
    return (ground + (color - ground) * share.abs()).round().to(torch.uint8).numpy()


def unit_colors(outputs: Tensor) -> Pixels:
    """A layer's outputs, (units,), as a grid of coloured squares in reading order, uint8 RGBA (rows, columns, 4).

    The grid is about twice as wide as high; the squares that the last row lacks are transparent.
    """
    outputs = outputs[:MAX_DRAWN_UNITS]
    columns = min(2 ** round(math.log2(max(2 * len(outputs), 1)) / 2 + 0.25), len(outputs))
    rows = -(-len(outputs) // columns)
    padded = torch.zeros(rows * columns)
    padded[: len(outputs)] = outputs
    opacity = torch.arange(rows * columns) < len(outputs)
    colors = signed_colors(padded.view(rows, columns))
    return np.concatenate((colors, opacity.view(rows, columns, 1).numpy() * np.uint8(255)), 2)


def empty_page(names: Sequence[str], class_names: Sequence[str], has_gallery: bool = False) -> str:
    """The page while there is no picture."""
    return _fill("empty", names=names, class_names=class_names, has_gallery=has_gallery)


def error_page(cause: str, remedy: str) -> str:
    """The page when a picture cannot be answered."""
    return _fill("error", cause=_sentence(cause), remedy=_sentence(remedy))


def answer_page(answers: Sequence[Answer], truth: str, seconds: float) -> str:
    """All networks' answers to one picture, side by side, panel by panel.

    Args:
        answers: One per run.
        truth: What the picture shows, if that is known; otherwise empty.
        seconds: The time that the answers took.
    """
    return _fill(
        "answer",
        answers=answers,
        truth=truth,
        milliseconds=1000 * seconds,
        is_class=all(answer.class_names for answer in answers),
        same_picture=all(torch.equal(answer.image, answers[0].image) for answer in answers),
        percent=_percent,
        png_url=png_url,
        signed_colors=signed_colors,
        unit_colors=unit_colors,
        max_drawn_units=MAX_DRAWN_UNITS,
        unlike_fraction=UNLIKE_FRACTION,
    )


def _fill(name: str, **values: Any) -> str:
    return template("project.serving.demo", f"assets/{name}.html.jinja").render(values)


def _percent(share: float) -> str:
    """A share in per cent that reads 0 or 100 only if it is."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
