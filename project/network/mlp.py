"""The multilayer perceptron: a plain nn.Module without Lightning, data or training."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from project.errors import InputError
from project.network.activations import build_activation, check_activation, negative_slope
from project.network.initializers import init_for_activation, initialize_weight
from project.network.layers import Layer, Network
from project.network.norms import NORMS
from project.settings import check_numbers, check_width


class HiddenLayer(nn.Module):
    """Linear map, norm, activation, dropout, in this order: (batch, n_in) to (batch, n_out)."""

    def __init__(
        self, n_in: int, n_out: int, activation: str, activation_parameter: float | None, norm: str, dropout: float
    ) -> None:
        super().__init__()
        self.activation_name, self.norm_name = activation, norm
        self.linear = nn.Linear(n_in, n_out)
        self.norm = NORMS[norm].build(nn, n_out)
        self.activation = build_activation(activation, activation_parameter)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after_linear(self.linear(x))

    def after_linear(self, z: Tensor) -> Tensor:
        return cast(Tensor, self.dropout(self.activation(self.norm(z))))


class MLP(Network):
    """A multilayer perceptron from (batch, …) inputs to (batch, out_features) logits.

    The keyword arguments are the run's model settings, by the same names and with the same defaults. Hidden layers are
    initialized for their activation, the output layer for none.

    Args:
        in_features: The size of one flattened input.
        out_features: The number of outputs.

    Raises:
        InputError: If a size, a number or a combination makes no network.
        KeyError: If a name is in none of the tables.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        depth: int = 2,
        width: int | Sequence[int] = 512,
        activation: str = "relu",
        activation_parameter: float | None = None,
        init: str = "auto",
        init_scale: float = 1.0,
        init_bias: float = 0.0,
        norm: str = "batch",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            what = f"a network from {in_features} inputs to {out_features} outputs is not possible"
            raise InputError(f"{what}: each must be 1 or more", "check the size of the pictures and data.classes")
        check_numbers(depth=depth, init_scale=init_scale, init_bias=init_bias, dropout=dropout)
        check_width(width, depth)
        check_activation(activation, activation_parameter)
        sizes = [in_features, *([width] * depth if isinstance(width, int) else width)]
        self.hidden = nn.ModuleList(
            HiddenLayer(n_in, n_out, activation, activation_parameter, norm, dropout) for n_in, n_out in pairwise(sizes)
        )
        self.output = nn.Linear(sizes[-1], out_features)
        resolved, slope = init_for_activation(activation, init), negative_slope(activation, activation_parameter)
        for layer in self.hidden:
            linear = cast(HiddenLayer, layer).linear
            initialize_weight(linear.weight, resolved, slope, init_scale)
            nn.init.constant_(linear.bias, init_bias)
        initialize_weight(self.output.weight, resolved, 1.0, init_scale)
        nn.init.zeros_(self.output.bias)

    def representation(self, x: Tensor) -> Tensor:
        """The last hidden layer's output, (batch, width); the flattened input where there is no hidden layer."""
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(x)
        return x

    def layers(self) -> list[Layer]:
        layers = []
        for number, module in enumerate(self.hidden, 1):
            hidden = cast(HiddenLayer, module)
            layers.append(
                Layer(
                    name=f"hidden {number}",
                    linear=hidden.linear,
                    activation=hidden.activation,
                    activation_name=hidden.activation_name,
                    norm=None if hidden.norm_name == "none" else hidden.norm,
                    norm_name=hidden.norm_name,
                    dropout=None if isinstance(hidden.dropout, nn.Identity) else hidden.dropout,
                )
            )
        return [*layers, Layer(name="output", linear=self.output)]
