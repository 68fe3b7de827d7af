"""Intervals, tests and verdicts against scipy, statsmodels, simulations and hand calculation."""

import math
import statistics as standard_library

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project.studies.reporting.statistics import (
    MAX_SEEDS,
    effect_size,
    estimate,
    holm,
    judge,
    paired_difference,
    region_test,
    seeds_to_decide,
)
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

MAX_FALSE = 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)
"""The maximum share of false verdicts in 2,000 simulations of an error of 5 %, within two standard errors."""
ACCURACIES = [0.871, 0.878, 0.869, 0.874, 0.873]
OTHERS = [0.866, 0.871, 0.867, 0.866, 0.871]

samples = st.lists(st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=2, max_size=12)


@settings(derandomize=True, deadline=None)
@given(samples)
def test_the_interval_is_scipys(values: list[float]) -> None:
    found = estimate(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(standard_library.fmean(values), abs=1e-9)
    assert found.sd == pytest.approx(standard_library.stdev(values), abs=1e-9)
    if found.sd > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high))


def test_one_value_or_none_leaves_everything_open() -> None:
    one = estimate([0.5])
    assert (one.n, one.mean, one.low, one.high) == (1, 0.5, -math.inf, math.inf)
    assert math.isnan(one.sd)
    assert math.isnan(estimate([]).mean)
    assert paired_difference([0.5], [0.4]).p == 1.0
    assert judge([region_test([0.5], low=0.0)])[0].name == "undecided"


def test_a_paired_difference_is_scipys_paired_t_test() -> None:
    found = paired_difference(ACCURACIES, OTHERS)
    reference = stats.ttest_rel(ACCURACIES, OTHERS)
    assert found.p == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.mean == pytest.approx(0.0048)


def test_pairing_is_what_finds_a_small_difference_among_large_seeds() -> None:
    generator = np.random.default_rng(0)
    seeds = generator.normal(0, 1, 8)  # the seeds differ a lot, the arms by little
    first, second = seeds + 0.1 + generator.normal(0, 0.02, 8), seeds
    assert paired_difference(first.tolist(), second.tolist()).p < 0.001
    assert stats.ttest_ind(first, second).pvalue > 0.5


def test_effect_size_is_hedges_corrected_cohens_d() -> None:
    found = paired_difference(ACCURACIES, OTHERS)
    d_z = np.mean(np.subtract(ACCURACIES, OTHERS)) / np.std(np.subtract(ACCURACIES, OTHERS), ddof=1)
    exact = math.gamma(2.0) / (math.sqrt(2.0) * math.gamma(1.5))  # Hedges' factor at 4 degrees of freedom
    assert found.effect_size == pytest.approx(d_z * exact)
    assert exact == pytest.approx(1 - 3 / (4 * 4 - 1), abs=0.003)  # his own approximation
    assert math.isnan(effect_size(estimate([1.0, 1.0, 1.0])))
    assert math.isnan(effect_size(estimate([1.0])))


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


@settings(derandomize=True, deadline=None, max_examples=50)
@given(samples.filter(lambda v: max(v) - min(v) > 0.01), st.floats(0.1, 50))
def test_equivalence_is_statsmodels_two_one_sided_tests(values: list[float], margin: float) -> None:
    reference = ttost_paired(np.array(values), np.zeros(len(values)), -margin, margin)[0]
    assert region_test(values, -margin, margin).p_support == pytest.approx(min(1.0, 2 * reference))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(samples.filter(lambda v: max(v) - min(v) > 0.01), st.floats(-50, 50))
