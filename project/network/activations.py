"""Activation functions by name: the notes' table (N11 to N18) and the usual others."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from project.errors import InputError

ActivationName = Literal[
    "identity",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "swish",
    "gelu",
    "softplus",
    "softsign",
    "mish",
]
DEFAULT_PARAMETER: dict[str, float] = {
    "leaky_relu": 0.01,
    "prelu": 0.25,
    "elu": 1.0,
    "swish": 1.0,
    "softplus": 1.0,
}
"""The activations that have a parameter, and its usual value: slope (leaky_relu, prelu's start), α (elu), β."""


class Swish(nn.Module):
    """x · σ(βx), elementwise; any shape.

    Source: Ramachandran et al. 2017, "Searching for Activation Functions", arXiv:1710.05941.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


def build_activation(name: ActivationName, parameter: float | None = None) -> nn.Module:
    """Make one activation module.

    Args:
        name: Which activation.
        parameter: Slope of leaky_relu and of prelu at the start, α of elu, β of swish and softplus;
            None takes the usual value (`DEFAULT_PARAMETER`).

    Raises:
        InputError: If the name is unknown, the activation has no parameter and one is given, the parameter is not
            finite, or elu, swish or softplus get one that is not positive.
    """
    if name not in get_args(ActivationName):
        raise InputError(f"unknown activation {name!r}", "choose one of: " + ", ".join(get_args(ActivationName)))
    if parameter is not None and name not in DEFAULT_PARAMETER:
        raise InputError(
            f"activation {name} has no parameter, but model.activation_parameter is {parameter:g}",
            "leave --model.activation_parameter out, or choose one of: " + ", ".join(DEFAULT_PARAMETER),
        )
    value = DEFAULT_PARAMETER.get(name, 0.0) if parameter is None else parameter
    has_slope = name in ("leaky_relu", "prelu")
    if name in DEFAULT_PARAMETER and not (math.isfinite(value) and (has_slope or value > 0)):
        expected = "finite" if has_slope else "finite and positive"
        raise InputError(
            f"the parameter of {name} must be {expected}, but model.activation_parameter is {value:g}",
            f"type for example --model.activation_parameter {DEFAULT_PARAMETER[name]:g}",
        )
    match name:
        case "identity":
            return nn.Identity()
        case "sigmoid":
            return nn.Sigmoid()
        case "tanh":
            return nn.Tanh()
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return nn.LeakyReLU(value)
        case "prelu":
            return nn.PReLU(init=value)
        case "elu":
            return nn.ELU(value)
        case "selu":
            return nn.SELU()
        case "swish":
            return nn.SiLU() if value == 1.0 else Swish(value)
        case "gelu":
            return nn.GELU()
        case "softplus":
            return nn.Softplus(value)
        case "softsign":
            return nn.Softsign()
        case "mish":
            return nn.Mish()


def negative_slope(name: ActivationName, parameter: float | None = None) -> float:
    """Slope left of zero that He initialization should reckon with: 1 for identity, 0 for smooth relatives of relu."""
    if name in ("leaky_relu", "prelu"):
        return DEFAULT_PARAMETER[name] if parameter is None else parameter
    return 1.0 if name == "identity" else 0.0
