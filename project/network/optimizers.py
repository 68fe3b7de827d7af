"""Optimizers (N28) by name."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from project.errors import InputError

OptimizerName = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "nadam", "radam", "muon"]


class MuonWithAdamW(Optimizer):
    """Muon for the hidden layers' weights and AdamW for every other parameter, as one optimizer.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the learning rate is matched
    to AdamW's root-mean-square update (Liu et al. 2025, arXiv:2502.16982), so that one rate serves both.

    Args:
        muon_weights: Two-dimensional weights.
        adamw_groups: Parameter groups for AdamW.
        learning_rate: Of both.
        momentum: Muon's momentum; AdamW's first beta.
        weight_decay: Of the Muon weights.
    """

    def __init__(
        self,
        muon_weights: Iterable[Tensor],
        adamw_groups: list[dict[str, Any]],
        learning_rate: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        muon = torch.optim.Muon(
            muon_weights,
            lr=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        adamw = torch.optim.AdamW(adamw_groups, lr=learning_rate, betas=(momentum, 0.999))
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self.parts: tuple[Optimizer, Optimizer] = (muon, adamw)
        self._share_state()

    def _share_state(self) -> None:
        """Let both parts work on this optimizer's own groups and state, so that schedules and checkpoints see them."""
        self.parts[0].param_groups, self.parts[1].param_groups = self.param_groups[:1], self.param_groups[1:]
        for part in self.parts:
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share_state()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


def build_optimizer(
    name: OptimizerName,
    model: nn.Module,
    hidden_weights: Iterable[Tensor],
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    fused: bool = True,
) -> Optimizer:
    """Make an optimizer over all parameters of a model; weight decay leaves biases and norm parameters alone.

    Args:
        name: sgd, momentum and nesterov are stochastic gradient descent without and with momentum (Nesterov 1983);
            weight decay is decoupled for adamw and muon, and part of the gradient for the rest.
        model: Whose parameters; those with fewer than two dimensions are not decayed.
        hidden_weights: The weights that muon treats as matrices.
        learning_rate: Positive.
        momentum: In [0, 1): of momentum, nesterov, rmsprop and muon; the first beta of the Adam family.
        weight_decay: 0 or more.
        fused: Use the fused kernels where torch has them.

    Raises:
        InputError: If the name is unknown or a number out of range, or if muon finds no hidden weight or this torch
            has no Muon.
    """
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
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    # one group where all are treated alike: each costs a kernel of its own at every step
    groups = (
        [group for group in groups if group["params"]]
        if weight_decay
        else [{"params": [*matrices, *vectors], "weight_decay": 0.0}]
    )
    betas = (momentum, 0.999)
    match name:
        case "sgd":
            return torch.optim.SGD(groups, lr=learning_rate, fused=fused)
        case "momentum":
            return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, fused=fused)
        case "nesterov":
            if momentum == 0:
                raise InputError("nesterov needs a momentum above 0", "type for example --model.momentum 0.9")
            return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=True, fused=fused)
        case "adagrad":
            # the fused Adagrad exists on the CPU only
            cpu = all(p.device.type == "cpu" for p in model.parameters())
            return torch.optim.Adagrad(groups, lr=learning_rate, fused=fused and cpu)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=learning_rate, momentum=momentum, foreach=True)
        case "adam":
            return torch.optim.Adam(groups, lr=learning_rate, betas=betas, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused)
        case "nadam":
            return torch.optim.NAdam(groups, lr=learning_rate, betas=betas, foreach=True)
        case "radam":
            return torch.optim.RAdam(groups, lr=learning_rate, betas=betas, foreach=True)
        case "muon":
            return _build_muon(list(hidden_weights), matrices, vectors, learning_rate, momentum, weight_decay)
        case _:
            raise InputError(f"unknown optimizer {name!r}", "choose one of: " + ", ".join(get_args(OptimizerName)))


def _build_muon(
    hidden_weights: list[Tensor],
    matrices: Iterable[Tensor],
    vectors: Iterable[Tensor],
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise InputError(
            f"optimizer muon needs torch 2.9 or newer, but this is {torch.__version__}",
            "choose --model.optimizer adamw, or install a newer torch",
        )
    if not hidden_weights:
        raise InputError(
            "optimizer muon works on hidden weights, but model.depth 0 has none",
            "choose --model.optimizer adamw",
        )
    hidden_ids = {id(weight) for weight in hidden_weights}
    others = [p for p in matrices if id(p) not in hidden_ids]
    adamw_groups: list[dict[str, Any]] = [
        {"params": others, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return MuonWithAdamW(hidden_weights, adamw_groups, learning_rate, momentum, weight_decay)
