"""Weight initializations by name (N21, N22). Each fills a weight of shape (n_out, n_in) in place."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from project.errors import InputError
from project.network.activations import ActivationName

InitName = Literal[
    "auto",
    "zeros",
    "normal",
    "uniform",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "lecun_normal",
    "orthogonal",
]


def init_for_activation(activation: ActivationName) -> InitName:
    """The initialization that suits an activation: what `auto` stands for.

    Xavier for the symmetric saturating ones and for none (Glorot & Bengio 2010), LeCun for selu (Klambauer et al.
    2017), He for relu and its relatives (He et al. 2015).
    """
    if activation in ("identity", "sigmoid", "tanh", "softsign"):
        return "xavier_uniform"
    return "lecun_normal" if activation == "selu" else "kaiming_normal"


@torch.no_grad()
def initialize_weight(weight: Tensor, init: InitName, slope: float = 0.0, scale: float = 1.0) -> None:
    """Fill a layer's weight in place.

    Args:
        weight: (n_out, n_in).
        init: zeros; normal N(0, 0.01²); uniform U(±√(1/n_in)), the notes' Xavier; xavier_uniform U(±√(6/(n_in+n_out)))
            and xavier_normal N(0, 2/(n_in+n_out)), Glorot & Bengio 2010 eq. 16 and its normal form; kaiming_uniform
            and kaiming_normal with variance 2/((1+slope²)·n_in), He et al. 2015 eq. 15; lecun_normal N(0, 1/n_in),
            LeCun et al. 1998; orthogonal, Saxe et al. 2013.
        slope: Negative slope of the activation that follows (1: none follows), for the kaiming pair.
        scale: Factor on every weight.

    Raises:
        InputError: If the name is unknown; `auto` must have been resolved by `init_for_activation`.
    """
    n_in = weight.shape[1]
    match init:
        case "zeros":
            nn.init.zeros_(weight)
        case "normal":
            nn.init.normal_(weight, std=0.01)
        case "uniform":
            nn.init.uniform_(weight, -math.sqrt(1 / n_in), math.sqrt(1 / n_in))
        case "xavier_uniform":
            nn.init.xavier_uniform_(weight)
        case "xavier_normal":
            nn.init.xavier_normal_(weight)
        case "kaiming_uniform":
            nn.init.kaiming_uniform_(weight, a=slope, nonlinearity="leaky_relu")
        case "kaiming_normal":
            nn.init.kaiming_normal_(weight, a=slope, nonlinearity="leaky_relu")
        case "lecun_normal":
            nn.init.normal_(weight, std=math.sqrt(1 / n_in))
        case "orthogonal":
            nn.init.orthogonal_(weight)
        case _:
            names = [name for name in get_args(InitName) if name != "auto"]
            raise InputError(f"unknown initialization {init!r}", "choose one of: " + ", ".join(names))
    weight.mul_(scale)
