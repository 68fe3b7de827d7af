"""The multilayer perceptron with residual connections."""

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor

from project.network.layers import Layer
from project.network.mlp import MLP, HiddenLayer


class ResidualMLP(MLP):
    """An MLP in which every hidden layer after the first adds its linear map's output to the sum of those before.

    The first linear map brings the inputs to the layers' width. Each further one is a pre-activation residual block,
    s + W·dropout(activation(norm(s))) + b, whose identity carries signals and gradients past the block unchanged (He et
    al. 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027, equations 3 and 5). A block has one
    linear map, so that depth counts the same layers as in an `MLP`, and both have the same parameters.

    The blocks' initial weights are divided by √(number of blocks), so that the sum's variance grows by at most a factor
    of e at any depth, also without norm (Hayou et al. 2021, "Stable ResNet", arXiv:2010.12859).

    Args:
        in_features: The size of one flattened input.
        out_features: The number of outputs.
        settings: The arguments of `MLP` by name; all hidden layers must have the same width.

    Raises:
        InputError: If a size, a number or a combination makes no network.
    """

    def __init__(self, in_features: int, out_features: int, **settings: Any) -> None:
        super().__init__(in_features, out_features, **settings)
        blocks = list(self.hidden)[1:]
        with torch.no_grad():
            for block in blocks:
                cast(HiddenLayer, block).linear.weight.div_(len(blocks) ** 0.5)

    def representation(self, x: Tensor) -> Tensor:
        """The last block's output after its activation, (batch, width); the flattened input for depth 0."""
        x = x.flatten(1)
        total: Tensor | None = None
        for module in self.hidden:
            layer = cast(HiddenLayer, module)
            total = layer.linear(x) if total is None else total + layer.linear(x)
            x = layer.after_linear(total)
        return x

    def layers(self) -> list[Layer]:
        layers = super().layers()
        return [dataclasses.replace(layer, skips=0 < number < len(self.hidden)) for number, layer in enumerate(layers)]
