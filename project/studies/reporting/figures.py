"""A study's figures: every seed's result, curves with bands, heat maps, and what happened in each layer."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from project.inside import open_inside
from project.studies.reporting.formats import clipped, percent_metric
from project.studies.statistics.collapse import collapsed_seeds
from project.studies.statistics.estimates import estimate
from project.studies.study import RunRecord, Study, larger_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933", "#882255", "#44AA99")
"""Colour-blind people can tell them apart too (Okabe & Ito 2008; Tol 2021); after the last, other dashes follow."""
DASHES = ("-", "--", ":")
DPI = 110
SAVED: dict[str, dict[str, Any]] = {
    "png": {"dpi": DPI, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
}
"""What each format is saved with, so that it says nothing of when and by what it was made."""
Values = Mapping[str, Mapping[int, float]]
"""A metric's value by arm and seed."""


def draw(
    study: Study, values: Mapping[str, Values], records: Sequence[RunRecord], chance: float | None
) -> dict[str, "Figure"]:
    """Every figure that the runs allow, by its name: results, heat_map, curves, layers.

    Args:
        study: The study.
        values: The study's metric, and each further one that a claim is about, by arm and seed.
        records: The study's final runs.
        chance: The accuracy of guessing; it is drawn where it is not far from the runs' accuracies.
    """
    figures = {"results": results_figure(study, values, chance)}
    if is_grid(study):
        figures["heat_map"] = heat_map_figure(study, values[study.metric])
    if any(len(record.history) > 1 for record in records):
        figures["curves"] = curves_figure(study, records)
    layers = layers_figure(study, records)
    if layers is not None:
        figures["layers"] = layers
    return figures


def is_grid(study: Study) -> bool:
    """Whether the arms are a grid of two factors with two levels or more each."""
    return len(study.factors) == 2 and all(len(levels) > 1 for levels in study.factors.values())


def save(figure: "Figure", folder: Path, name: str) -> None:
    """Write a figure as PNG and SVG; the same picture always gives the same bytes."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": name}):
        for kind, options in SAVED.items():
            with open_inside(folder, f"{name}.{kind}", "xb") as file:
                figure.savefig(file, format=kind, **options)


def results_figure(study: Study, values: Mapping[str, Values], chance: float | None) -> "Figure":
    """Every seed as a dot, each arm's mean with its 95 % interval, in a panel for each metric that claims are about."""
    heights = [1.0 + 0.34 * max(_num_arms(found), 1) for found in values.values()]
    figure, axes = _figure(7.2, sum(heights), rows=len(values))
    for axis, metric in zip(axes, values, strict=True):
        _draw_results(axis, study, metric, values[metric], chance)
    return figure


