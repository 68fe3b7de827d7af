"""Verdicts over claims, looks, collapses and examples: how often they are false, by simulation."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from project.studies.read_study import parse_study
from project.studies.statistics.collapse import collapsed_seeds
from project.studies.statistics.estimates import Sample
from project.studies.statistics.judge import Question, arms_still_asking, ask_together, judge_study, verdict_of
from project.studies.statistics.looks import look_levels
from project.studies.statistics.needed_seeds import needed_seeds, seeds_range
from project.studies.statistics.new_examples import table_variance, widen
from project.studies.study import RunRecord, Study

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
LOOKS = tuple(range(5, 41, 5))


def at_most_five_percent(false: int, studies: int) -> bool:
    """Whether an error of 5 % is compatible with so many false verdicts."""
    return bool(stats.binomtest(false, studies, 0.05, alternative="greater").pvalue > 0.01)


def study_of(*claims: str, arms: tuple[str, ...] = ("a", "b"), **content: object) -> Study:
    made = {"question": "?", "arms": {arm: {} for arm in arms}, "expect": list(claims), **content}
    return parse_study("s", made)


def records_of(values: dict[str, list[float]], metric: str = "test/accuracy") -> list[RunRecord]:
    return [
        RunRecord(arm, seed, metrics={metric: value}, num_classes=10)
        for arm, column in values.items()
        for seed, value in enumerate(column)
    ]


def test_several_claims_share_the_level_as_holm_says() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        samples = [Sample(tuple(row)) for row in generator.normal(0.6, 1.0, (4, 8))]
        questions = {index: Question(sample, 0.0, math.inf) for index, sample in enumerate(samples)}
        found = list(ask_together(questions, (8,), 4).values())
        decided = [verdict_of(one, 0.0, math.inf) != "undecided" for one in found]
        p_values = [stats.ttest_1samp(sample.values, 0.0).pvalue for sample in samples]
        assert decided == multipletests(p_values, 0.05, "holm")[0].tolist()
        for one, p, is_decided in zip(found, p_values, decided, strict=True):
            assert (p <= one.level) == is_decided
            if not is_decided:  # all that were decided have left their shares to it
                assert one.level == pytest.approx(0.05 / (4 - sum(decided)))


def test_the_levels_of_looks_are_those_of_the_literature() -> None:
    assert look_levels((7,), 0.05) == (0.05,)
    # so many values at the first look that t is normal; Lan & DeMets' α·t at five equal looks (ldbounds, gsDesign)
    levels = look_levels((10**6, 2 * 10**6, 3 * 10**6, 4 * 10**6, 5 * 10**6), 0.05)
    bounds = [float(stats.norm.isf(level / 2)) for level in levels]
    assert bounds == pytest.approx([2.576, 2.491, 2.408, 2.331, 2.262], abs=0.02)
    spent = np.abs(np.cumsum(np.random.default_rng(0).normal(0, 1, (40000, 5)), axis=1) / np.sqrt(np.arange(1, 6)))
    assert (spent > bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.004)


@pytest.mark.parametrize("looks", [(5,), LOOKS])
@pytest.mark.parametrize("claim", ["a > b by 1", "a ~ b within 1"])
@pytest.mark.parametrize("noise", ["normal", "skewed", "collapsing"])
def test_a_difference_at_the_edge_gets_a_false_verdict_in_five_percent(
    looks: tuple[int, ...], claim: str, noise: str
) -> None:
    draws: dict[str, Draw] = {
        "normal": lambda generator, shape: generator.normal(0.0, 1.0, shape),
        "skewed": lambda generator, shape: generator.exponential(1.0, shape),
        "collapsing": lambda generator, shape: generator.normal(0, 1, shape) - 60 * (generator.random(shape) < 0.1),
    }
    generator, studies, false = np.random.default_rng(5), 400 if len(looks) == 1 else 150, 0
    seeds: object = {"at_least": 5, "at_most": 40} if len(looks) > 1 else 5
    study = study_of(claim, seeds=seeds)
    for _ in range(studies):
        a, b = draws[noise](generator, (2, looks[-1]))
        (judgement,) = judge_study(study, records_of({"a": list(a + 1), "b": list(b)}))  # exactly on the edge
        false += judgement.name != "undecided"
    assert at_most_five_percent(false, studies)


def test_looking_without_a_plan_is_what_the_plan_prevents() -> None:
    generator, studies = np.random.default_rng(1), 400
    draws = generator.normal(0, 1, (studies, 40))
    peeking = [any(stats.ttest_1samp(row[:n], 0).pvalue < 0.05 for n in LOOKS) for row in draws]
    assert np.mean(peeking) > 0.1
    study = study_of("a > 0", seeds={"at_least": 5, "at_most": 40})
    planned = [judge_study(study, records_of({"a": list(row), "b": []}))[0].name != "undecided" for row in draws]
    assert at_most_five_percent(sum(planned), studies)


def test_arms_ask_for_more_seeds_until_their_claims_are_decided() -> None:
    study = study_of("a > b", "b > c", arms=("a", "b", "c"), seeds={"at_least": 5, "at_most": 15})
    generator = np.random.default_rng(2)
    b = generator.normal(0, 1, 15)
    values = {"a": b + 9 + generator.normal(0, 0.1, 15), "b": b, "c": b + generator.normal(0, 1, 15)}

    def first(n: int, arms: str = "abc") -> list[RunRecord]:
        return records_of({arm: list(values[arm][: n if arm in arms else 5]) for arm in values})

    assert arms_still_asking(study, first(5)) == {"b", "c"}
    assert [(j.name, j.look) for j in judge_study(study, first(15, "bc"))] == [("supported", 5), ("undecided", 15)]
    # the verdict of a look is not taken back
    assert judge_study(study, first(5))[0] == replace(judge_study(study, first(15, "bc"))[0], num_ended=5)
    assert not arms_still_asking(study, first(15, "bc"))


def test_a_tuning_for_each_seed_is_noise_and_one_for_all_seeds_is_not() -> None:
    generator, studies, rates = np.random.default_rng(3), 500, np.array([0.0, 0.2, 0.3, 0.3, 0.2, 0.0, -0.5])

    def compare(shared: bool) -> float:
        false = 0
        for _ in range(studies):
            arms = []
            for _arm in range(2):  # equal arms: what differs is the luck of the choice
                chosen = (rates + generator.normal(0, 0.3, (1 if shared else 5, 7))).argmax(axis=1)
                arms.append(rates[chosen] + generator.normal(0, 0.05, 5))
            false += Sample(tuple(arms[0] - arms[1])).p_of_verdict(0.0, math.inf) < 0.05
        return false / studies

    assert compare(shared=True) > 0.13
    assert at_most_five_percent(round(compare(shared=False) * studies), studies)


def test_normal_seeds_do_not_collapse_and_those_that_do_are_found() -> None:
    generator = np.random.default_rng(4)
    for n in (5, 10, 20):
        draws = generator.normal(0.87, 0.004, (1500, n))
        assert np.mean([collapsed_seeds(list(row), larger_is_better=True) > 0 for row in draws]) <= 0.01
        draws[:, 0] = 0.1
        assert np.mean([collapsed_seeds(list(row), larger_is_better=True) == 1 for row in draws]) >= 0.99
    assert collapsed_seeds([0.3, 0.31, 0.29, math.inf], larger_is_better=False) == 1
    assert collapsed_seeds([0.1] * 5, larger_is_better=True) == 0  # all alike: an arm that never learns
    assert collapsed_seeds([1.0, 1.0, 1.0, 8.0], larger_is_better=False) == 1


def test_a_claim_about_an_arm_that_collapses_is_decided_by_sign_flips() -> None:
    lost = {"a": [0.9, 0.91, 0.89, 0.9, 0.88, 0.92, 0.9], "b": [0.8, 0.1, 0.79, 0.81, 0.1, 0.8, 0.82]}
    (judgement,) = judge_study(study_of("a > b", seeds=7), records_of(lost))
    assert (judgement.name, judgement.estimate.test, judgement.evidence.collapsed) == (
        "supported",
        "sign flips",
        {"b": 2},
    )
    (judgement,) = judge_study(study_of("a > b", seeds=7), records_of({"a": lost["b"], "b": [0.7] * 7}))
    assert judgement.name == "undecided"  # better but for two seeds: no test of the mean can tell
    five = {arm: column[:5] for arm, column in lost.items()}
    assert judge_study(study_of("a > b"), records_of(five))[0].name == "undecided"  # 2 of 2⁵ is more than 5 %


def test_a_training_that_diverged_counts_in_every_claim() -> None:
    records = records_of(
        {"a": [0.30, 0.31, 0.29, 0.3, 0.32, 0.3], "b": [0.33, 0.34, 0.32, 0.33, 0.35, 0.3]}, "test/loss"
    )
    gone = [replace(r, status="diverged", metrics={}) if (r.arm, r.seed) == ("b", 5) else r for r in records]
    (judgement,) = judge_study(study_of("a < b on test/loss", seeds=6), gone)
    assert (judgement.name, judgement.estimate.n, judgement.estimate.mean) == ("supported", 6, -math.inf)
    (judgement,) = judge_study(study_of("a < b on end/dead_fraction", seeds=6), gone)
    assert judgement.name == "undecided"
    assert "diverged" in judgement.blocked
    failed = [replace(r, status="failed", metrics={}) if (r.arm, r.seed) == ("b", 5) else r for r in records]
    (judgement,) = judge_study(study_of("a < b on test/loss", seeds=6), failed)
    assert (judgement.estimate.n, judgement.evidence.left_out) == (5, (5,))


@pytest.mark.parametrize("effect", [0.15, 0.3, 0.6, 1.2])
def test_the_number_of_seeds_that_would_decide_is_statsmodels(effect: float) -> None:
    needed = TTestPower().solve_power(effect_size=effect, alpha=0.025, power=0.8, alternative="larger")
    assert needed_seeds(effect, 0.05) == math.ceil(needed)
    assert needed_seeds(0.01, 0.05) is None


def test_the_range_of_seeds_holds_the_needed_number_as_often_as_it_says() -> None:
    generator, truth = np.random.default_rng(6), needed_seeds(0.5, 0.05)
    held, studies = 0, 0
    for row in generator.normal(0.5, 1.0, (800, 5)):
        found = Sample(tuple(row)).estimate()
        seeds = seeds_range(found, 0.0, math.inf)
        low, high = (math.inf, None) if seeds is None else seeds
        held += low <= truth and (high is None or truth <= high)
        studies += 1
    assert held / studies >= 0.78


@pytest.mark.parametrize("n", [5, 20])
def test_new_examples_add_their_variance(n: int) -> None:
    generator, studies, m = np.random.default_rng(n), 300, 400
    ignored = counted = 0
    for _ in range(studies):
        of_seeds, of_examples = generator.normal(0, 0.03, (n, 1)), generator.normal(0, 0.5, (1, m))
        table = of_seeds + of_examples + generator.normal(0, 0.5, (n, m))  # whose true mean is 0
        found = Sample(tuple(table.mean(axis=1))).estimate()
        wider = widen(found, table_variance(table))
        ignored += not found.low <= 0 <= found.high
        counted += not wider.low <= 0 <= wider.high
    assert at_most_five_percent(counted, studies)
    if n == 20:
        assert ignored / studies > 0.08


def test_the_examples_variance_is_that_of_a_bootstrap() -> None:
    generator = np.random.default_rng(7)
    table = generator.normal(0, 0.5, (1, 300)) + generator.normal(0, 0.3, (12, 300))
    resampled = [table[:, generator.integers(0, 300, 300)].mean() for _ in range(2000)]
    # the bootstrap over examples alone has the noise of single answers in it too
    assert table_variance(table) + 0.09 / 12 / 300 == pytest.approx(np.var(resampled), rel=0.1)
