"""Initial weights against the moments and bounds of their formulas (N21, N22)."""

import math
from typing import get_args

import pytest
import torch
from scipy import stats

from project.errors import InputError
from project.network.activations import ActivationName
from project.network.initializers import InitName, init_for_activation, initialize_weight

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


def draw(
    init: InitName, slope: float = 0.0, scale: float = 1.0, shape: tuple[int, int] = (N_OUT, N_IN)
) -> torch.Tensor:
    torch.manual_seed(0)
    weight = torch.full(shape, math.nan)
    initialize_weight(weight, init, slope, scale)
    return weight


def test_every_name_is_tested_here() -> None:
    assert {*UNIFORM_BOUND, *NORMAL_SD, "zeros", "orthogonal", "auto"} == set(get_args(InitName))


@pytest.mark.parametrize(("init", "bound"), UNIFORM_BOUND.items())
def test_uniform(init: InitName, bound: float) -> None:
    weights = draw(init).flatten().numpy()
    assert abs(weights).max() <= bound * (1 + 1e-6)
    assert stats.kstest(weights, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.001


@pytest.mark.parametrize(("init", "sd"), NORMAL_SD.items())
def test_normal(init: InitName, sd: float) -> None:
    assert stats.kstest(draw(init).flatten().numpy(), stats.norm(0, sd).cdf).pvalue > 0.001


@pytest.mark.parametrize("init", ["kaiming_uniform", "kaiming_normal"])
@pytest.mark.parametrize("slope", [0.01, 0.25, 1.0])
def test_he_reckons_with_the_slope(init: InitName, slope: float) -> None:
    # He et al. 2015, eq. 15; 150,000 draws: the sd is good to 0.2 %
    assert draw(init, slope).std().item() == pytest.approx(math.sqrt(2 / ((1 + slope**2) * N_IN)), rel=0.01)


@pytest.mark.parametrize(
    "init", sorted({*UNIFORM_BOUND, *NORMAL_SD, "orthogonal"} - {"kaiming_uniform", "kaiming_normal"})
)
def test_the_others_do_not(init: InitName) -> None:
    assert torch.equal(draw(init, 0.0), draw(init, 0.5))


@pytest.mark.parametrize("shape", [(50, 50), (80, 30), (30, 80)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    weight = draw("orthogonal", shape=shape)
    q = weight if shape[0] >= shape[1] else weight.T
    torch.testing.assert_close(q.T @ q, torch.eye(q.shape[1]), atol=1e-5, rtol=0)


def test_zeros() -> None:
    assert not draw("zeros").any()


@pytest.mark.parametrize("init", [name for name in get_args(InitName) if name != "auto"])
def test_scale_is_a_factor(init: InitName) -> None:
    torch.testing.assert_close(draw(init, scale=2.5), 2.5 * draw(init))


def test_a_parameter_is_filled_without_a_gradient_trace() -> None:
    weight = torch.nn.Parameter(torch.empty(4, 3))
    initialize_weight(weight, "kaiming_normal", scale=2.0)
    assert weight.is_leaf
    assert weight.grad_fn is None


@pytest.mark.parametrize(
    ("activation", "init"),
    [
        *((name, "xavier_uniform") for name in ("identity", "sigmoid", "tanh", "softsign")),
        *(
            (name, "kaiming_normal")
            for name in ("relu", "leaky_relu", "prelu", "elu", "swish", "gelu", "softplus", "mish")
        ),
        ("selu", "lecun_normal"),
    ],
)
def test_what_auto_stands_for(activation: ActivationName, init: InitName) -> None:
    assert init_for_activation(activation) == init


@pytest.mark.parametrize("name", ["auto", "xavier"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=f"unknown initialization '{name}'") as error:
        initialize_weight(torch.empty(2, 2), name)
    assert "xavier_uniform" in error.value.remedy
    assert "auto" not in error.value.remedy