def overview_figure(
    study: Study, values: Mapping[str, Values], records: Sequence[RunRecord], chance: float | None
) -> "Figure":
    """The one figure of a lesson: the results, as dots or as a heat map, and the curves of the trainings."""
    num_arms = _num_arms(values[study.metric])
    grid = is_grid(study) and num_arms > 6
    height = 1.2 + 0.5 * len(next(iter(study.factors.values()))) if grid else 1.0 + 0.32 * num_arms
    curves = any(len(record.history) > 1 for record in records) and num_arms <= 10
    panels = len(values) + curves
    columns, rows = (2, -(-panels // 2)) if panels > 1 else (1, 1)
    figure, axes = _figure(10.5 if columns == 2 else 7.2, rows * min(max(height, 3.4), 9.0), columns, rows)
    for axis, metric in zip(axes, values, strict=False):
        if grid and metric == study.metric:
            _draw_heat_map(axis, study, values[metric])
        else:
            _draw_results(axis, study, metric, values[metric], chance)
    if curves:
        _draw_curves(axes[panels - 1], study, records, _all_curves(study))
        _legend(figure, axes[panels - 1])
    for axis in axes[panels:]:
        axis.set_visible(False)
    return figure


def _num_arms(values: Values) -> int:
    return sum(map(bool, values.values()))


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple["Figure", list["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9)
    return figure, axes


def _style(index: int) -> dict[str, Any]:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}


def _as_percent(axis: "Axes", metric: str, which: str = "y") -> None:
    from matplotlib.ticker import PercentFormatter

    if percent_metric(metric):
        (axis.yaxis if which == "y" else axis.xaxis).set_major_formatter(PercentFormatter(1.0))


def _draw_results(axis: "Axes", study: Study, metric: str, values: Values, chance: float | None) -> None:
    from matplotlib.ticker import MaxNLocator

    arms = [arm for arm in study.arms if values.get(arm)]
    for row, arm in enumerate(arms):
        points = list(values[arm].values())
        found = clipped(estimate(points, flips=bool(collapsed_seeds(points, larger_is_better(metric)))), metric)
        colour = COLOURS[list(study.arms).index(arm) % len(COLOURS)] if len(arms) <= len(COLOURS) else COLOURS[0]
        axis.plot(points, [row] * len(points), "o", color=colour, alpha=0.45, markersize=5, markeredgewidth=0)
        if math.isfinite(found.high - found.low):
            axis.plot([found.low, found.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot([found.mean], [row], "|", color=colour, markersize=13, markeredgewidth=2)
    axis.set_yticks(range(len(arms)), arms, parse_math=False)
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.set_xlabel(f"{metric}: each seed, mean, 95 % interval", fontsize=9)
    axis.grid(axis="x", alpha=0.3)
    every = [value for arm in arms for value in values[arm].values()]
    low, high = min(every, default=0.0), max(every, default=0.0)
    if 0 < 100 * low < high < math.inf:
        axis.set_xscale("log")
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
    if chance is not None and every and metric.endswith("/accuracy") and low - chance < 0.5 * (high - low):
        axis.axvline(chance, color="grey", linewidth=1, linestyle=":")
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
        axis.annotate("chance", (chance, 1), fontsize=8, color="grey", **place)
    _as_percent(axis, metric, "x")


def heat_map_figure(study: Study, values: Values) -> "Figure":
    """The mean of each combination of two factors."""
    rows, columns = study.factors.values()
    figure, axes = _figure(2.2 + 0.95 * len(columns), 1.3 + 0.5 * len(rows))
    _draw_heat_map(axes[0], study, values)
    return figure


def _draw_heat_map(axis: "Axes", study: Study, values: Values) -> None:
    (row_factor, rows), (column_factor, columns) = study.factors.items()
    table = [[math.nan] * len(columns) for _ in rows]
    for arm, levels in study.levels.items():
        if values.get(arm):
            mean = estimate(list(values[arm].values())).mean
            table[rows.index(levels[row_factor])][columns.index(levels[column_factor])] = mean
    axis.imshow(table, aspect="auto", cmap="cividis")
    known = [mean for row in table for mean in row if math.isfinite(mean)]
    middle = (min(known) + max(known)) / 2 if known else 0.0
    axis.set_xticks(range(len(columns)), columns, rotation=30 if max(map(len, columns)) > 9 else 0, parse_math=False)
    axis.set_yticks(range(len(rows)), rows, parse_math=False)
    axis.spines[:].set_visible(False)
    for i, row in enumerate(table):
        for j, mean in enumerate(row):
            if math.isfinite(mean):
                text = f"{100 * mean:.1f}" if percent_metric(study.metric) else f"{mean:.3g}"
                colour = "white" if mean < middle else "black"
                axis.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
    unit = " in %" if percent_metric(study.metric) else ""
    axis.set_title(f"{study.metric}{unit}, mean over seeds", fontsize=9, loc="left")


def curves_figure(study: Study, records: Sequence[RunRecord]) -> "Figure":
    """The selection metric after each epoch: mean over seeds, and the band between the worst and the best seed.

    With two factors there is one panel for each level of the second factor, and one colour for each of the first.
    """
    if not is_grid(study):
        figure, axes = _figure(7.2, 4.0)
        _draw_curves(axes[0], study, records, _all_curves(study))
    else:
        (first, colours), (second, panels) = study.factors.items()
        columns = min(len(panels), 3)
        rows = -(-len(panels) // columns)
        figure, axes = _figure(1.0 + 3.4 * columns, 0.6 + 2.7 * rows, columns, rows)
        for axis, level in zip(axes, panels, strict=False):
            chosen = {arm: levels[first] for arm, levels in study.levels.items() if levels[second] == level}
            _draw_curves(axis, study, records, {arm: (colours.index(name), name) for arm, name in chosen.items()})
            axis.set_title(level, fontsize=10, parse_math=False)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
    _legend(figure, axes[0])
    return figure


def _all_curves(study: Study) -> dict[str, tuple[int, str]]:
    return {arm: (index, arm) for index, arm in enumerate(study.arms)}


def _legend(
    figure: "Figure",
    axis: "Axes",
    place: Literal["outside lower center", "outside right upper"] = "outside lower center",
) -> None:
    """Name the curves outside of the panels, where no curve crosses the names."""
    handles, labels = axis.get_legend_handles_labels()
    if not handles:
        return
    columns = 1
    if place == "outside lower center":
        columns = max(min(len(labels), int(figure.get_figwidth() * 14 / (max(map(len, labels)) + 6))), 1)
    legend = figure.legend(handles, labels, loc=place, ncols=columns, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_curves(
    axis: "Axes", study: Study, records: Sequence[RunRecord], curves: Mapping[str, tuple[int, str]]
) -> None:
    """Draw the curves of some arms, each given with the number of its style and its name in the legend."""
    from matplotlib.ticker import MaxNLocator

    metric = study.selection_metric
    if not any(metric in record.history[0] for record in records if record.history):
        metric = "train/loss"  # a study without validation
    for arm, (number, name) in curves.items():
        runs = [[epoch.get(metric, math.nan) for epoch in r.history] for r in records if r.arm == arm and r.history]
        if not runs:
            continue
        # where runs stopped at different epochs, a mean over the longer ones alone would mislead
        points = list(zip(*runs, strict=False))  # ends with the shortest run
        epochs, style = range(1, len(points) + 1), _style(number)
        means = [sum(values) / len(values) for values in points]
        axis.plot(epochs, means, label=name, linewidth=1.6, marker="o" if len(points) == 1 else "", **style)
        lowest, highest = list(map(min, points)), list(map(max, points))
        axis.fill_between(epochs, lowest, highest, color=style["color"], alpha=0.15, linewidth=0)
    axis.set_xlabel("epoch", fontsize=9)
    axis.set_ylabel(f"{metric}: mean, all seeds", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axis.grid(alpha=0.3)
    _as_percent(axis, metric)


def layers_figure(study: Study, records: Sequence[RunRecord]) -> "Figure | None":
    """What each layer looks like, mean over seeds; None where no arm has two hidden layers."""
    from matplotlib.ticker import MaxNLocator

    panels = {
        ("start", "pre_activation_gradient_norm"): "gradient norm before training",
        ("end", "pre_activation_gradient_norm"): "gradient norm after training",
        ("end", "dead_fraction"): "silent units after training",
        ("end", "saturated_fraction"): "saturated outputs after training",
    }
    means = {panel: _layer_means(study, records, *panel) for panel in panels}
    deep = [arm for arm, line in means["start", "pre_activation_gradient_norm"].items() if len(line) >= 3]
    if not deep:
        return None
    positive = {panel: any(value > 0 for arm in deep for value in lines.get(arm, [])) for panel, lines in means.items()}
    shown = [panel for panel in panels if positive[panel] or not percent_metric(panel[1])]
    figure, axes = _figure(1.2 + 3.3 * len(shown), 3.4 + 0.1 * max(0, len(deep) - 12), len(shown))
    for axis, panel in zip(axes, shown, strict=True):
        for arm in deep:
            if line := means[panel].get(arm):
                style = _style(list(study.arms).index(arm))
                axis.plot(range(1, len(line) + 1), line, label=arm, linewidth=1.5, marker=".", **style)
        axis.set_title(panels[panel], fontsize=10)
        axis.set_xlabel("layer, from the input to the output", fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axis.grid(alpha=0.3)
        if percent_metric(panel[1]):
            _as_percent(axis, panel[1])
            axis.set_ylim(bottom=0)
        elif positive[panel]:
            axis.set_yscale("log", nonpositive="mask")
    _legend(figure, axes[0], "outside right upper")
    return figure


def _layer_means(study: Study, records: Sequence[RunRecord], when: str, number: str) -> dict[str, list[float]]:
    """Mean over seeds of a number of each layer, in order, by arm; fractions are of hidden layers only."""
    lines = {}
    for arm in study.arms:
        runs = [record.layers.get(when, []) for record in records if record.arm == arm]
        columns = zip(*(run[:-1] if percent_metric(number) else run for run in runs if run), strict=True)
        line = [[value for layer in column if (value := layer.get(number)) is not None] for column in columns]
        if line and all(line):
            lines[arm] = [sum(values) / len(values) for values in line]
    return lines
