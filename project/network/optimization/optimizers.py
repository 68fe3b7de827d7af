"""Optimizers (N28) by name, one row each. This module imports no torch: settings are checked before it is loaded."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from project.errors import InputError, check_choice

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Request:
    """What an optimizer is made from.

    Attributes:
        optim: The module `torch.optim`.
        groups: Parameter groups, each with its weight decay.
        learning_rate: Positive.
        momentum: In [0, 1).
        fused: Whether to use the fused kernels where torch has them.
    """

    optim: Any
    groups: list[dict[str, Any]]
    learning_rate: float
    momentum: float
    fused: bool

    @property
    def betas(self) -> tuple[float, float]:
        return self.momentum, 0.999


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What the project knows about one optimizer.

    Attributes:
        build: Makes it.
        learning_rate: Its usual learning rate. Today this is 0.004 for all, the default that was chosen for adamw.
        weight_decay: Its usual weight decay. Today this is 0.05 for all, for the same reason.
        momentum: What `momentum` is for it; None: it takes none.
        decoupled: Whether weight decay is decoupled from the gradient (Loshchilov & Hutter 2019), or a part of it.
        hidden_apart: Whether it needs the hidden layers' weights, as a group of their own, the first.
    """

    build: "Callable[[Request], torch.optim.Optimizer]"
    learning_rate: float
    weight_decay: float
    momentum: Literal["momentum", "momentum above 0", "first beta"] | None
    decoupled: bool
    hidden_apart: bool


def _adagrad(r: Request) -> "torch.optim.Optimizer":
    # the fused Adagrad exists on the CPU only
    cpu = all(p.device.type == "cpu" for group in r.groups for p in group["params"])
    optimizer: torch.optim.Optimizer = r.optim.Adagrad(r.groups, lr=r.learning_rate, fused=r.fused and cpu)
    return optimizer


def _muon(r: Request) -> "torch.optim.Optimizer":
    import torch

    from project.network.optimization.muon import MuonWithAdamW

    if not hasattr(torch.optim, "Muon"):
        raise InputError(
            f"optimizer muon needs torch 2.9 or newer, but this is {torch.__version__}",
            "choose --model.optimizer adamw, or install a newer torch",
        )
    return MuonWithAdamW(r.groups[0], r.groups[1:], r.learning_rate, r.momentum)


# fmt: off
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(
        build=lambda r: r.optim.SGD(r.groups, lr=r.learning_rate, fused=r.fused),
        learning_rate=0.004, weight_decay=0.05, momentum=None, decoupled=False, hidden_apart=False),
    "momentum": Optimizer(
        build=lambda r: r.optim.SGD(r.groups, lr=r.learning_rate, momentum=r.momentum, fused=r.fused),
        learning_rate=0.004, weight_decay=0.05, momentum="momentum", decoupled=False, hidden_apart=False),
    # Nesterov 1983
    "nesterov": Optimizer(
        build=lambda r: r.optim.SGD(r.groups, lr=r.learning_rate, momentum=r.momentum, nesterov=True, fused=r.fused),
        learning_rate=0.004, weight_decay=0.05, momentum="momentum above 0", decoupled=False, hidden_apart=False),
    "adagrad": Optimizer(
        build=_adagrad,
        learning_rate=0.004, weight_decay=0.05, momentum=None, decoupled=False, hidden_apart=False),
    "rmsprop": Optimizer(
        build=lambda r: r.optim.RMSprop(r.groups, lr=r.learning_rate, momentum=r.momentum, foreach=True),
        learning_rate=0.004, weight_decay=0.05, momentum="momentum", decoupled=False, hidden_apart=False),
    "adam": Optimizer(
        build=lambda r: r.optim.Adam(r.groups, lr=r.learning_rate, betas=r.betas, fused=r.fused),
        learning_rate=0.004, weight_decay=0.05, momentum="first beta", decoupled=False, hidden_apart=False),
    "adamw": Optimizer(
        build=lambda r: r.optim.AdamW(r.groups, lr=r.learning_rate, betas=r.betas, fused=r.fused),
        learning_rate=0.004, weight_decay=0.05, momentum="first beta", decoupled=True, hidden_apart=False),
    "nadam": Optimizer(
        build=lambda r: r.optim.NAdam(r.groups, lr=r.learning_rate, betas=r.betas, foreach=True),
        learning_rate=0.004, weight_decay=0.05, momentum="first beta", decoupled=False, hidden_apart=False),
    "radam": Optimizer(
        build=lambda r: r.optim.RAdam(r.groups, lr=r.learning_rate, betas=r.betas, foreach=True),
        learning_rate=0.004, weight_decay=0.05, momentum="first beta", decoupled=False, hidden_apart=False),
    "muon": Optimizer(
        build=_muon,
        learning_rate=0.004, weight_decay=0.05, momentum="momentum", decoupled=True, hidden_apart=True),
}
# fmt: on

