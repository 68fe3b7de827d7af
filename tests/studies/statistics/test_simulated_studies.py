"""The benchmark of verdicts: what it simulates is what it says, and its page holds all figures."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from benchmarks import statistics
from benchmarks.statistics import NOISES, Cell, Outcome, cells, draw, page, simulate


@pytest.mark.parametrize("noise", NOISES)
def test_each_noise_is_zero_on_average(noise: str) -> None:
    values = draw(noise, np.random.default_rng(1), (100_000, 3))
    assert abs(values.mean()) < 5 * values.std() / math.sqrt(100_000)


def test_the_choice_of_a_rate_has_the_mean_that_simulation_gives() -> None:
    generator = np.random.default_rng(2)
    chosen = (statistics.RATES + 0.012 * generator.standard_normal((400_000, 7))).argmax(axis=1)
    assert statistics.RATES[chosen].mean() == pytest.approx(statistics.MEAN_OF_CHOICE, abs=5e-5)


def test_a_few_simulated_studies_have_the_error_and_the_power_of_students_t() -> None:
    edge = simulate(Cell("a > b", "normal", "5", "edge"), 400, "development")
    assert edge.interval[0] <= 0.05 <= edge.interval[1]
    inside = simulate(Cell("a > b", "normal", "5", "inside"), 400, "development")
    noncentral = 0.01 / (0.004 * math.sqrt(2)) * math.sqrt(5)
    power = float(stats.nct.sf(stats.t.ppf(0.975, 4), 4, noncentral))
    assert stats.binomtest(round(400 * inside.supported), 400, power).pvalue > 0.001


def test_the_page_has_each_figure_once() -> None:
    made = list(cells())
    assert max(Counter(made).values()) == 1
    outcomes = {cell: Outcome(1000, index % 100, 0.5, confirmed=index % 3 == 0) for index, cell in enumerate(made)}
    text = page(outcomes, 1000, 1.0)
    edge = [found for cell, found in outcomes.items() if cell.truth == "edge"]
    assert text.count("–") >= len(edge)
    assert text.count(")* |") == sum(found.confirmed for found in edge)
