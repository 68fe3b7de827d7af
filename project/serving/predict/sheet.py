"""One sheet of pictures: each as it was given, beside what the network saw of it, and the answer under both."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from project.data.channels import drawable
from project.errors import printable
from project.serving.predict.picture_reader import PictureBatch
from project.serving.predict.predict import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SHOWN = 60
"""The maximum number of pictures on a sheet."""
COLUMNS = 4
"""How many pairs stand side by side."""
MAX_LETTERS = 26
"""How much of a file's name is shown: its end."""


class Shown(NamedTuple):
    """One pair of a sheet: the answer, the picture as it was given, and as the network saw it, both uint8."""

    prediction: Prediction
    given: Tensor
    seen: Tensor


def kept(
    answered: Iterable[tuple[list[Prediction], PictureBatch]], shown: list[Shown]
) -> Iterator[tuple[list[Prediction], PictureBatch]]:
    """Pass on what is answered, and add its first MAX_SHOWN pictures to a list."""
    for predictions, batch in answered:
        new = zip(predictions, batch.given, batch.images, strict=True)
        shown.extend([Shown(*row) for row in new][: MAX_SHOWN - len(shown)])
        yield predictions, batch


def sheet(shown: list[Shown]) -> "Figure":
    """The pictures side by side, given and seen; what is unlike anything the network was trained on is marked."""
    from matplotlib.figure import Figure

    rows = -(-len(shown) // COLUMNS) or 1
    figure = Figure(figsize=(2.4 * COLUMNS, 1.65 * rows), dpi=120)
    for place, (prediction, given, seen) in enumerate(shown):
        column, row = place % COLUMNS, place // COLUMNS
        for side, image in enumerate((given, seen)):
            left, bottom = (column + 0.04 + 0.47 * side) / COLUMNS, 1 - (row + 0.7) / rows
            axis = figure.add_axes((left, bottom, 0.45 / COLUMNS, 0.65 / rows))
            axis.imshow(drawable(image[None])[0].numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set(xticks=(), yticks=())
        name, answer = printable(prediction.file), prediction.answer
        name = name if len(name) <= MAX_LETTERS else f"…{name[1 - MAX_LETTERS :]}"
        color = "#b00020" if prediction.unlike else "#000000"
        answer += ", unlike its training" if prediction.unlike else ""
        middle = (column + 0.5) / COLUMNS
        for line, text in enumerate((name, answer)):
            place_y = 1 - (row + 0.74 + 0.11 * line) / rows
            figure.text(
                middle,
                place_y,
                text,
                ha="center",
                va="top",
                fontsize=8,
                color=color if line else "#555555",
                parse_math=False,
            )
    return figure