if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]


def check_optimizer(name: str, learning_rate: float, momentum: float, weight_decay: float, num_hidden: int) -> None:
    """Check an optimizer and its settings.

    Args:
        name: Which optimizer.
        learning_rate: Must be positive and finite.
        momentum: Must be in [0, 1), and above 0 for nesterov.
        weight_decay: Must be 0 or more, and finite.
        num_hidden: Number of hidden layers, that is model.depth.

    Raises:
        InputError: If the name is unknown, a number is out of range, or muon would have no hidden weight.
    """
    check_choice("optimizer", name, OPTIMIZERS)
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise InputError(
            f"model.learning_rate is {learning_rate:g}, but must be positive",
            "type for example --model.learning_rate 0.001",
        )
    if not 0 <= momentum < 1:
        raise InputError(
            f"model.momentum is {momentum:g}, but must be at least 0 and less than 1",
            "type for example --model.momentum 0.9",
        )
    if not (weight_decay >= 0 and math.isfinite(weight_decay)):
        raise InputError(
            f"model.weight_decay is {weight_decay:g}, but must be 0 or more",
            "type for example --model.weight_decay 0.01",
        )
    row = OPTIMIZERS[name]
    if row.momentum == "momentum above 0" and momentum == 0:
        raise InputError(f"{name} needs a momentum above 0", "type for example --model.momentum 0.9")
    if row.hidden_apart and num_hidden == 0:
        raise InputError(
            f"optimizer {name} works on hidden weights, but model.depth 0 has none", "choose --model.optimizer adamw"
        )


def build_optimizer(
    name: str,
    model: "nn.Module",
    hidden_weights: "Iterable[Tensor]",
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    fused: bool = True,
) -> "torch.optim.Optimizer":
    """Make an optimizer over all parameters of a model; weight decay leaves biases and norm parameters alone.

    Args:
        name: A key of `OPTIMIZERS`.
        model: Whose parameters; those with fewer than two dimensions are not decayed.
        hidden_weights: The weights of the hidden layers, of which some optimizers make a group of their own.
        learning_rate: Positive.
        momentum: In [0, 1); the optimizer's row says what it is.
        weight_decay: 0 or more.
        fused: Use the fused kernels where torch has them.

    Raises:
        InputError: See `check_optimizer`; also if this torch has no Muon.
    """
    import torch

    hidden = list(hidden_weights)
    check_optimizer(name, learning_rate, momentum, weight_decay, len(hidden))
    row = OPTIMIZERS[name]
    if not row.hidden_apart:
        hidden = []
    hidden_ids = {id(weight) for weight in hidden}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in hidden_ids]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    if not weight_decay and not hidden:
        # one group where all are treated alike: each costs a kernel of its own at every step
        matrices, vectors = [], [*matrices, *vectors]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": weight_decay},
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return row.build(Request(torch.optim, groups, learning_rate, momentum, fused))
