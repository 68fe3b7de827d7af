"""How sure the mean over seeds is: Student's t, sign flips where seeds collapse, nothing where all seeds agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

ALPHA = 0.05
"""The share of studies that may reach a false verdict."""
MIN_EQUAL = 4
"""Values that are all equal decide a claim only if there are so many: fewer may agree by chance."""
MAX_EXACT = 14
"""Up to so many values all their subsets are counted, beyond DRAWS subsets by chance."""
DRAWS = 20_000
MIN_RANKED = 5
"""From so many values on an interquartile mean and a probability of improvement say something."""
TestName = Literal["t", "sign flips", "equal", "none"]


@dataclass(frozen=True)
class Estimate:
    """What values say of the mean behind them.

    Attributes:
        n: There are so many values.
        mean: It is NaN if there are no values, and infinite if more values are infinitely good than bad.
        sd: This is the values' standard deviation (n − 1 in the denominator); it is NaN if that is not defined.
        low: The interval's lower end is −∞ where the values set no limit.
        high: The interval's upper end is ∞ where the values set no limit.
        level: The interval misses the mean in this share of studies, half of it on each side.
        test: The interval holds all means that this test does not reject.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    level: float
    test: TestName

    @property
    def bounded(self) -> bool:
        """Whether the interval says anything."""
        return math.isfinite(self.low) or math.isfinite(self.high) or (self.test == "equal" and self.n > 0)

    def lies_within(self, low: float, high: float) -> bool:
        """Whether all of the interval lies between two bounds and touches neither of them, where they are finite."""
        return (low < self.low or low == -math.inf) and (self.high < high or high == math.inf)


@dataclass(frozen=True)
class Sample:
    """Independent values, one per seed, whose mean is in question.

    Attributes:
        values: They may be infinite: a run that diverged is worse than every number.
        flips: Sign flips test them instead of Student's t, which takes the values for normal.
    """

    values: tuple[float, ...]
    flips: bool = False

    @property
    def n(self) -> int:
        return len(self.values)

    @cached_property
    def test(self) -> TestName:
        """What tells which means agree with the values."""
        if self.n and min(self.values) == max(self.values):
            return "equal" if self.n >= MIN_EQUAL else "none"
        if self.n < 2:
            return "none"
        return "sign flips" if self.flips or not np.isfinite(self.values).all() else "t"

    @cached_property
    def mean(self) -> float:
        if not self.n:
            return math.nan
        # the mean of equal values must not differ from them by rounding
        return (
            self.values[0]
            if min(self.values) == max(self.values)
            else float(_means(np.ones((1, self.n), np.bool_), self)[0])
        )

    @cached_property
    def sd(self) -> float:
        if self.n < 2 or not np.isfinite(self.values).all():
            return math.nan
        return 0.0 if min(self.values) == max(self.values) else float(np.std(self.values, ddof=1))

    @cached_property
    def _subset_means(self) -> NDArray[np.float64]:
        return np.sort(np.round(_means(_subsets(self.n), self), 12))

    @cached_property
    def _mirrored(self) -> "Sample":
        return Sample(tuple(-value for value in self.values), self.flips)

    def p_above(self, bound: float) -> float:
        """One-sided p against "the mean is at most the bound"."""
        if bound == -math.inf:
            return 0.0
        if bound == math.inf or self.test == "none":
            return 1.0
        if self.test == "equal":
            return float(self.mean <= bound)
        if self.test == "t":
            return float(special.stdtr(self.n - 1, (bound - self.mean) / self.sd * math.sqrt(self.n)))
        # to flip the values of a subset makes the sum no smaller exactly if their mean is at most the bound
        below = np.searchsorted(self._subset_means, round(bound, 12), side="right")
        return float(1 + below) / (1 + len(self._subset_means))

    def p_below(self, bound: float) -> float:
        """One-sided p against "the mean is at least the bound"."""
        return self._mirrored.p_above(-bound)

    def p_of_verdict(self, low: float, high: float) -> float:
        """The two-sided p of the verdict that the values lean to: the mean lies between the bounds, or it does not.

        With one bound infinite this is a test of superiority by a margin; with both finite a support is the pair of
        one-sided tests of equivalence (Schuirmann 1987), each at half the level.
        """
        inside = max(self.p_above(low), self.p_below(high))
        outside = min(self.p_below(low), self.p_above(high))
        return min(1.0, 2 * min(inside, outside))

    def estimate(self, level: float = ALPHA) -> Estimate:
        """The mean and the interval of all means that the sample's test does not reject at the two-sided level."""
        low, high = -math.inf, math.inf
        if self.test == "equal":
            low = high = self.mean
        elif self.test == "t":
            half = float(special.stdtrit(self.n - 1, 1 - level / 2)) * self.sd / math.sqrt(self.n)
            low, high = self.mean - half, self.mean + half
        elif self.test == "sign flips":
            # the ends are means of subsets (Hartigan 1969): p_above is at least level / 2 from `means[skipped]` on
            means = self._subset_means
            skipped = math.ceil(level / 2 * (1 + len(means)) - 1e-9) - 2
            if skipped >= 0:
                low, high = float(means[skipped]), float(means[-1 - skipped])
        return Estimate(self.n, self.mean, self.sd, low, high, level, self.test)


