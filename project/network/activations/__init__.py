"""Activation functions by name, one row each: the notes' table (N11 to N18) and the usual others.

All that the project knows about an activation is in its row. This module imports no torch, because the command line
reads the names and the facts before torch is loaded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from project.errors import InputError
from project.settings import MAX_FACTOR

if TYPE_CHECKING:
    from torch.nn import Module

SATURATION_SLOPE = 0.05
"""A unit is saturated where its activation's slope is below this share of the largest slope that it can have."""


@dataclass(frozen=True)
class Parameter:
    """The number that some activations have: a slope, α or β.

    Attributes:
        usual: The value that it has where the user gives none.
        positive: Whether it must be positive.
    """

    usual: float
    positive: bool


@dataclass(frozen=True, kw_only=True)
class Activation:
    """What the project knows about one activation.

    Attributes:
        build: It makes the module from `torch.nn` and the parameter's value (0 where there is no parameter).
        parameter: This is the slope of leaky_relu and, at the start, of prelu, α of elu, β of swish and softplus. None
            means that there is no parameter.
        init: The initialization that suits it, which is what `auto` means: Xavier for the symmetric saturating ones and
            for identity (Glorot & Bengio 2010), LeCun for selu (Klambauer et al. 2017), He for relu and its relatives
            (He et al. 2015).
        slope: The slope far left of zero, which He initialization uses: 1 for identity, 0 for relu and its smooth
            relatives. None means that the parameter is the slope.
        saturation: The pre-activations below and above which the slope is under `SATURATION_SLOPE` of its maximum. It
            is None for what is unbounded on one side or both: such units are judged by dead units instead. Glorot &
            Bengio 2010, section 3, show what saturation does; the 5 % are this project's convention.
        can_die: Whether value and slope are exactly 0 left of zero, so that a unit can become silent and stay so.
    """

    build: Callable[[Any, float], "Module"]
    parameter: Parameter | None
    init: str
    slope: float | None
    saturation: tuple[float, float] | None
    can_die: bool


def _swish(nn: Any, beta: float) -> "Module":
    from project.network.activations.swish import Swish

    return nn.SiLU() if beta == 1.0 else Swish(beta)


_TANH = math.atanh(math.sqrt(1 - SATURATION_SLOPE))  # tanh' = 1 − tanh²
_SIGMOID = 2 * _TANH  # σ' = σ(1 − σ), and σ(x) = (1 + tanh(x/2))/2
_SOFTSIGN = 1 / math.sqrt(SATURATION_SLOPE) - 1  # softsign' = 1/(1 + |x|)²

# fmt: off
ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(build=lambda nn, _: nn.Identity(), parameter=None,
        init="xavier_uniform", slope=1.0, saturation=None, can_die=False),
    "sigmoid": Activation(build=lambda nn, _: nn.Sigmoid(), parameter=None,
        init="xavier_uniform", slope=0.0, saturation=(-_SIGMOID, _SIGMOID), can_die=False),
    "tanh": Activation(build=lambda nn, _: nn.Tanh(), parameter=None,
        init="xavier_uniform", slope=0.0, saturation=(-_TANH, _TANH), can_die=False),
    "relu": Activation(build=lambda nn, _: nn.ReLU(), parameter=None,
        init="kaiming_normal", slope=0.0, saturation=None, can_die=True),
    "leaky_relu": Activation(build=lambda nn, slope: nn.LeakyReLU(slope), parameter=Parameter(0.01, positive=False),
        init="kaiming_normal", slope=None, saturation=None, can_die=False),
    "prelu": Activation(build=lambda nn, slope: nn.PReLU(init=slope), parameter=Parameter(0.25, positive=False),
        init="kaiming_normal", slope=None, saturation=None, can_die=False),
    "elu": Activation(build=lambda nn, alpha: nn.ELU(alpha), parameter=Parameter(1.0, positive=True),
        init="kaiming_normal", slope=0.0, saturation=None, can_die=False),
    "selu": Activation(build=lambda nn, _: nn.SELU(), parameter=None,
        init="lecun_normal", slope=0.0, saturation=None, can_die=False),
    "swish": Activation(build=_swish, parameter=Parameter(1.0, positive=True),
        init="kaiming_normal", slope=0.0, saturation=None, can_die=False),
    "gelu": Activation(build=lambda nn, _: nn.GELU(), parameter=None,
        init="kaiming_normal", slope=0.0, saturation=None, can_die=False),
    "softplus": Activation(build=lambda nn, beta: nn.Softplus(beta), parameter=Parameter(1.0, positive=True),
        init="kaiming_normal", slope=0.0, saturation=None, can_die=False),
    "softsign": Activation(build=lambda nn, _: nn.Softsign(), parameter=None,
        init="xavier_uniform", slope=0.0, saturation=(-_SOFTSIGN, _SOFTSIGN), can_die=False),
    "mish": Activation(build=lambda nn, _: nn.Mish(), parameter=None,
        init="kaiming_normal", slope=0.0, saturation=None, can_die=False),
}
# fmt: on


def check_activation(name: str, parameter: float | None = None) -> None:
    """Raise an `InputError` if the activation has no parameter but one is given, or its value makes no sense."""
    expected = ACTIVATIONS[name].parameter
    if parameter is None:
        return
    if expected is None:
        others = [other for other, row in ACTIVATIONS.items() if row.parameter is not None]
        raise InputError(
            f"activation {name} has no parameter, but model.activation_parameter is {parameter:g}",
            "leave --model.activation_parameter out, or choose one of: " + ", ".join(others),
        )
    if not abs(parameter) <= MAX_FACTOR or (expected.positive and parameter <= 0):
        raise InputError(
            f"model.activation_parameter is {parameter:g}, but that of {name} must be "
            + (
                f"positive and at most {MAX_FACTOR:g}"
                if expected.positive
                else f"from -{MAX_FACTOR:g} to {MAX_FACTOR:g}"
            ),
            f"type for example --model.activation_parameter {expected.usual:g}",
        )


def build_activation(name: str, parameter: float | None = None) -> "Module":
    """Make one activation module.

    Args:
        name: A key of `ACTIVATIONS`.
        parameter: The activation's slope, α or β; None takes the usual value.
    """
    from torch import nn  # imported late, see above

    check_activation(name, parameter)
    return ACTIVATIONS[name].build(nn, _value(name, parameter))


def negative_slope(name: str, parameter: float | None = None) -> float:
    """Slope left of zero that He initialization uses for this activation with this parameter."""
    slope = ACTIVATIONS[name].slope
    return _value(name, parameter) if slope is None else slope


def _value(name: str, parameter: float | None) -> float:
    """The parameter's value: the given one, else the usual one, and 0 where there is no parameter."""
    row = ACTIVATIONS[name].parameter
    return parameter if parameter is not None else row.usual if row is not None else 0.0
