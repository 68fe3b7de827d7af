"""How many seeds would decide a claim that a study has left undecided."""

import math

from scipy import optimize, special

from project.studies.statistics.estimates import Estimate

POWER = 0.8
"""Probability with which the needed number of seeds decides a claim."""
CONFIDENCE = 0.8
"""Probability that the range of numbers of seeds holds the one that is needed."""
MAX_SEEDS = 1000
"""The largest number of seeds that is suggested."""


def needed_seeds(distance: float, level: float) -> int | None:
    """How many seeds decide a claim with probability POWER by a t test at the two-sided level; None beyond MAX_SEEDS.

    Args:
        distance: From the true mean to the claim's bound, in standard deviations of the values.
        level: Of the test that decides.
    """

    def enough(n: int) -> bool:
        critical = special.stdtrit(n - 1, 1 - level / 2)
        return bool(1 - special.nctdtr(n - 1, distance * math.sqrt(n), critical) >= POWER)

    if not enough(MAX_SEEDS):
        return None
    too_few, many = 1, MAX_SEEDS
    while many - too_few > 1:
        middle = (too_few + many) // 2
        too_few, many = (too_few, middle) if enough(middle) else (middle, many)
    return many


def seeds_range(found: Estimate, low: float, high: float) -> tuple[int, int | None] | None:
    """The range of numbers of seeds that would decide a claim, with confidence CONFIDENCE, at the estimate's level.

    It comes from the confidence interval of the standardized distance between mean and bound: the noncentral t
    distributions under which the observed t is neither too large nor too small. Of two bounds the nearer counts.

    Args:
        found: An estimate by a t test that does not decide.
        low: The claim's lower bound.
        high: The claim's upper bound.

    Returns:
        Both ends, the upper one None beyond MAX_SEEDS; None if even the lower one is beyond.

    Source: Steiger & Fouladi 1997, "Noncentrality interval estimation".
    """
    least, most = math.inf, math.inf
    for bound in (low, high):
        if math.isfinite(bound):
            near, far = _distances((found.mean - bound) / found.sd, found.n)
            least, most = min(least, near), min(most, far)
    fewest, largest = needed_seeds(most, found.level), needed_seeds(least, found.level)
    return None if fewest is None else (max(fewest, found.n + 1), largest)  # those that there are have not decided


def _distances(observed: float, n: int) -> tuple[float, float]:
    """The smallest and the largest size of a standardized mean that agree with the observed one of n values."""
    root = math.sqrt(n)
    t, tail = abs(observed) * root, (1 - CONFIDENCE) / 2

    def noncentrality(p: float) -> float:
        return float(optimize.brentq(lambda nc: special.nctdtr(n - 1, nc, t) - p, 0.0, 3 * t + 20))

    # the interval of a t near 0 reaches to the other side of 0
    near = noncentrality(1 - tail) if special.nctdtr(n - 1, 0.0, t) > 1 - tail else 0.0
    return near / root, noncentrality(tail) / root
