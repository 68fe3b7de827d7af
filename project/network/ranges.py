"""Which numbers a model's settings may be. This module imports no torch, see `activations`."""

import math
from collections.abc import Callable, Sequence

from project.errors import InputError

_SHARE = ("at least 0 and less than 1", lambda x: 0 <= x < 1)
_POSITIVE = ("positive and finite", lambda x: 0 < x < math.inf)
# every comparison with NaN is false, so NaN is refused everywhere
RANGES: dict[str, tuple[tuple[str, Callable[[float], bool]], str]] = {
    "depth": (("0 or more hidden layers", lambda x: x >= 0), "2"),
    "init_scale": (_POSITIVE, "1.0, or --model.init zeros for weights of 0"),
    "init_bias": (("finite", math.isfinite), "0.1"),
    "dropout": (_SHARE, "0.2"),
    "label_smoothing": (_SHARE, "0.1"),
    "huber_delta": (_POSITIVE, "1.0"),
    "learning_rate": (_POSITIVE, "0.001"),
    "momentum": (_SHARE, "0.9"),
    "weight_decay": (("0 or more, and finite", lambda x: 0 <= x < math.inf), "0.01"),
    "warmup_fraction": (_SHARE, "0.1"),
}
"""For each setting the range, in words and as a test, and the value that a refusal shows as an example."""


def check_numbers(**numbers: float) -> None:
    """Check some of the model's settings, given by their names, and raise an `InputError` for one out of range."""
    for name, value in numbers.items():
        (words, holds), example = RANGES[name]
        if not holds(value):
            what = f"model.{name} is {value:g}, but must be {words}"
            raise InputError(what, f"type for example --model.{name} {example}")


def check_width(width: int | Sequence[int], depth: int) -> None:
    """Raise an `InputError` if a hidden layer has no unit, or a list does not have one number for each layer."""
    if not isinstance(width, int) and len(width) != depth:
        example = f"--model.depth {len(width)}" if width else "--model.width 512"
        raise InputError(
            f"model.width lists {len(width)} layers, but model.depth is {depth}",
            f"type {example}, or one width per hidden layer",
        )
    if any(units < 1 for units in ([width] if isinstance(width, int) else width)):
        raise InputError(
            f"model.width is {width}, but every hidden layer needs at least 1 unit",
            "type for example --model.width 512",
        )
