"""Weight initializations by name (N21, N22), one row each. This module imports no torch, see `activations`."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from project.network.activations import ACTIVATIONS

if TYPE_CHECKING:
    from torch import Tensor


def _uniform(init: Any, weight: "Tensor", _: float) -> object:
    bound = math.sqrt(1 / weight[0].numel())
    return init.uniform_(weight, -bound, bound)


INITIALIZERS: "dict[str, Callable[[Any, Tensor, float], object] | None]" = {
    "auto": None,  # the activation's row names another initialization
    "zeros": lambda init, weight, _: init.zeros_(weight),
    "normal": lambda init, weight, _: init.normal_(weight, std=0.01),
    "uniform": _uniform,  # U(±√(1/n_in)), the notes' Xavier
    # U(±√(6/(n_in + n_out))), Glorot & Bengio 2010, eq. 16, and N(0, 2/(n_in + n_out)), its normal form
    "xavier_uniform": lambda init, weight, _: init.xavier_uniform_(weight),
    "xavier_normal": lambda init, weight, _: init.xavier_normal_(weight),
    # variance 2/((1 + slope²)·n_in), He et al. 2015, eq. 15
    "kaiming_uniform": lambda init, weight, slope: init.kaiming_uniform_(weight, a=slope, nonlinearity="leaky_relu"),
    "kaiming_normal": lambda init, weight, slope: init.kaiming_normal_(weight, a=slope, nonlinearity="leaky_relu"),
    # N(0, 1/n_in), LeCun et al. 1998
    "lecun_normal": lambda init, weight, _: init.normal_(weight, std=math.sqrt(1 / weight[0].numel())),
    "orthogonal": lambda init, weight, _: init.orthogonal_(weight),  # Saxe et al. 2013
}
"""Each fills a weight, (n_out, n_in) or (n_out, channels, …) of a convolution, in place, from `torch.nn.init`, the
weight and the slope left of zero of the activation that follows."""


def init_for_activation(activation: str, init: str = "auto") -> str:
    """The initialization that is meant: for `auto` the one that the activation's row names, else the name itself."""
    return ACTIVATIONS[activation].init if init == "auto" else init


def initialize_weight(weight: "Tensor", init: str, slope: float = 0.0, scale: float = 1.0) -> None:
    """Fill a layer's weight in place.

    Args:
        weight: The weight to fill, (n_out, n_in), or (n_out, channels, height, width) of a convolution.
        init: A key of `INITIALIZERS` other than `auto`, for which `init_for_activation` gives the name that is meant.
        slope: The slope left of zero of the activation that follows (1 where none follows).
        scale: The factor on every weight.
    """
    import torch

    fill = INITIALIZERS[init]
    assert fill is not None, "init_for_activation says what auto means"
    with torch.no_grad():
        fill(torch.nn.init, weight, slope)
        weight.mul_(scale)
