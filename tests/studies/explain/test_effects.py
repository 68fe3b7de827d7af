"""Scores in points, and paired effects against scipy's own interval."""

import math

import numpy as np
import pytest
from scipy import stats

from project.studies.explain.effects import paired_effect, score_of


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_is_scipys(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    one, other = (list(generator.normal(80 + shift, 2, seeds)) for shift in (3, 0))
    effect = paired_effect(one, other)
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert effect.points == pytest.approx(np.mean(one) - np.mean(other))
    assert effect.worst == pytest.approx(min(np.subtract(one, other)))


def test_one_seed_has_no_interval() -> None:
    effect = paired_effect([83.0], [80.0])
    assert (effect.points, effect.low, effect.high, effect.seeds) == (3.0, None, None, 1)


def test_noise_does_not_help() -> None:
    assert not paired_effect([80.5, 79.9, 80.1], [80.0, 80.2, 79.8]).helps
    assert not paired_effect([81.0], [80.0]).helps
    assert not paired_effect([], []).helps
    assert paired_effect([81.0, 81.1, 80.9], [80.0, 80.0, 80.0]).helps
    assert paired_effect([85.0, 40.0, 84.0], [10.0, 30.0, 12.0]).helps  # wide, but every seed gains clearly


def test_scores() -> None:
    done = {"status": "completed", "guessing": 0.1}
    assert score_of(done | {"validation/accuracy": 0.8, "train/accuracy": 0.9}, "multiclass") == pytest.approx(80)
    assert score_of(done | {"train/accuracy": 0.9}, "multiclass") == pytest.approx(90)
    assert score_of({"status": "diverged", "guessing": 0.1}, "multiclass") == pytest.approx(10)
    assert score_of({"status": "failed"}, "multiclass") == 0
    finished = {"status": "early_stopped", "guessing": 26.0}
    assert score_of(finished | {"validation/rmse": 13.0}, "regression") == pytest.approx(-50)
    assert score_of(finished | {"validation/rmse": 1e9}, "regression") == -100
    assert score_of({"status": "diverged", "guessing": 26.0, "validation/rmse": math.nan}, "regression") == -100
