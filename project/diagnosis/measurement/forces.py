"""What acts on the weights in a step: the gradient before and after clipping, the learning rate, and weight decay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

NUM_SAMPLED_STEPS = 32
"""Steps of a training at which forces are measured, evenly spaced: enough for a mean, too few to cost anything."""


@dataclass(frozen=True, kw_only=True)
class Forces:
    """What acted on the weights in one optimizer step.

    Norms are Frobenius norms over the weight matrices of all layers together; biases and norm parameters are left out,
    but for the gradient that is clipped, which is that of all parameters.

    Attributes:
        step: Number of the step, from 0.
        learning_rate: The largest learning rate of the optimizer's groups, as it really was.
        gradient_norm: The norm of the gradient of all parameters, before clipping.
        kept_fraction: The share of that gradient's norm which clipping left, in (0, 1].
        weight_gradient_norm: The norm of the gradient of the weight matrices, before clipping.
        weight_norm: The norm of the weight matrices before the step.
        update_norm: The norm of their change in the step, weight decay included.
        largest_update_ratio: The largest of the layers' ‖change‖/‖weights‖; 0 where all weights are zero.
    """

    step: int
    learning_rate: float
    gradient_norm: float
    kept_fraction: float
    weight_gradient_norm: float
    weight_norm: float
    update_norm: float
    largest_update_ratio: float


def is_sampled(step: int, num_steps: int) -> bool:
    """Whether forces are measured in this step of a training of so many steps."""
    return step % max(1, num_steps // NUM_SAMPLED_STEPS) == 0


class ForceMeter:
    """Measures one step: made before it, told the gradients before the optimizer runs, and asked after it.

    Args:
        weights: The weight matrices of all layers.
        clip_value: The Trainer's `gradient_clip_val`; None or 0 does not clip.
        clip_by_value: Whether each element is clipped, and not the norm.
    """

    def __init__(self, weights: Sequence[Tensor], clip_value: float | None, clip_by_value: bool) -> None:
        self._weights, self._before = weights, [weight.detach().clone() for weight in weights]
        self._clip_value, self._clip_by_value = clip_value, clip_by_value
        self._numbers: list[Tensor] = []

    def see_gradients(self, optimizer: Optimizer) -> None:
        """Measure the gradients that the optimizer is about to use."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        whole = _norm(gradients)
        kept = torch.ones_like(whole)
        if self._clip_value and self._clip_by_value:
            kept = _norm([g.clamp(-self._clip_value, self._clip_value) for g in gradients]) / whole
        elif self._clip_value:
            kept = (self._clip_value / whole).clamp(max=1.0)
        self._numbers = [whole, kept, _norm([w.grad for w in self._weights if w.grad is not None])]

    def forces(self, step: int, optimizer: Optimizer) -> Forces | None:
        """What acted in the step that has just been done; None if the optimizer has not been seen."""
        if not self._numbers:
            return None
        changes = [after.detach() - before for before, after in zip(self._before, self._weights, strict=True)]
        ratios = torch.stack([_norm([c]) / _norm([b]) for c, b in zip(changes, self._before, strict=True)])
        numbers = [*self._numbers, _norm(self._before), _norm(changes), ratios.nan_to_num(0.0, 0.0).amax()]
        gradient, kept, weight_gradient, weight, update, ratio = torch.stack(numbers).tolist()
        return Forces(
            step=step,
            learning_rate=max(float(group["lr"]) for group in optimizer.param_groups),
            gradient_norm=gradient,
            kept_fraction=kept if math.isfinite(kept) else 1.0,
            weight_gradient_norm=weight_gradient,
            weight_norm=weight,
            update_norm=update,
            largest_update_ratio=ratio,
        )


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    norms = [torch.linalg.vector_norm(tensor.detach().float()) for tensor in tensors]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return whole
