"""Initial weights against the moments and bounds of their formulas (N21, N22)."""

import math

import pytest
import torch
from scipy import stats

from project.network.activations import ACTIVATIONS
from project.network.initializers import INITIALIZERS, init_for_activation, initialize_weight

N_IN, N_OUT = 300, 500

UNIFORM_BOUND = {
    "uniform": math.sqrt(1 / N_IN),  # the notes' Xavier
    "xavier_uniform": math.sqrt(6 / (N_IN + N_OUT)),
    "kaiming_uniform": math.sqrt(6 / N_IN),
}
NORMAL_SD = {
    "normal": 0.01,
    "xavier_normal": math.sqrt(2 / (N_IN + N_OUT)),
    "kaiming_normal": math.sqrt(2 / N_IN),  # the notes' He
    "lecun_normal": math.sqrt(1 / N_IN),
}


OTHERS = {"zeros", "orthogonal"}
"""Those that have a test of their own."""
BY_SLOPE = {"kaiming_uniform", "kaiming_normal"}
"""Those that depend on the slope left of zero."""


def draw(init: str, slope: float = 0.0, scale: float = 1.0, shape: tuple[int, int] = (N_OUT, N_IN)) -> torch.Tensor:
    torch.manual_seed(0)
    weight = torch.full(shape, math.nan)
    initialize_weight(weight, init, slope, scale)
    return weight


def test_every_name_is_tested_here() -> None:
    tested = {*UNIFORM_BOUND, *NORMAL_SD, *OTHERS, "auto"}
    assert tested == set(INITIALIZERS), "each row needs its formula in UNIFORM_BOUND or NORMAL_SD, or a test of its own"


@pytest.mark.parametrize(("init", "bound"), UNIFORM_BOUND.items())
def test_uniform(init: str, bound: float) -> None:
    weights = draw(init).flatten().numpy()
    assert abs(weights).max() <= bound * (1 + 1e-6)
    assert stats.kstest(weights, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.001


@pytest.mark.parametrize(("init", "sd"), NORMAL_SD.items())
def test_normal(init: str, sd: float) -> None:
    assert stats.kstest(draw(init).flatten().numpy(), stats.norm(0, sd).cdf).pvalue > 0.001


@pytest.mark.parametrize("init", sorted(BY_SLOPE))
@pytest.mark.parametrize("slope", [0.01, 0.25, 1.0])
def test_he_depends_on_the_slope(init: str, slope: float) -> None:
    # He et al. 2015, eq. 15; 150,000 draws: the sd is good to 0.2 %
    assert draw(init, slope).std().item() == pytest.approx(math.sqrt(2 / ((1 + slope**2) * N_IN)), rel=0.01)


@pytest.mark.parametrize("init", sorted({*UNIFORM_BOUND, *NORMAL_SD, *OTHERS} - BY_SLOPE))
def test_the_others_do_not(init: str) -> None:
    assert torch.equal(draw(init, 0.0), draw(init, 0.5))


@pytest.mark.parametrize("shape", [(50, 50), (80, 30), (30, 80)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    weight = draw("orthogonal", shape=shape)
    q = weight if shape[0] >= shape[1] else weight.T
    torch.testing.assert_close(q.T @ q, torch.eye(q.shape[1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("init", "expected"), [("lecun_normal", 1 / 18), ("uniform", 1 / 54)])
def test_all_inputs_of_a_convolutions_unit_count(init: str, expected: float) -> None:
    """2 channels of 3 × 3 places are 18 inputs: variances 1/18, and (1/18)/3 of a uniform distribution."""
    weight = torch.empty(5000, 2, 3, 3)
    torch.manual_seed(0)
    initialize_weight(weight, init)
    assert weight.var().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("init", [name for name in INITIALIZERS if name != "auto"])
def test_scale_is_a_factor(init: str) -> None:
    torch.testing.assert_close(draw(init, scale=2.5), 2.5 * draw(init))
    assert draw(init).any() == (init != "zeros")
    parameter = torch.nn.Parameter(torch.empty(4, 3))
    initialize_weight(parameter, init, scale=2.0)
    assert parameter.is_leaf  # it was filled without a trace for gradients


def test_auto_is_what_the_activations_row_names() -> None:
    for activation, row in ACTIVATIONS.items():
        assert init_for_activation(activation) == init_for_activation(activation, "auto") == row.init
        assert row.init in INITIALIZERS
        assert init_for_activation(activation, "orthogonal") == "orthogonal"