def estimate(values: Sequence[float], level: float = ALPHA, flips: bool = False) -> Estimate:
    """Mean, standard deviation and interval of the mean of independent values, such as one per seed.

    Args:
        values: One value per seed.
        level: One minus the interval's confidence.
        flips: Whether sign flips make the interval instead of Student's t.
    """
    return Sample(tuple(values), flips).estimate(level)


def seeds_for_sign_flips(level: float) -> int:
    """The smallest number of values with which sign flips can reject anything: their smallest p is 2 / 2ⁿ."""
    return math.floor(math.log2(2 / level)) + 1


def share_not_excluded(n: int) -> float:
    """The largest share of other seeds, in [0, 1], that n seeds of one kind do not exclude with 95 % confidence.

    Source: Clopper & Pearson 1934; for large n about 3 / n.
    """
    return float(1 - ALPHA ** (1 / n))


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half of the values, which single collapses do not move; NaN for fewer than MIN_RANKED.

    Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
    """
    if len(values) < MIN_RANKED or not np.isfinite(values).all():
        return math.nan
    return float(stats.trim_mean(values, 0.25))


def probability_of_improvement(first: Sequence[float], second: Sequence[float], larger_is_better: bool) -> float:
    """The probability in [0, 1] that a run of the first arm is better than one of the second; ties count half.

    NaN for fewer than MIN_RANKED values. Source: Agarwal et al. 2021, section 4.3 (Mann & Whitney's U over n·m).
    """
    if min(len(first), len(second)) < MIN_RANKED:
        return math.nan
    above = float(stats.mannwhitneyu(first, second).statistic) / (len(first) * len(second))
    return above if larger_is_better else 1 - above


@lru_cache(maxsize=8)  # as many as a plan from 5 to 40 seeds has looks; with 1,000 seeds each takes 20 MB
def _subsets(n: int) -> NDArray[np.bool_]:
    """Subsets of n values as rows that say which values are in, without the empty one."""
    if n <= MAX_EXACT:
        return (np.arange(1, 2**n)[:, None] >> np.arange(n) & 1).astype(np.bool_)
    drawn = np.random.default_rng(0).random((DRAWS, n)) < 0.5
    return drawn[drawn.any(axis=1)]


def _means(subsets: NDArray[np.bool_], sample: Sample) -> NDArray[np.float64]:
    """Each subset's mean; infinite values outweigh all others, and of opposite ones as many cancel as there are."""
    values = np.asarray(sample.values)
    finite = np.isfinite(values)
    means: NDArray[np.float64] = subsets @ np.where(finite, values, 0.0) / subsets.sum(axis=1)
    if finite.all():
        return means
    excess = subsets @ np.where(finite, 0.0, np.sign(values))
    return np.where(excess > 0, np.inf, np.where(excess < 0, -np.inf, means))
