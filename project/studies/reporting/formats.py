"""How numbers are written in reports."""

import math
from collections.abc import Callable

from project.studies.reporting.statistics import Estimate


def percent_metric(metric: str) -> bool:
    """Whether a metric is a share, which people read as a percentage."""
    name = metric.rsplit("/", 1)[-1]
    return any(word in name for word in ("accuracy", "f1", "fraction", "roc_auc", "calibration_error"))


def format_value(value: float, metric: str) -> str:
    """A metric's value for people: shares as percentages."""
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.2f} %" if percent_metric(metric) else f"{value:.4g}"


def format_difference(value: float, metric: str) -> str:
    """A difference for people: of shares in percentage points."""
    if not math.isfinite(value):
        return "–"
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{100 * abs(value):.2f} points" if percent_metric(metric) else f"{sign}{abs(value):.3g}"


def format_p(p: float) -> str:
    """A p value for people."""
    return "–" if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def format_interval(found: Estimate, formatter: Callable[[float, str], str], metric: str) -> str:
    """An interval for people; a dash where nothing is known."""
    if found.n < 2:
        return "–"
    low, high = formatter(found.low, metric), formatter(found.high, metric)
    for unit in (" %", " points"):
        if low.endswith(unit):
            low = low.removesuffix(unit)
    return f"{low} to {high}"
