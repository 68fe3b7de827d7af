"""How numbers are written in reports."""

import math
from dataclasses import replace

from project.studies.statistics.estimates import Estimate


def percent_metric(metric: str) -> bool:
    """Whether a metric is a share, which people read as a percentage."""
    name = metric.rsplit("/", 1)[-1]
    return any(word in name for word in ("accuracy", "f1", "fraction", "roc_auc", "calibration_error"))


def format_value(value: float, metric: str) -> str:
    """A metric's value for people: shares as percentages."""
    if not math.isfinite(value):
        return _not_finite(value)
    return f"{100 * value:.2f} %" if percent_metric(metric) else f"{value:.4g}"


def format_difference(value: float, metric: str) -> str:
    """A difference for people: of shares in percentage points."""
    if not math.isfinite(value):
        return _not_finite(value)
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{100 * abs(value):.2f} points" if percent_metric(metric) else f"{sign}{abs(value):.3g}"


def format_p(p: float) -> str:
    """A p value for people."""
    return "–" if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def format_share(share: float) -> str:
    """A share for people who need no digits after the point."""
    return f"{100 * share:.0f} %"


def format_confidence(level: float) -> str:
    """The confidence of an interval at a level: 98.8 % at 0.0125; never rounded to 100 %."""
    percent, digits = 100 * (1 - level), 3
    while float(f"{percent:.{digits}g}") >= 100 and digits < 15:
        digits += 1
    return f"{percent:.{digits}g} %"


def format_interval(found: Estimate, metric: str) -> str:
    """The interval of a metric's value; a dash where nothing is known."""
    found = clipped(found, metric)
    return _from_to(found, format_value(found.low, metric), format_value(found.high, metric))


def format_difference_interval(found: Estimate, metric: str) -> str:
    """The interval of a difference; a dash where nothing is known."""
    return _from_to(found, format_difference(found.low, metric), format_difference(found.high, metric))


def clipped(found: Estimate, metric: str) -> Estimate:
    """An estimate whose interval has no impossible values: a share lies between 0 and 1."""
    if not percent_metric(metric) or not found.bounded:
        return found
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def _from_to(found: Estimate, low: str, high: str) -> str:
    if not found.bounded:
        return "–"
    for unit in (" %", " points"):
        if high.endswith(unit):
            low = low.removesuffix(unit)
    return f"{low} to {high}"


def _not_finite(value: float) -> str:
    return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
