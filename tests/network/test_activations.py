"""Activations against closed forms in NumPy and SciPy, values and derivatives (N11 to N18)."""

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.special import expit, ndtr

from project.errors import InputError
from project.network.activations import DEFAULT_PARAMETER, ActivationName, build_activation, negative_slope

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
    "swish": (
        lambda x, p: x * expit(p * x),
        lambda x, p: expit(p * x) + p * x * expit(p * x) * expit(-p * x),
    ),
    "gelu": (
        lambda x, p: x * ndtr(x),
        lambda x, p: ndtr(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
    ),
    "softplus": (lambda x, p: np.log1p(np.exp(p * x)) / p, lambda x, p: expit(p * x)),
    "softsign": (lambda x, p: x / (1 + np.abs(x)), lambda x, p: 1 / (1 + np.abs(x)) ** 2),
    "mish": (
        lambda x, p: x * np.tanh(np.log1p(np.exp(x))),
        lambda x, p: np.tanh(np.log1p(np.exp(x))) + x * expit(x) / np.cosh(np.log1p(np.exp(x))) ** 2,
    ),
}
OTHER_PARAMETER = {"leaky_relu": 0.2, "prelu": 0.125, "elu": 0.5, "swish": 1.7, "softplus": 2.0}


def test_every_name_has_a_closed_form() -> None:
    assert set(CLOSED_FORMS) == set(get_args(ActivationName))


@pytest.mark.parametrize(
    ("name", "parameter"), [(name, None) for name in CLOSED_FORMS] + list(OTHER_PARAMETER.items()), ids=str
)
def test_values_and_derivatives(name: ActivationName, parameter: float | None) -> None:
    points = np.linspace(-6, 6, 50)  # an even number: 0, where relu has no derivative, is not among them
    value, derivative = CLOSED_FORMS[name]
    p = DEFAULT_PARAMETER.get(name, math.nan) if parameter is None else parameter
    x = torch.tensor(points, requires_grad=True)
    y = build_activation(name, parameter).double()(x)
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), value(points, p), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), derivative(points, p), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", get_args(ActivationName))
def test_far_from_zero_all_is_finite(name: ActivationName) -> None:
    x = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], requires_grad=True)
    y = build_activation(name)(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_usual_parameters_are_those_of_the_notes() -> None:
    assert DEFAULT_PARAMETER["leaky_relu"] == 0.01  # N15
    assert DEFAULT_PARAMETER["elu"] == DEFAULT_PARAMETER["swish"] == 1.0  # N16, N17


def test_prelu_alone_learns_its_slope() -> None:
    learned = {name for name in get_args(ActivationName) if list(build_activation(name).parameters())}
    assert learned == {"prelu"}


def test_swish_shows_its_beta() -> None:
    assert "beta=1.7" in repr(build_activation("swish", 1.7))


@pytest.mark.parametrize("name", sorted(set(get_args(ActivationName)) - set(DEFAULT_PARAMETER)))
def test_a_parameter_where_there_is_none_is_refused(name: ActivationName) -> None:
    with pytest.raises(InputError) as error:
        build_activation(name, 0.5)
    assert error.value.cause == f"activation {name} has no parameter, but model.activation_parameter is 0.5"
    assert all(other in error.value.remedy for other in DEFAULT_PARAMETER)


@pytest.mark.parametrize("name", ["elu", "swish", "softplus"])
@pytest.mark.parametrize("parameter", [0.0, -1.0, math.nan, math.inf])
def test_a_parameter_that_must_be_positive(name: ActivationName, parameter: float) -> None:
    with pytest.raises(InputError, match=f"the parameter of {name} must be finite and positive") as error:
        build_activation(name, parameter)
    assert error.value.remedy == "type for example --model.activation_parameter 1"


@pytest.mark.parametrize("name", ["leaky_relu", "prelu"])
def test_a_slope_must_be_finite_but_may_be_zero_or_negative(name: ActivationName) -> None:
    for slope in (math.nan, math.inf, -math.inf):
        with pytest.raises(InputError, match="must be finite"):
            build_activation(name, slope)
    x = torch.tensor([-2.0])
    assert build_activation(name, 0.0)(x).item() == 0
    assert build_activation(name, -0.5)(x).item() == 1


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    for parameter in (None, 1.0):
        with pytest.raises(InputError, match="unknown activation 'rely'") as error:
            build_activation("rely", parameter)
        assert "relu" in error.value.remedy


@pytest.mark.parametrize("name", ["identity", "relu", "leaky_relu", "prelu"])
def test_negative_slope_is_the_derivative_left_of_zero(name: ActivationName) -> None:
    parameters = (None, 0.3) if name in DEFAULT_PARAMETER else (None,)
    for parameter in parameters:
        x = torch.tensor([-1.0], requires_grad=True)
        build_activation(name, parameter)(x).sum().backward()
        assert negative_slope(name, parameter) == pytest.approx(x.grad.item())


def test_smooth_relatives_of_relu_count_as_relu() -> None:
    assert {negative_slope(name) for name in ("elu", "swish", "gelu", "softplus", "mish")} == {0.0}
    assert negative_slope("elu", 0.5) == 0.0  # α is no slope
