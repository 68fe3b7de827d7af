"""The multilayer perceptron: a plain nn.Module that knows nothing of Lightning, data or training."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast, get_args

from torch import Tensor, nn

from project.errors import InputError
from project.network.activations import ActivationName, build_activation, negative_slope
from project.network.initializers import InitName, init_for_activation, initialize_weight

NormName = Literal["none", "batch", "layer"]


class HiddenLayer(nn.Module):
    """Linear map, norm, activation, dropout, in this order: (batch, n_in) to (batch, n_out)."""

    def __init__(
        self, n_in: int, n_out: int, activation: nn.Module, norm: NormName = "none", dropout: float = 0.0
    ) -> None:
        super().__init__()
        norms = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.linear = nn.Linear(n_in, n_out)
        self.norm = norms[norm](n_out)
        self.activation = activation
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.dropout(self.activation(self.norm(self.linear(x)))))


class MLP(nn.Module):
    """A multilayer perceptron from (batch, …) inputs to (batch, out_features) logits.

    Args:
        in_features: Size of one flattened input.
        out_features: Number of outputs.
        depth: Number of hidden layers; 0 is softmax (logistic, linear) regression.
        width: Units per hidden layer: one number, or one for each layer.
        activation: Activation of the hidden layers.
        activation_parameter: Its slope, α or β; None takes the usual value.
        init: Initialization of the weights. Hidden layers get it for their activation, the output layer for none.
        init_scale: Factor on every initial weight, positive.
        init_bias: Initial bias of the hidden layers; the output layer's is 0.
        norm: Normalization between linear map and activation.
        dropout: Share of each hidden layer's outputs that is dropped while training, in [0, 1).

    Raises:
        InputError: If a name, a size, a number or a combination makes no network.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        depth: int = 2,
        width: int | Sequence[int] = 512,
        activation: ActivationName = "relu",
        activation_parameter: float | None = None,
        init: InitName = "auto",
        init_scale: float = 1.0,
        init_bias: float = 0.0,
        norm: NormName = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise InputError(
                f"a network from {in_features} inputs to {out_features} outputs was asked for, but needs 1 of each",
                "check the size of the pictures and data.classes",
            )
        if depth < 0:
            raise InputError(
                f"model.depth is {depth}, but must be 0 or more hidden layers",
                "type for example --model.depth 2",
            )
        widths = [width] * depth if isinstance(width, int) else list(width)
        if len(widths) != depth:
            example = f"--model.depth {len(widths)}" if widths else "--model.width 512"
            raise InputError(
                f"model.width lists {len(widths)} layers, but model.depth is {depth}",
                f"type {example}, or one width per hidden layer",
            )
        if any(n < 1 for n in widths) or (isinstance(width, int) and width < 1):
            raise InputError(
                f"model.width is {width}, but every hidden layer needs at least 1 unit",
                "type for example --model.width 512",
            )
        if not 0 <= dropout < 1:
            raise InputError(
                f"model.dropout is {dropout:g}, but must be at least 0 and less than 1",
                "type for example --model.dropout 0.2",
            )
        if norm not in get_args(NormName):
            raise InputError(f"unknown norm {norm!r}", "choose one of: " + ", ".join(get_args(NormName)))
        if not (init_scale > 0 and math.isfinite(init_scale)):
            raise InputError(
                f"model.init_scale is {init_scale:g}, but must be finite and positive",
                "type for example --model.init_scale 1.0, or --model.init zeros for weights of 0",
            )
        if not math.isfinite(init_bias):
            raise InputError(
                f"model.init_bias is {init_bias:g}, but must be finite", "type for example --model.init_bias 0.1"
            )
        resolved = init_for_activation(activation) if init == "auto" else init
        slope = negative_slope(activation, activation_parameter)
        sizes = [in_features, *widths]
        self.hidden = nn.ModuleList(
            HiddenLayer(n_in, n_out, build_activation(activation, activation_parameter), norm, dropout)
            for n_in, n_out in pairwise(sizes)
        )
        self.output = nn.Linear(sizes[-1], out_features)
        for layer in self.hidden:
            linear = cast(HiddenLayer, layer).linear
            initialize_weight(linear.weight, resolved, slope, init_scale)
            nn.init.constant_(linear.bias, init_bias)
        initialize_weight(self.output.weight, resolved, 1.0, init_scale)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.output(self.representation(x)))

    def representation(self, x: Tensor) -> Tensor:
        """The last hidden layer's output, (batch, width); the flattened input where there is no hidden layer."""
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(x)
        return x
