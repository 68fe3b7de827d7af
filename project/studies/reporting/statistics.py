"""How sure one can be: intervals, paired differences, Holm's correction, and the judgement of a claim.

One rule judges every claim: the 95 % interval of a difference is held against the region that the claim allows. Inside,
the claim is supported; outside, contradicted; astride, undecided. Several claims share the 5 % by Holm's correction.
All tests are t tests: with the handful of seeds that a study has, a rank test cannot reach significance at all (five
pairs give Wilcoxon's test a smallest p of 1/16). The intervals hold the chance of the seeds, not of the test examples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

LEVEL = 0.95
"""Confidence of every interval; 1 − LEVEL is the share of false verdicts that a study risks."""
POWER = 0.8
"""How sure one wants to be that the number of seeds named will decide."""
MOST_SEEDS = 1000
"""More seeds than this are not counted out."""
VerdictName = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class Estimate:
    """What some values say of the mean behind them.

    Attributes:
        n: How many values.
        mean: Their mean; NaN without values.
        sd: Their standard deviation (n − 1 in the denominator); NaN for fewer than two.
        low: Lower end of the interval; −∞ for fewer than two values.
        high: Upper end; ∞ for fewer than two values.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference between two arms, paired by seed.

    Attributes:
        p: Two-sided p of the paired t test against no difference; 1 for fewer than two pairs.
        effect_size: Hedges' g of the pairs, see `effect_size`; NaN where it is not defined.
    """

    p: float
    effect_size: float


@dataclass(frozen=True)
class RegionTest:
    """A claim's test before the other claims are taken into account.

    Attributes:
        estimate: Of the quantity that the claim is about.
        low: The claim says that the mean lies above this.
        high: The claim says that the mean lies below this.
        p_support: Two-sided p against "the mean lies outside the region".
        p_contradict: Two-sided p against "the mean lies inside the region".
    """

    estimate: Estimate
    low: float
    high: float
    p_support: float
    p_contradict: float

    @property
    def p(self) -> float:
        """Of the verdict that the data lean to."""
        return min(self.p_support, self.p_contradict)


@dataclass(frozen=True)
class Verdict:
    """What a study's data say of one claim.

    Attributes:
        name: supported, contradicted or undecided.
        test: The claim's own test.
        p: After Holm's correction over the study's claims.
        seeds_to_decide: How many seeds would probably decide an undecided claim, if mean and sd stay as they are; None
            for a decided one, and where more than `MOST_SEEDS` would be needed.
    """

    name: VerdictName
    test: RegionTest
    p: float
    seeds_to_decide: int | None


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Mean, standard deviation and Student's t interval of the mean.

    Args:
        values: Independent values, such as one accuracy for each seed.
        level: Confidence of the interval.
    """
    n = len(values)
    if n < 2:
        return Estimate(n, float(values[0]) if n else math.nan, math.nan, -math.inf, math.inf)
    # equal values must have no spread at all, not the rounding error of their mean
    equal = min(values) == max(values)
    mean = float(values[0]) if equal else float(np.mean(values))
    sd = 0.0 if equal else float(np.std(values, ddof=1))
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half)


def paired_difference(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Difference:
    """By how much the first arm lies above the second, seed by seed.

    Args:
        first: One value for each seed.
        second: The other arm's values for the same seeds in the same order.
        level: Confidence of the interval.
    """
    found = estimate([a - b for a, b in zip(first, second, strict=True)], level)
    p = min(1.0, 2 * min(_p_above(found, 0.0), _p_below(found, 0.0)))
    return Difference(found.n, found.mean, found.sd, found.low, found.high, p, effect_size(found))


def effect_size(difference: Estimate) -> float:
    """Hedges' g of paired differences: their mean in units of their own sd, without the bias of few pairs.

    About 0.2 is small, 0.5 medium, 0.8 large (Cohen 1988); a study with few seeds can only find large ones. NaN where
    the differences have no spread, or there are fewer than two.

    Source: Hedges 1981, eq. 6e (the exact correction), applied to Cohen's d_z.
    """
    df = difference.n - 1
    if df < 1 or difference.sd == 0:
        return math.nan
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else math.nan
    return difference.mean / difference.sd * correction


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that keep the chance of any false alarm at the level, in the same order.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    m = len(p_values)
    adjusted, largest = [0.0] * m, 0.0
    for rank, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def region_test(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> RegionTest:
    """Hold a mean against the region that a claim allows.

    With one end infinite this is a t test of superiority by a margin; with both ends finite two one-sided tests of
    equivalence (Schuirmann 1987), each at half the level, so that every verdict agrees with the 95 % interval.

    Args:
        values: One value for each seed.
        low: The claim's lower bound.
        high: The claim's upper bound, above low.
    """
    assert low < high
    found = estimate(values)
    p_support = max(_p_above(found, low), _p_below(found, high))
    p_contradict = min(_p_below(found, low), _p_above(found, high))
    return RegionTest(found, low, high, min(1.0, 2 * p_support), min(1.0, 2 * p_contradict))


def judge(tests: Sequence[RegionTest], level: float = LEVEL) -> list[Verdict]:
    """Verdicts on a study's claims, which share one chance of error.

    Args:
        tests: One for each claim.
        level: The chance of any false verdict is at most 1 − level.
    """
    verdicts = []
    for test, p in zip(tests, holm([test.p for test in tests]), strict=True):
        name: VerdictName = "undecided"
        if p < 1 - level:
            name = "supported" if test.p_support <= test.p_contradict else "contradicted"
        seeds = seeds_to_decide(test, (1 - level) / len(tests)) if name == "undecided" else None
        verdicts.append(Verdict(name, test, p, seeds))
    return verdicts


def seeds_to_decide(test: RegionTest, alpha: float = 1 - LEVEL, power: float = POWER) -> int | None:
    """How many seeds decide with probability `power`, if mean and sd are what they seem; None beyond `MOST_SEEDS`.

    Args:
        test: Of a claim.
        alpha: Two-sided level of the claim's own test.
        power: Chance that so many seeds are enough.
    """
    found = test.estimate
    distance = min(abs(found.mean - bound) for bound in (test.low, test.high) if math.isfinite(bound))
    if found.n < 2 or found.sd == 0 or not distance > 0:
        return None

    def enough(n: int) -> bool:
        critical = special.stdtrit(n - 1, 1 - alpha / 2)
        return bool(1 - special.nctdtr(n - 1, distance / found.sd * math.sqrt(n), critical) >= power)

    too_few, many = 1, 2
    while not enough(many):
        if many >= MOST_SEEDS:
            return None
        too_few, many = many, min(2 * many, MOST_SEEDS)
    while many - too_few > 1:
        middle = (too_few + many) // 2
        too_few, many = (too_few, middle) if enough(middle) else (middle, many)
    return max(many, found.n + 1)  # so many as there are have just not decided


def _p_above(found: Estimate, bound: float) -> float:
    """One-sided p against "the mean is at most the bound"."""
    if bound == -math.inf:
        return 0.0
    if bound == math.inf or found.n < 2:
        return 1.0
    if found.sd == 0:  # the same for every seed: no test is needed
        return 0.0 if found.mean > bound else 1.0
    return float(special.stdtr(found.n - 1, (bound - found.mean) / found.sd * math.sqrt(found.n)))


def _p_below(found: Estimate, bound: float) -> float:
    """One-sided p against "the mean is at least the bound"."""
    mirrored = Estimate(found.n, -found.mean, found.sd, -found.high, -found.low)
    return _p_above(mirrored, -bound)
