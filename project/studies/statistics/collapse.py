"""Which seeds of an arm collapse: they end far away from the others, so that no normal distribution fits both."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

FALSE_ALARM = 1e-4
"""Chosen so that normal values of 3 to 40 seeds seem to collapse in at most 3 of 1,000 arms; see docs/statistics.md."""
CONSTANT_GAP = 0.05
"""Where both groups are constant, they are apart if it is by so much of the largest value: less may be rounding."""


def collapsed_seeds(values: Sequence[float], larger_is_better: bool) -> int:
    """How many of an arm's seeds collapsed: 0 if its values are all of one kind.

    The values, in order, are cut in two where the gap is the widest against the standard deviation within both parts.
    They are of two kinds if this ratio is larger than Student's quantile with n − 2 degrees of freedom that is exceeded
    with probability FALSE_ALARM: about 70 standard deviations for 4 values, 22 for 5 and 6 for 10. Infinite values,
    which runs without a result have, are of another kind than finite ones.

    Args:
        values: One value per seed.
        larger_is_better: The worse of both parts is the one that collapsed.
    """
    numbers = np.sort(np.asarray(values, dtype=np.float64))
    finite = np.isfinite(numbers)
    if not finite.all():
        return 0 if not finite.any() else int((~finite).sum())
    n = len(numbers)
    if n < 3 or numbers[0] == numbers[-1]:
        return 0
    gaps = np.diff(numbers)
    within = np.array([math.hypot(_spread(numbers[:cut]), _spread(numbers[cut:])) for cut in range(1, n)])
    within /= math.sqrt(n - 2)
    if (within == 0).any():
        cut = int(np.flatnonzero(within == 0)[0])
        apart = gaps[cut] > CONSTANT_GAP * np.abs(numbers).max()
    else:
        cut = int(np.argmax(gaps / within))
        apart = gaps[cut] > within[cut] * -special.stdtrit(n - 2, FALSE_ALARM)
    if not apart:
        return 0
    return cut + 1 if larger_is_better else n - cut - 1


def _spread(values: NDArray[np.float64]) -> float:
    """The root of the sum of squares around the mean; exactly 0 for equal values."""
    return 0.0 if values[0] == values[-1] else float(np.linalg.norm(values - values.mean()))
