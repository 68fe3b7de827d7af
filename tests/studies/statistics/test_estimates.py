"""Means, intervals and tests against scipy, statsmodels and hand calculation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from project.studies.statistics.estimates import (
    Sample,
    estimate,
    interquartile_mean,
    probability_of_improvement,
    seeds_for_sign_flips,
    share_not_excluded,
)

ACCURACIES = [0.871, 0.878, 0.869, 0.874, 0.873]
OTHERS = [0.866, 0.871, 0.867, 0.866, 0.871]
samples = st.lists(st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=2, max_size=12)
spread_out = samples.filter(lambda values: max(values) - min(values) > 0.01)


@settings(derandomize=True, deadline=None)
@given(spread_out, st.floats(0.001, 0.2))
def test_the_interval_is_scipys(values: list[float], level: float) -> None:
    found = estimate(values, level)
    low, high = stats.t.interval(1 - level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.n, found.test) == (len(values), "t")
    assert (found.mean, found.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (found.low, found.high) == pytest.approx((low, high))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(spread_out, st.floats(-50, 50))
def test_superiority_by_a_margin_is_scipys_one_sided_test(values: list[float], margin: float) -> None:
    sample = Sample(tuple(values))
    assert sample.p_above(margin) == pytest.approx(stats.ttest_1samp(values, margin, alternative="greater").pvalue)
    assert sample.p_below(margin) == pytest.approx(stats.ttest_1samp(values, margin, alternative="less").pvalue)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(spread_out, st.floats(0.1, 50))
def test_equivalence_is_statsmodels_two_one_sided_tests(values: list[float], margin: float) -> None:
    reference = ttost_paired(np.array(values), np.zeros(len(values)), -margin, margin)[0]
    sample = Sample(tuple(values))
    assert max(sample.p_above(-margin), sample.p_below(margin)) == pytest.approx(reference)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.integers(-9, 9), min_size=3, max_size=9).filter(lambda values: min(values) < max(values)))
def test_sign_flips_are_scipys_permutation_test(values: list[int]) -> None:
    reference = stats.permutation_test(
        (np.array(values, dtype=float),), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert Sample(tuple(map(float, values)), flips=True).p_above(0.0) == pytest.approx(reference.pvalue)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(spread_out, st.floats(-20, 20), st.floats(0.01, 20), st.booleans(), st.sampled_from([0.05, 0.125, 0.3]))
def test_a_test_rejects_exactly_what_lies_outside_its_interval(
    values: list[float], low: float, size: float, flips: bool, level: float
) -> None:
    sample = Sample(tuple(values), flips)
    found = sample.estimate(level)
    for bounds in ((low, low + size), (low, math.inf), (-math.inf, low)):
        inside = found.lies_within(*bounds)
        outside = found.high < bounds[0] or bounds[1] < found.low
        p = sample.p_of_verdict(*bounds)
        assert (p < level if not flips else p <= level) == (inside or outside)


def test_one_value_or_none_leaves_everything_open() -> None:
    one = estimate([0.5])
    assert (one.n, one.mean, one.low, one.high, one.test) == (1, 0.5, -math.inf, math.inf, "none")
    assert math.isnan(estimate([]).mean)
    assert Sample((0.5,)).p_of_verdict(0.0, math.inf) == 1.0


def test_equal_values_decide_from_four_on() -> None:
    assert [estimate([0.25] * n).test for n in (2, 3, 4, 5)] == ["none", "none", "equal", "equal"]
    assert not estimate([0.25] * 3).lies_within(0.0, 1.0)
    assert estimate([0.25] * 4).lies_within(0.0, 1.0)
    assert not estimate([0.25] * 4).lies_within(0.25, 1.0)  # on the bound
    assert estimate([math.inf] * 4).lies_within(0.0, math.inf)


def test_a_value_that_is_worse_than_every_number_leaves_the_mean_open() -> None:
    sample = Sample((0.1, 0.2, -math.inf, 0.1, 0.3, 0.2))
    assert (sample.test, sample.mean) == ("sign flips", -math.inf)
    assert sample.estimate().low == -math.inf
    assert sample.p_above(0.0) >= 0.5
    lost = Sample((-0.1, -0.2, -math.inf, -0.1, -0.3, -0.2))  # but where all agree, it is one more that agrees
    assert lost.p_below(0.0) == pytest.approx(1 / 2**6)


def test_how_many_values_sign_flips_need() -> None:
    for level in (0.05, 0.025, 0.01):
        n = seeds_for_sign_flips(level)
        decides = [Sample(tuple(np.arange(1.0, k + 1)), flips=True).estimate(level).low > 0 for k in (n - 1, n)]
        assert decides == [False, True]


def test_what_n_seeds_do_not_exclude_is_clopper_pearson() -> None:
    for n in (3, 5, 20):
        assert share_not_excluded(n) == pytest.approx(stats.binomtest(0, n).proportion_ci(0.90, "exact").high)


def test_rank_statistics_are_scipys() -> None:
    u = stats.mannwhitneyu(ACCURACIES, OTHERS).statistic
    assert probability_of_improvement(ACCURACIES, OTHERS, larger_is_better=True) == pytest.approx(u / 25)
    assert probability_of_improvement(ACCURACIES, OTHERS, larger_is_better=False) == pytest.approx(1 - u / 25)
    assert interquartile_mean([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 100.0]) == 4.5
    assert math.isnan(interquartile_mean(ACCURACIES[:4]))


def test_pairing_is_what_finds_a_small_difference_among_large_seeds() -> None:
    generator = np.random.default_rng(0)
    seeds = generator.normal(0, 1, 8)  # the seeds differ a lot, the arms by little
    first, second = seeds + 0.1 + generator.normal(0, 0.02, 8), seeds
    assert Sample(tuple(first - second)).p_above(0.0) < 0.001
    assert stats.ttest_ind(first, second).pvalue > 0.5


@pytest.mark.parametrize(("n", "flips"), list(itertools.product((3, 5, 10), (False, True))))
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int, flips: bool) -> None:
    draws = np.random.default_rng(n).normal(3.0, 2.0, (1000, n))
    found = [estimate(row.tolist(), flips=flips) for row in draws]
    coverage = np.mean([one.low <= 3.0 <= one.high for one in found])
    assert coverage >= 0.95 - 2 * math.sqrt(0.05 * 0.95 / 1000)
    if not flips:
        assert coverage <= 0.97
