"""Learning-rate schedules (N29) by name, one row each, in pure Python."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from project.settings import check_numbers

FINAL_EXPONENTIAL = 0.01
"""The share of the learning rate at which the exponential schedule ends."""
CYCLES = 3
"""The number of triangles of the cyclic schedule, each from a tenth of the learning rate to all of it and back."""
ONE_CYCLE_RISE = 0.3
"""The share of the steps in which one_cycle rises, from 1/25 of the learning rate; it ends at 1/250,000 of it."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One schedule.

    Attributes:
        factor: It gives what the learning rate is multiplied by at step k of n, for k = 0 … n, from k, n and the share
            of the whole training that was done before this epoch.
        steady: Whether the rate stays the same from start to end.
        oscillates: Whether the rate goes up again after it went down, so that the loss may do so too.
    """

    factor: Callable[[int, int, float], float]
    steady: bool
    oscillates: bool


def _cosine_between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(k: int, n: int, _: float) -> float:
    """Half a cosine from 1/25 up to 1, then one down to 1/250,000 at the last step (Smith & Topin 2018).

    The corners are those of torch's OneCycleLR: the climb ends at step 0.3·n − 1, the fall at n − 1. Under 4 steps
    there is no room for a climb.
    """
    peak, last = ONE_CYCLE_RISE * n - 1, n - 1
    if k <= peak:
        return _cosine_between(1 / 25, 1.0, k / peak)
    return _cosine_between(1.0, 1 / 250_000, min((k - peak) / (last - peak), 1.0))


# fmt: off
SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(steady=True, oscillates=False, factor=lambda *_: 1.0),
    "linear": Schedule(steady=False, oscillates=False, factor=lambda k, n, _: 1 - k / n),
    # a tenth for epochs from the middle of the training on, a hundredth from three quarters (He et al. 2016)
    "step": Schedule(steady=False, oscillates=False,
        factor=lambda _k, _n, done: 0.1 ** ((done >= 0.5) + (done >= 0.75))),
    # the same factor at every step
    "exponential": Schedule(steady=False, oscillates=False,
        factor=lambda k, n, _: cast(float, FINAL_EXPONENTIAL ** (k / n))),
    # Loshchilov & Hutter 2017, eq. 5, one cycle
    "cosine": Schedule(steady=False, oscillates=False, factor=lambda k, n, _: _cosine_between(1.0, 0.0, k / n)),
    # Smith 2017, triangular
    "cyclic": Schedule(steady=False, oscillates=True,
        factor=lambda k, n, _: 0.1 + 0.9 * (1 - abs(2 * (k * CYCLES / n % 1.0) - 1))),
    "one_cycle": Schedule(steady=False, oscillates=False, factor=_one_cycle),
}
# fmt: on


def learning_rate_factor(
    schedule: str, step: int, num_steps: int, steps_per_epoch: int = 1, warmup_fraction: float = 0.0
) -> float:
    """What the learning rate is multiplied by at one optimizer step: a closed form, so that resuming is exact.

    A warm-up takes the first `warmup_fraction` of the steps, rounded, but never the last step. It rises linearly to
    where the schedule starts, which is 1 for all but cyclic and one_cycle. The steps after it are numbered k = 0 … n−1.

    Args:
        schedule: A key of `SCHEDULES`.
        step: How many optimizer steps were done, from 0; beyond num_steps it counts as num_steps.
        num_steps: How many optimizer steps the whole training has, at least 1.
        steps_per_epoch: How many optimizer steps an epoch has, for the schedule `step`.
        warmup_fraction: The share of the steps that the warm-up takes, in [0, 1).

    Returns:
        A share in [0, 1].
    """
    check_numbers(warmup_fraction=warmup_fraction)
    step = min(step, num_steps)
    warmup_steps = min(round(warmup_fraction * num_steps), num_steps - 1)  # one step is left in any case
    if step < warmup_steps:
        start = learning_rate_factor(schedule, warmup_steps, num_steps, steps_per_epoch, warmup_fraction)
        return start * (step + 1) / (warmup_steps + 1)
    done = step // steps_per_epoch * steps_per_epoch / num_steps  # share of the training before this epoch
    return SCHEDULES[schedule].factor(step - warmup_steps, num_steps - warmup_steps, done)
