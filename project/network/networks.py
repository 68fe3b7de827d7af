"""Networks by name, one row each. This module imports no torch, see `activations`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from project.errors import InputError

if TYPE_CHECKING:
    from project.network.layers import Network
    from project.task import DataSpec


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """One kind of network.

    Attributes:
        build: It makes the network from the data's spec and the model's settings by name: depth, width, activation,
            activation_parameter, init, init_scale, init_bias, norm and dropout.
        equal_widths: Whether all hidden layers must have the same number of units.
    """

    build: "Callable[[DataSpec, dict[str, Any]], Network]"
    equal_widths: bool = False


def _mlp(spec: "DataSpec", settings: dict[str, Any]) -> "Network":
    from project.network.mlp import MLP  # imported late, see above

    return MLP(spec.num_features, spec.num_outputs, **settings)


def _residual_mlp(spec: "DataSpec", settings: dict[str, Any]) -> "Network":
    from project.network.residual_mlp import ResidualMLP

    return ResidualMLP(spec.num_features, spec.num_outputs, **settings)


NETWORKS: dict[str, NetworkRow] = {
    "mlp": NetworkRow(build=_mlp),
    "residual_mlp": NetworkRow(build=_residual_mlp, equal_widths=True),
}


def check_equal_widths(network: str, width: int | Sequence[int]) -> None:
    """Raise an `InputError` if the network needs layers of one width, but the widths differ."""
    if NETWORKS[network].equal_widths and not isinstance(width, int) and len(set(width)) > 1:
        raise InputError(
            f"model.width is {list(width)}, but {network} adds up the layers' outputs, which must have one size",
            f"type for example --model.width {max(width)}",
        )
