"""Weight initializations by name (N21, N22), one row each. This module imports no torch, see `activations`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from project.errors import check_choice
from project.network.activations import ACTIVATIONS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Initializer:
    """One initialization.

    Attributes:
        fill: Fills a weight of shape (n_out, n_in) in place, from `torch.nn.init`, the weight and the slope left of
            zero of the activation that follows. None for `auto`: the activation's row names another initialization.
    """

    fill: "Callable[[Any, Tensor, float], object] | None"


INITIALIZERS: dict[str, Initializer] = {
    "auto": Initializer(fill=None),
    "zeros": Initializer(fill=lambda init, weight, _: init.zeros_(weight)),
    # N(0, 0.01²)
    "normal": Initializer(fill=lambda init, weight, _: init.normal_(weight, std=0.01)),
    # U(±√(1/n_in)), the notes' Xavier
    "uniform": Initializer(
        fill=lambda init, weight, _: init.uniform_(
            weight, -math.sqrt(1 / weight.shape[1]), math.sqrt(1 / weight.shape[1])
        )
    ),
    # U(±√(6/(n_in + n_out))), Glorot & Bengio 2010, eq. 16, and N(0, 2/(n_in + n_out)), its normal form
    "xavier_uniform": Initializer(fill=lambda init, weight, _: init.xavier_uniform_(weight)),
    "xavier_normal": Initializer(fill=lambda init, weight, _: init.xavier_normal_(weight)),
    # variance 2/((1 + slope²)·n_in), He et al. 2015, eq. 15
    "kaiming_uniform": Initializer(
        fill=lambda init, weight, slope: init.kaiming_uniform_(weight, a=slope, nonlinearity="leaky_relu")
    ),
    "kaiming_normal": Initializer(
        fill=lambda init, weight, slope: init.kaiming_normal_(weight, a=slope, nonlinearity="leaky_relu")
    ),
    # N(0, 1/n_in), LeCun et al. 1998
    "lecun_normal": Initializer(fill=lambda init, weight, _: init.normal_(weight, std=math.sqrt(1 / weight.shape[1]))),
    # Saxe et al. 2013
    "orthogonal": Initializer(fill=lambda init, weight, _: init.orthogonal_(weight)),
}

if TYPE_CHECKING:
    InitName = str
else:
    InitName = Literal[tuple(INITIALIZERS)]


def init_for_activation(activation: str, init: str = "auto") -> str:
    """The initialization that is meant: for `auto` the one that the activation's row names, else the name itself."""
    return ACTIVATIONS[activation].init if init == "auto" else init


def initialize_weight(weight: "Tensor", init: str, slope: float = 0.0, scale: float = 1.0) -> None:
    """Fill a layer's weight in place.

    Args:
        weight: (n_out, n_in).
        init: A key of `INITIALIZERS` other than `auto`, for which `init_for_activation` gives the name that is meant.
        slope: Slope left of zero of the activation that follows (1 where none follows).
        scale: Factor on every weight.

    Raises:
        InputError: If the name is unknown.
    """
    import torch

    check_choice("initialization", init, INITIALIZERS)
    fill = INITIALIZERS[init].fill
    assert fill is not None, "init_for_activation says what auto means"
    with torch.no_grad():
        fill(torch.nn.init, weight, slope)
        weight.mul_(scale)