def test_superiority_by_a_margin_is_scipys_one_sided_test(values: list[float], margin: float) -> None:
    found = region_test(values, low=margin)
    above = stats.ttest_1samp(values, margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert found.p_support == pytest.approx(min(1, 2 * above))
    assert found.p_contradict == pytest.approx(min(1, 2 * below))


@settings(derandomize=True, deadline=None)
@given(samples, st.floats(-20, 20), st.floats(0.01, 20))
def test_a_single_verdict_agrees_with_the_interval(values: list[float], low: float, size: float) -> None:
    for bounds in ((low, low + size), (low, math.inf), (-math.inf, low)):
        found = estimate(values)
        verdict = judge([region_test(values, *bounds)])[0].name
        inside = bounds[0] < found.low and found.high < bounds[1]
        outside = found.high < bounds[0] or bounds[1] < found.low
        assert verdict == ("supported" if inside else "contradicted" if outside else "undecided")


def test_values_that_never_differ_decide_without_a_test() -> None:
    never = [0.1] * 5
    assert judge([region_test([x - 0.1 for x in never], -0.01, 0.01)])[0].name == "supported"
    assert judge([region_test(never, low=0.2)])[0].name == "contradicted"
    at_the_bound = judge([region_test([0.25] * 5, low=0.25)])[0]
    assert (at_the_bound.name, at_the_bound.seeds_to_decide) == ("undecided", None)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    for n in (2, 3, 5, 10):
        draws = generator.normal(3.0, 2.0, (2000, n))
        found = [estimate(row.tolist()) for row in draws]
        coverage = np.mean([e.low <= 3.0 <= e.high for e in found])
        assert 0.93 <= coverage <= 0.97, n


@pytest.mark.parametrize("bounds", [(0.0, math.inf), (-math.inf, 0.0), (0.0, 5.0), (-5.0, 0.0)])
def test_false_verdicts_are_at_most_one_in_twenty_at_the_edge_of_a_claim(bounds: tuple[float, float]) -> None:
    generator = np.random.default_rng(2)
    draws = generator.normal(0.0, 1.0, (2000, 5))  # the true mean lies on the bound: both verdicts would be false
    verdicts = [judge([region_test(row.tolist(), *bounds)])[0].name for row in draws]
    assert np.mean([name != "undecided" for name in verdicts]) <= MAX_FALSE


def test_false_verdicts_among_several_claims_share_the_level() -> None:
    generator = np.random.default_rng(3)
    false = 0
    for study in generator.normal(0.0, 1.0, (2000, 6, 5)):  # six claims, none of them decided by the truth
        verdicts = judge([region_test(row.tolist(), low=0.0) for row in study])
        false += any(verdict.name != "undecided" for verdict in verdicts)
    assert false / 2000 <= MAX_FALSE
    # without the correction it would be about 1 − 0.95⁶
    single = [stats.ttest_1samp(study, 0, axis=1).pvalue.min() < 0.05 for study in generator.normal(0, 1, (500, 6, 5))]
    assert np.mean(single) > 0.2


def test_paired_comparisons_of_equal_arms_are_rarely_significant() -> None:
    generator = np.random.default_rng(4)
    pairs = generator.normal(0.9, 0.01, (2000, 2, 5))
    false = np.mean([paired_difference(a.tolist(), b.tolist()).p < 0.05 for a, b in pairs])
    assert false <= MAX_FALSE


@pytest.mark.parametrize("effect", [0.15, 0.3, 0.6, 1.2])
def test_the_number_of_seeds_that_would_decide_is_statsmodels(effect: float) -> None:
    # a sample of mean `effect` and sd 1
    half = math.sqrt(1 / 2)
    test = region_test([effect - half, effect + half], low=0.0)
    needed = TTestPower().solve_power(effect_size=effect, alpha=0.025, power=0.8, alternative="larger")
    assert seeds_to_decide(test) == math.ceil(needed)


def test_claims_that_share_the_level_need_more_seeds() -> None:
    tests = [region_test([0.0, 1.0, 0.2, -0.1], low=0.0)] * 4
    alone, together = judge(tests[:1])[0], judge(tests)[0]
    assert alone.name == together.name == "undecided"
    assert together.seeds_to_decide > alone.seeds_to_decide > 4


def test_no_number_of_seeds_is_named_where_none_in_reach_would_do() -> None:
    assert seeds_to_decide(region_test([-1.0, 1.0001], low=0.0)) is None
    assert seeds_to_decide(region_test([-1.0, 1.0], low=0.0)) is None  # the mean lies on the bound
    assert seeds_to_decide(region_test([-1.0, 1.4], low=0.0)) in range(50, MAX_SEEDS)


def test_power_is_what_the_number_of_seeds_promises() -> None:
    pilot = region_test([0.0, 0.4, 0.9, -0.2], low=0.0)
    n = seeds_to_decide(pilot)
    generator = np.random.default_rng(5)
    draws = generator.normal(pilot.estimate.mean, pilot.estimate.sd, (2000, n))
    decided = np.mean([judge([region_test(row.tolist(), low=0.0)])[0].name == "supported" for row in draws])
    assert decided == pytest.approx(0.8, abs=0.03)
