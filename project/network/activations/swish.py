"""Swish with a parameter, which torch.nn has only for β = 1."""

import torch
from torch import Tensor, nn


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
