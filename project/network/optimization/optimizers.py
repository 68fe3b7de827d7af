"""Optimizers (N28) by name, one row each. This module imports no torch: settings are checked before it is loaded."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from project.errors import InputError
from project.network.optimization.losses import LOSSES
from project.settings import check_numbers

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from project.task import TaskName


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What the project knows about one optimizer.

    Attributes:
        build: It makes the optimizer from `torch.optim`, parameter groups (each with its weight decay), the learning
            rate, the momentum or first beta, and whether to use the fused kernels where torch has them.
        needs_momentum: Whether its momentum must be above 0.
        hidden_apart: Whether it needs the hidden layers' weights, as a group of their own, the first.
        uses_momentum: Whether it has a momentum or a first beta at all.
        adaptive: Whether each step is divided by the size of past gradients, so that their scale does not matter.
        heavy_ball: Whether momentum adds up past updates, so that each gradient moves 1/(1 − momentum) of the rate.
        decoupled_decay: Whether weight decay is apart from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101).
        learning_rate: What `auto` means for the learning rate; docs/optimizers.md shows how it was measured.
        bare_learning_rate: The same for a network without norm, whose curvature gradient descent feels in full.
        momentum: What `auto` means for the momentum or the first beta; sgd and adagrad have no use for it.
        weight_decay: What `auto` means for the weight decay. It is 0 where the decay is added to the gradient: AdamW's
            0.05 is far too much there (Loshchilov & Hutter 2019, arXiv:1711.05101, on why the two differ).
    """

    build: "Callable[[Any, list[dict[str, Any]], float, float, bool], torch.optim.Optimizer]"
    needs_momentum: bool
    hidden_apart: bool
    uses_momentum: bool
    adaptive: bool
    heavy_ball: bool
    decoupled_decay: bool
    learning_rate: float
    bare_learning_rate: float
    momentum: float
    weight_decay: float


def _adagrad(optim: Any, groups: list[dict[str, Any]], rate: float, _: float, fused: bool) -> "torch.optim.Optimizer":
    # the fused Adagrad exists on the CPU only
    cpu = all(p.device.type == "cpu" for group in groups for p in group["params"])
    optimizer: torch.optim.Optimizer = optim.Adagrad(groups, lr=rate, fused=fused and cpu)
    return optimizer


def _muon(_: Any, groups: list[dict[str, Any]], rate: float, momentum: float, _f: bool) -> "torch.optim.Optimizer":
    from project.network.optimization.muon import MuonWithAdamW

    return MuonWithAdamW(groups[0], groups[1:], rate, momentum)


# fmt: off
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(needs_momentum=False, hidden_apart=False,
        uses_momentum=False, adaptive=False, heavy_ball=False, decoupled_decay=False,
        learning_rate=0.5, bare_learning_rate=0.1, momentum=0.9, weight_decay=0.0,
        build=lambda o, groups, rate, _, fused: o.SGD(groups, lr=rate, fused=fused)),
    "momentum": Optimizer(needs_momentum=False, hidden_apart=False,
        uses_momentum=True, adaptive=False, heavy_ball=True, decoupled_decay=False,
        learning_rate=0.2, bare_learning_rate=0.05, momentum=0.9, weight_decay=0.0,
        build=lambda o, groups, rate, m, fused: o.SGD(groups, lr=rate, momentum=m, fused=fused)),
    "nesterov": Optimizer(needs_momentum=True, hidden_apart=False,
        uses_momentum=True, adaptive=False, heavy_ball=True, decoupled_decay=False,
        learning_rate=0.1, bare_learning_rate=0.05, momentum=0.9, weight_decay=0.0,  # Nesterov 1983
        build=lambda o, groups, rate, m, fused: o.SGD(groups, lr=rate, momentum=m, nesterov=True, fused=fused)),
    "adagrad": Optimizer(needs_momentum=False, hidden_apart=False,
        uses_momentum=False, adaptive=True, heavy_ball=False, decoupled_decay=False,
        learning_rate=0.05, bare_learning_rate=0.05, momentum=0.9, weight_decay=0.0, build=_adagrad),
    "rmsprop": Optimizer(needs_momentum=False, hidden_apart=False,
        uses_momentum=True, adaptive=True, heavy_ball=True, decoupled_decay=False,
        learning_rate=0.0005, bare_learning_rate=0.0005, momentum=0.9, weight_decay=0.0,
        build=lambda o, groups, rate, m, _: o.RMSprop(groups, lr=rate, momentum=m, foreach=True)),
    "adam": Optimizer(needs_momentum=False, hidden_apart=False,
        uses_momentum=True, adaptive=True, heavy_ball=False, decoupled_decay=False,
        learning_rate=0.004, bare_learning_rate=0.004, momentum=0.9, weight_decay=0.0,
        build=lambda o, groups, rate, m, fused: o.Adam(groups, lr=rate, betas=(m, 0.999), fused=fused)),
    "adamw": Optimizer(needs_momentum=False, hidden_apart=False,
        uses_momentum=True, adaptive=True, heavy_ball=False, decoupled_decay=True,
        learning_rate=0.004, bare_learning_rate=0.004, momentum=0.9, weight_decay=0.05,
        build=lambda o, groups, rate, m, fused: o.AdamW(groups, lr=rate, betas=(m, 0.999), fused=fused)),
    "nadam": Optimizer(needs_momentum=False, hidden_apart=False,
        uses_momentum=True, adaptive=True, heavy_ball=False, decoupled_decay=False,
        learning_rate=0.004, bare_learning_rate=0.004, momentum=0.9, weight_decay=0.0,
        build=lambda o, groups, rate, m, _: o.NAdam(groups, lr=rate, betas=(m, 0.999), foreach=True)),
    "radam": Optimizer(needs_momentum=False, hidden_apart=False,
        uses_momentum=True, adaptive=True, heavy_ball=False, decoupled_decay=False,
        learning_rate=0.02, bare_learning_rate=0.02, momentum=0.9, weight_decay=0.0,
        build=lambda o, groups, rate, m, _: o.RAdam(groups, lr=rate, betas=(m, 0.999), foreach=True)),
    "muon": Optimizer(needs_momentum=False, hidden_apart=True,
        uses_momentum=True, adaptive=True, heavy_ball=False, decoupled_decay=True,
        learning_rate=0.01, bare_learning_rate=0.01, momentum=0.9, weight_decay=0.05, build=_muon),
}
# fmt: on


