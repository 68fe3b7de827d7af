"""Muon and AdamW as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class MuonWithAdamW(Optimizer):
    """Muon for the hidden layers' weights and AdamW for every other parameter, as one optimizer.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the learning rate is matched
    to AdamW's root-mean-square update (Liu et al. 2025, arXiv:2502.16982), so that one rate serves both.

    Args:
        muon_group: The parameter group of two-dimensional weights for Muon.
        adamw_groups: The parameter groups for AdamW.
        learning_rate: The learning rate of both.
        momentum: Muon's momentum, which is also AdamW's first beta.
    """

    def __init__(
        self, muon_group: dict[str, Any], adamw_groups: list[dict[str, Any]], learning_rate: float, momentum: float
    ) -> None:
        muon = torch.optim.Muon([muon_group], lr=learning_rate, momentum=momentum, adjust_lr_fn="match_rms_adamw")
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
