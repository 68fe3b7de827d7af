"""Activations against closed forms in NumPy and SciPy, values and derivatives (N11 to N18)."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import expit, ndtr

from project.errors import InputError
from project.network.activations import ACTIVATIONS, SATURATION_SLOPE, Activation, build_activation, negative_slope

Array = np.ndarray
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, eq. 14

# name → (value, derivative) of x and the parameter
CLOSED_FORMS: dict[str, tuple[Callable[[Array, float], Array], Callable[[Array, float], Array]]] = {
    "identity": (lambda x, p: x, lambda x, p: np.ones_like(x)),
    "sigmoid": (lambda x, p: 1 / (1 + np.exp(-x)), lambda x, p: expit(x) * expit(-x)),
    "tanh": (lambda x, p: np.tanh(x), lambda x, p: 1 / np.cosh(x) ** 2),
    "relu": (lambda x, p: np.maximum(0, x), lambda x, p: (x > 0) * 1.0),
    "leaky_relu": (lambda x, p: np.where(x > 0, x, p * x), lambda x, p: np.where(x > 0, 1, p)),
    "prelu": (lambda x, p: np.where(x > 0, x, p * x), lambda x, p: np.where(x > 0, 1, p)),
    "elu": (lambda x, p: np.where(x > 0, x, p * np.expm1(x)), lambda x, p: np.where(x > 0, 1, p * np.exp(x))),
    "selu": (
        lambda x, p: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)),
        lambda x, p: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(x)),
    ),
    "swish": (lambda x, p: x * expit(p * x), lambda x, p: expit(p * x) + p * x * expit(p * x) * expit(-p * x)),
    "gelu": (lambda x, p: x * ndtr(x), lambda x, p: ndtr(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)),
    "softplus": (lambda x, p: np.log1p(np.exp(p * x)) / p, lambda x, p: expit(p * x)),
    "softsign": (lambda x, p: x / (1 + np.abs(x)), lambda x, p: 1 / (1 + np.abs(x)) ** 2),
    "mish": (
        lambda x, p: x * np.tanh(np.log1p(np.exp(x))),
        lambda x, p: np.tanh(np.log1p(np.exp(x))) + x * expit(x) / np.cosh(np.log1p(np.exp(x))) ** 2,
    ),
}
INITS = {
    "xavier_uniform": ["identity", "sigmoid", "tanh", "softsign"],  # Glorot & Bengio 2010: linear about 0, or bounded
    "lecun_normal": ["selu"],  # Klambauer et al. 2017
    "kaiming_normal": ["relu", "leaky_relu", "prelu", "elu", "swish", "gelu", "softplus", "mish"],  # He et al. 2015
}
OTHER_PARAMETER = {"leaky_relu": 0.2, "prelu": 0.125, "elu": 0.5, "swish": 1.7, "softplus": 2.0}
CASES = [(name, None) for name in ACTIVATIONS] + list(OTHER_PARAMETER.items())


def test_every_name_is_tested_here() -> None:
    assert set(CLOSED_FORMS) == set(ACTIVATIONS), "each row needs its value and its derivative in CLOSED_FORMS"
    with_parameter = {name for name, row in ACTIVATIONS.items() if row.parameter is not None}
    assert set(OTHER_PARAMETER) == with_parameter, "each parameter needs another value in OTHER_PARAMETER"


def value_and_slope(name: str, points: Array | list[float], parameter: float | None = None) -> tuple[Array, Array]:
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    y = build_activation(name, parameter).double()(x)
    y.sum().backward()
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize(("name", "parameter"), CASES, ids=str)
def test_values_and_derivatives(name: str, parameter: float | None) -> None:
    points = np.linspace(-6, 6, 50)  # an even number: 0, where relu has no derivative, is not among them
    row = ACTIVATIONS[name].parameter
    usual = math.nan if row is None else row.usual
    expected = [function(points, usual if parameter is None else parameter) for function in CLOSED_FORMS[name]]
    np.testing.assert_allclose(value_and_slope(name, points, parameter), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_far_from_zero_all_is_finite(name: str) -> None:
    assert np.isfinite(value_and_slope(name, [-1e4, -50.0, 0.0, 50.0, 1e4])).all()


@pytest.mark.parametrize(("name", "parameter"), CASES, ids=str)
def test_facts_of_every_row(name: str, parameter: float | None) -> None:
    row = ACTIVATIONS[name]
    values, slopes = value_and_slope(name, [-30.0, -1.0, 0.0, 30.0], parameter)
    # silent for good: value and slope are 0 wherever the input is negative
    assert row.can_die == (not values[:2].any() and not slopes[:2].any())
    far, near = value_and_slope(name, [-1e6, -30.0], parameter)[0]
    assert negative_slope(name, parameter) == pytest.approx((near - far) / (1e6 - 30), abs=1e-5)
    # flat on both sides, with the largest slope at 0: below 5 % of it at the bounds
    assert (row.saturation is not None) == (max(slopes[0], slopes[-1]) < 0.01 * slopes[2])
    if row.saturation is not None:
        low, high = row.saturation
        assert value_and_slope(name, [low, high])[1] / slopes[2] == pytest.approx(np.full(2, SATURATION_SLOPE))


def test_a_row_with_a_fact_missing_is_an_error() -> None:
    with pytest.raises(TypeError):
        Activation(build=ACTIVATIONS["relu"].build, parameter=None, init="auto", slope=0.0, saturation=None)  # type: ignore[call-arg]


def test_inits_are_those_of_their_papers() -> None:
    for init, names in INITS.items():
        assert {ACTIVATIONS[name].init for name in names} == {init}


def test_usual_parameters_are_those_of_the_notes() -> None:
    usual = {"leaky_relu": 0.01, "prelu": 0.25, "elu": 1.0, "swish": 1.0, "softplus": 1.0}  # N15 to N17
    assert {name: ACTIVATIONS[name].parameter.usual for name in usual} == usual


def test_prelu_alone_learns_its_slope() -> None:
    named = [name for names in INITS.values() for name in names]
    assert [name for name in named if list(build_activation(name).parameters())] == ["prelu"]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("parameter", [0.5, 0.0, -0.5, math.nan, math.inf, -math.inf])
def test_which_parameters_are_refused(name: str, parameter: float) -> None:
    row = ACTIVATIONS[name].parameter
    if row is not None and math.isfinite(parameter) and (parameter > 0 or not row.positive):
        if not row.positive:
            assert value_and_slope(name, [-2.0], parameter)[0] == [-2 * parameter]
        return
    with pytest.raises(InputError, match=f"{parameter:g}"):
        build_activation(name, parameter)
