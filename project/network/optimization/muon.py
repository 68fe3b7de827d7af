"""Muon and AdamW as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of the Newton-Schulz step X → aX + bXXᵀX + c(XXᵀ)²X (Jordan et al. 2024)."""
NUM_NEWTON_SCHULZ_STEPS = 5


def orthogonalized(matrix: Tensor) -> Tensor:
    """Nearly UVᵀ of a matrix USVᵀ: Newton-Schulz steps bring most singular values to within 0.7 and 1.2.

    `torch.optim.Muon` computes this in bfloat16, for which many CPUs have no units: at 512 × 512 they take forty times
    as long as in float32. So on the CPU the matrix keeps its own precision.
    """
    a, b, c = QUINTIC
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    x = wide.bfloat16() if wide.is_cuda else wide
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(NUM_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide is matrix else x.mT).to(matrix.dtype)


class MuonWithAdamW(Optimizer):
    """Muon for the hidden layers' weights and AdamW for every other parameter, as one optimizer.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the learning rate is matched
    to AdamW's root-mean-square update (Liu et al. 2025, arXiv:2502.16982, eq. 4), so that one rate serves both.

    Args:
        muon_group: The parameter group of weights for Muon, (units, …); each is orthogonalized as (units, inputs).
        adamw_groups: The parameter groups for AdamW.
        learning_rate: The learning rate of both.
        momentum: Muon's momentum, which is also AdamW's first beta.
    """

    def __init__(
        self, muon_group: dict[str, Any], adamw_groups: list[dict[str, Any]], learning_rate: float, momentum: float
    ) -> None:
        self._adamw = AdamW(adamw_groups, lr=learning_rate, betas=(momentum, 0.999))
        muon = {"lr": learning_rate, "momentum": momentum, **muon_group}
        super().__init__([muon, *self._adamw.param_groups], {})
        self._share_state()

    def _share_state(self) -> None:
        """Let AdamW work on this optimizer's own groups and state, so that schedules and checkpoints see them."""
        self._adamw.param_groups, self._adamw.state = self.param_groups[1:], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share_state()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group = self.param_groups[0]
        for weight in group["params"]:
            if weight.grad is not None:
                self._muon_step(weight, weight.grad, group["lr"], group["momentum"], group["weight_decay"])
        self._adamw.step()
        return loss

    def _muon_step(
        self, weight: Tensor, gradient: Tensor, learning_rate: float, momentum: float, weight_decay: float
    ) -> None:
        state = self.state[weight]
        average = state.setdefault("momentum_buffer", torch.zeros_like(weight))
        average.lerp_(gradient, 1 - momentum)
        ahead = torch.lerp(gradient, average, momentum).flatten(1)  # Nesterov's look ahead; (units, inputs)
        direction = orthogonalized(ahead).view_as(weight)
        weight.mul_(1 - learning_rate * weight_decay)
        weight.add_(direction, alpha=-learning_rate * 0.2 * max(ahead.shape) ** 0.5)
