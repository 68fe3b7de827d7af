"""How sure a study can be: intervals, paired differences, Holm's correction, and the judgement of a claim.

One rule judges every claim: the 95 % interval of a difference is compared with what the claim allows. Inside,
the claim is supported; outside, contradicted; partly inside, undecided. Several claims share the 5 % by Holm's
correction. All tests are t tests: with the few seeds that a study has, a rank test cannot reach significance at all
(five pairs give Wilcoxon's test a smallest p of 1/16). The intervals cover the variation between seeds, not between
samples of test examples.
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
"""Probability with which the suggested number of seeds decides a claim."""
MAX_SEEDS = 1000
"""The largest number of seeds that is suggested."""
VerdictName = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class Estimate:
    """What some values say of the mean behind them.

    Attributes:
        n: How many values there are.
        mean: Their mean; NaN if there are none.
        sd: Their standard deviation (n − 1 in the denominator); NaN for fewer than two values.
        low: The interval's lower end; −∞ for fewer than two values.
        high: The interval's upper end; ∞ for fewer than two values.
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
        p: The paired t test's two-sided p against no difference; 1 for fewer than two pairs.
        effect_size: Hedges' g of the pairs, see `effect_size`; NaN where it is not defined.
    """

    p: float
    effect_size: float


@dataclass(frozen=True)
class RegionTest:
    """A claim's test before the other claims are taken into account.

    Attributes:
        estimate: The quantity that the claim is about.
        low: The claim says that the mean lies above this.
        high: The claim says that the mean lies below this.
        p_support: The two-sided p against "the mean lies outside the region".
        p_contradict: The two-sided p against "the mean lies inside the region".
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
            for a decided one, and where more than `MAX_SEEDS` would be needed.
    """

    name: VerdictName
    test: RegionTest
    p: float
    seeds_to_decide: int | None


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation and Student's t interval of the mean of independent values, such as one per seed."""
    n = len(values)
    if n < 2:
        return Estimate(n, float(values[0]) if n else math.nan, math.nan, -math.inf, math.inf)
    # equal values must have no spread at all, not the rounding error of their mean
    equal = min(values) == max(values)
    mean = float(values[0]) if equal else float(np.mean(values))
    sd = 0.0 if equal else float(np.std(values, ddof=1))
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """By how much the first arm lies above the second; both have one value per seed, in the same order of seeds."""
    found = estimate([a - b for a, b in zip(first, second, strict=True)])
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
    """Holm's step-down correction: p values, in the same order, that keep the probability of any false alarm low.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    m = len(p_values)
    adjusted, largest = [0.0] * m, 0.0
    for rank, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def region_test(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> RegionTest:
    """Test a mean against the region that a claim allows.

    With one end infinite this is a t test of superiority by a margin; with both ends finite two one-sided tests of
    equivalence (Schuirmann 1987), each at half the level, so that every verdict agrees with the 95 % interval.

    Args:
        values: One value per seed.
        low: The claim's lower bound.
        high: The claim's upper bound; it is larger than low.
    """
    assert low < high
    found = estimate(values)
    p_support = max(_p_above(found, low), _p_below(found, high))
    p_contradict = min(_p_below(found, low), _p_above(found, high))
    return RegionTest(found, low, high, min(1.0, 2 * p_support), min(1.0, 2 * p_contradict))


def judge(tests: Sequence[RegionTest]) -> list[Verdict]:
    """Verdicts on a study's claims: the probability that any of them is false is at most 1 − LEVEL."""
    verdicts = []
    for test, p in zip(tests, holm([test.p for test in tests]), strict=True):
        name: VerdictName = "undecided"
        if p < 1 - LEVEL:
            name = "supported" if test.p_support <= test.p_contradict else "contradicted"
        seeds = seeds_to_decide(test, (1 - LEVEL) / len(tests)) if name == "undecided" else None
        verdicts.append(Verdict(name, test, p, seeds))
    return verdicts


def seeds_to_decide(test: RegionTest, alpha: float = 1 - LEVEL) -> int | None:
    """How many seeds decide a claim with probability POWER at the two-sided level `alpha`; None beyond `MAX_SEEDS`.

    The mean and the sd are taken to be those that the test has found.
    """
    found = test.estimate
    distance = min(abs(found.mean - bound) for bound in (test.low, test.high) if math.isfinite(bound))
    if found.n < 2 or found.sd == 0 or not distance > 0:
        return None

    def enough(n: int) -> bool:
        critical = special.stdtrit(n - 1, 1 - alpha / 2)
        return bool(1 - special.nctdtr(n - 1, distance / found.sd * math.sqrt(n), critical) >= POWER)

    too_few, many = 1, 2
    while not enough(many):
        if many >= MAX_SEEDS:
            return None
        too_few, many = many, min(2 * many, MAX_SEEDS)
    while many - too_few > 1:
        middle = (too_few + many) // 2
        too_few, many = (too_few, middle) if enough(middle) else (middle, many)
    return max(many, found.n + 1)  # the seeds that there are have just not decided


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