def suited_learning_rate(name: str, loss: str, task: "TaskName", normed: bool) -> float:
    """The learning rate that suits an optimizer, with a loss, for hidden layers with or without norm."""
    row = OPTIMIZERS[name]
    adaptive, descent = LOSSES[loss].rate_factors.get(task, (1.0, 1.0))
    return (adaptive if row.adaptive else descent) * (row.learning_rate if normed else row.bare_learning_rate)


def resolved_numbers(
    name: str,
    learning_rate: 'float | Literal["auto"]' = "auto",
    momentum: 'float | Literal["auto"]' = "auto",
    weight_decay: 'float | Literal["auto"]' = "auto",
    *,
    loss: str = "auto",
    task: "TaskName" = "multiclass",
    normed: bool = True,
) -> tuple[float, float, float]:
    """The three numbers, in this order; each `auto` is replaced by what the optimizer's row names.

    Args:
        name: A key of `OPTIMIZERS`.
        learning_rate: The learning rate or auto.
        momentum: The momentum or auto.
        weight_decay: The weight decay or auto.
        loss: A key of `LOSSES`.
        task: What the outputs mean.
        normed: Whether the network's hidden layers have a norm.
    """
    row = OPTIMIZERS[name]
    return (
        suited_learning_rate(name, loss, task, normed) if learning_rate == "auto" else learning_rate,
        row.momentum if momentum == "auto" else momentum,
        row.weight_decay if weight_decay == "auto" else weight_decay,
    )


def check_optimizer(name: str, learning_rate: float, momentum: float, weight_decay: float, num_hidden: int) -> None:
    """Raise an `InputError` if a number is out of range, or the network has no hidden weight but muon needs one."""
    check_numbers(learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay)
    row = OPTIMIZERS[name]
    if row.needs_momentum and momentum == 0:
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
        model: The model whose parameters are optimized; those with fewer than two dimensions are not decayed.
        hidden_weights: The weights of the hidden layers, of which some optimizers make a group of their own.
        learning_rate: The learning rate, positive.
        momentum: The momentum or the first beta, in [0, 1).
        weight_decay: The weight decay, 0 or more.
        fused: Whether to use the fused kernels where torch has them.
    """
    import torch

    hidden = list(hidden_weights)
    check_optimizer(name, learning_rate, momentum, weight_decay, len(hidden))
    row = OPTIMIZERS[name]
    hidden = hidden if row.hidden_apart else []
    hidden_ids = {id(weight) for weight in hidden}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in hidden_ids]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    if not weight_decay and not hidden:
        # one group where all parameters have the same settings: each group costs one more kernel at every step
        matrices, vectors = [], [*matrices, *vectors]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": weight_decay},
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return row.build(torch.optim, groups, learning_rate, momentum, fused)
