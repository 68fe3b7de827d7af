"""One sheet of pictures: a row for each finding, with its code and severity above it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from project.data.channels import drawable
from project.diagnosis.data_examination.features.pictures import Illustrated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 5
"""So few that captions can be read on a telephone."""
MAX_ROWS = 12
COLOURS = {"severe": "#b00020", "warning": "#a05a00", "note": "#00566b"}


def contact_sheet(findings: Sequence[Illustrated]) -> "Figure":
    """The first pictures of each finding that has some, the most severe first; above them what was found."""
    from matplotlib.figure import Figure

    shown = [one for one in findings if one.examples][:MAX_ROWS]
    cell, heading, caption = 1.25, 0.34, 0.42  # inches
    height = max(len(shown), 1) * (heading + cell + caption) + 0.1
    width = COLUMNS * (cell + 0.12) + 0.1
    figure = Figure(figsize=(width, height), dpi=150)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    top = height - 0.05
    for one in shown:
        title = f"{one.finding.severity}: {one.finding.code.replace('_', ' ')}"
        color = COLOURS[one.finding.severity]
        axis.text(0.1, top - heading / 2, title, ha="left", va="center", fontsize=12, weight="bold", color=color)
        for column, example in enumerate(one.examples[:COLUMNS]):
            image = np.asarray(drawable(example.image[None])[0])
            scale = cell / max(image.shape[:2])
            left = 0.1 + column * (cell + 0.12)
            bottom = top - heading - image.shape[0] * scale
            extent = (left, left + image.shape[1] * scale, bottom, top - heading)
            axis.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
            axis.plot(*_frame(extent), color="#808080", linewidth=0.6)
            centre = (extent[0] + extent[1]) / 2
            text = "\n".join(line[:18] for line in example.caption.splitlines())
            axis.text(
                centre, bottom - 0.04, text, ha="center", va="top", fontsize=9, linespacing=1.05, parse_math=False
            )
        top -= heading + cell + caption
    if not shown:
        axis.text(width / 2, height / 2, "Nothing to show: no finding has pictures.", ha="center", fontsize=12)
    axis.set(xlim=(0, width), ylim=(0, height), aspect="auto")
    return figure


def _frame(extent: tuple[float, float, float, float]) -> tuple[list[float], list[float]]:
    left, right, bottom, top = extent
    return [left, right, right, left, left], [bottom, bottom, top, top, bottom]
