"""Learning-rate schedules (N29) by name."""

import math
from typing import Literal, cast, get_args

from project.errors import InputError

ScheduleName = Literal["constant", "linear", "step", "exponential", "cosine", "cyclic", "one_cycle"]
FINAL_EXPONENTIAL = 0.01
"""Share of the learning rate that the exponential schedule ends with."""
CYCLES = 3
"""Triangles of the cyclic schedule, each from a tenth of the learning rate to all of it and back."""
ONE_CYCLE_RISE = 0.3
"""Share of the steps in which one_cycle climbs, from 1/25 of the learning rate; it ends at 1/250,000 of it."""


def learning_rate_factor(
    schedule: ScheduleName, step: int, num_steps: int, steps_per_epoch: int = 1, warmup_fraction: float = 0.0
) -> float:
    """What the learning rate is multiplied by at one optimizer step: a closed form, so that resuming is exact.

    With the n steps after the warm-up numbered k = 0 … n−1:

    - constant: 1.
    - linear: 1 − k/n.
    - step: 1, a tenth for epochs from the middle of the training on, a hundredth from three quarters (He et al. 2016).
    - exponential: 0.01^(k/n), the same factor at every step.
    - cosine: (1 + cos(π·k/n))/2 (Loshchilov & Hutter 2017, eq. 5, one cycle).
    - cyclic: three triangles from 1/10 to 1 and back (Smith 2017, triangular).
    - one_cycle: half a cosine from 1/25 up to 1 over the first 30 %, then one down to 1/250,000 at the last step (Smith
      & Topin 2018); under 4 steps there is no room for a climb.

    A warm-up takes the first `warmup_fraction` of the steps, rounded, save the very last. It rises linearly to where
    the schedule starts, which is 1 for all but cyclic and one_cycle.

    Args:
        schedule: Which schedule.
        step: Optimizer steps already done, from 0; beyond num_steps the value at num_steps holds.
        num_steps: Optimizer steps of the whole training, positive.
        steps_per_epoch: Optimizer steps in an epoch, for `step`.
        warmup_fraction: In [0, 1).

    Returns:
        A share in [0, 1].

    Raises:
        InputError: If the name is unknown.
    """
    step = min(step, num_steps)
    warmup_steps = min(round(warmup_fraction * num_steps), num_steps - 1)  # one step is left in any case
    if step < warmup_steps:
        start = learning_rate_factor(schedule, warmup_steps, num_steps, steps_per_epoch, warmup_fraction)
        return start * (step + 1) / (warmup_steps + 1)
    n, k = num_steps - warmup_steps, step - warmup_steps
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - k / n
        case "step":
            done = step // steps_per_epoch * steps_per_epoch / num_steps  # share of the training before this epoch
            return 0.1 ** ((done >= 0.5) + (done >= 0.75))
        case "exponential":
            return cast(float, FINAL_EXPONENTIAL ** (k / n))
        case "cosine":
            return _cosine_between(1.0, 0.0, k / n)
        case "cyclic":
            position = k * CYCLES / n % 1.0
            return 0.1 + 0.9 * (1 - abs(2 * position - 1))
        case "one_cycle":
            # the same corners as torch's OneCycleLR: the climb ends at step 0.3·n − 1, the fall at n − 1
            peak, last = ONE_CYCLE_RISE * n - 1, n - 1
            if k <= peak:
                return _cosine_between(1 / 25, 1.0, k / peak)
            return _cosine_between(1.0, 1 / 250_000, min((k - peak) / (last - peak), 1.0))
        case _:
            raise InputError(f"unknown schedule {schedule!r}", "choose one of: " + ", ".join(get_args(ScheduleName)))


def _cosine_between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
