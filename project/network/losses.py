"""Losses on logits by name (N26, N27), for every task for which they make sense."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.errors import InputError
from project.task import TaskName

LossName = Literal["auto", "cross_entropy", "binary_cross_entropy", "hinge", "mse", "mae", "huber"]
Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits, targets) to the mean loss over the batch, a scalar."""
DEFAULT_LOSS: dict[TaskName, LossName] = {
    "multiclass": "cross_entropy",
    "binary": "binary_cross_entropy",
    "regression": "mse",
}


def build_loss(name: LossName, task: TaskName, label_smoothing: float = 0.0, huber_delta: float = 1.0) -> Loss:
    """The mean loss of a batch as a function of logits and targets.

    Shapes: multiclass takes logits (batch, classes) and integer labels (batch,); binary logits (batch, 1) and labels 0
    or 1 (batch,); regression outputs (batch, 1) and real targets (batch,).

    - cross_entropy: −log softmax(logits)[label], from logits, so that log 0 never occurs; with one output it is
      binary_cross_entropy.
    - binary_cross_entropy: of σ(logit); with several classes, one against the rest, summed over the classes.
    - hinge: max(0, 1 − y·ŷ) with y = ±1 (Cortes & Vapnik 1995); with several classes
      Σ_{j≠label} max(0, 1 − ŷ_label + ŷ_j) (Weston & Watkins 1999).
    - mse, mae, huber(δ): on the raw outputs against real targets, or for classification against one-hot targets,
      summed over the classes (Hui & Belkin 2021, arXiv:2006.07322), and ±1 for one output.

    The decision is the largest logit (one output: its sign) whatever the loss, so accuracies compare.

    Args:
        name: Which loss; auto takes the task's usual one.
        task: What the outputs mean.
        label_smoothing: Share ε of the target spread evenly over all classes, in [0, 1); cross-entropies only.
        huber_delta: Where Huber's loss turns from square to linear, positive.

    Raises:
        InputError: If the name is unknown, the loss makes no sense for the task, or a parameter is out of range.
    """
    if name not in get_args(LossName):
        raise InputError(f"unknown loss {name!r}", "choose one of: " + ", ".join(get_args(LossName)))
    resolved = DEFAULT_LOSS[task] if name == "auto" else name
    if task == "regression" and resolved in ("cross_entropy", "binary_cross_entropy", "hinge"):
        raise InputError(
            f"loss {resolved} compares classes, but model.task is regression, whose targets are real numbers",
            "choose --model.loss mse, mae or huber",
        )
    if not 0 <= label_smoothing < 1:
        raise InputError(
            f"model.label_smoothing is {label_smoothing:g}, but must be at least 0 and less than 1",
            "type for example --model.label_smoothing 0.1",
        )
    if label_smoothing and resolved not in ("cross_entropy", "binary_cross_entropy"):
        raise InputError(
            f"label smoothing spreads a probability over classes, but loss {resolved} has no probabilities",
            "choose --model.loss cross_entropy, or leave --model.label_smoothing out",
        )
    if not (huber_delta > 0 and math.isfinite(huber_delta)):
        raise InputError(
            f"model.huber_delta is {huber_delta:g}, but must be finite and positive",
            "type for example --model.huber_delta 1.0",
        )
    elementwise: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "mse": lambda outputs, targets: (outputs - targets).square(),
        "mae": lambda outputs, targets: (outputs - targets).abs(),
        "huber": lambda outputs, targets: F.huber_loss(outputs, targets, reduction="none", delta=huber_delta),
    }

    def multiclass(logits: Tensor, labels: Tensor) -> Tensor:
        if resolved == "cross_entropy":
            return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        if resolved == "hinge":
            return F.multi_margin_loss(logits, labels) * logits.shape[1]  # torch divides the sum by the classes
        one_hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)  # (batch, classes)
        if resolved == "binary_cross_entropy":
            one_hot = one_hot * (1 - label_smoothing) + label_smoothing / logits.shape[1]
            terms = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
        else:
            terms = elementwise[resolved](logits, one_hot)
        return terms.sum(1).mean()

    def binary(logits: Tensor, labels: Tensor) -> Tensor:
        logit = logits[:, 0]
        zero_one = labels.to(logit.dtype)
        signs = 2 * zero_one - 1
        if resolved in ("cross_entropy", "binary_cross_entropy"):
            smoothed = zero_one * (1 - label_smoothing) + label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logit, smoothed)
        if resolved == "hinge":
            return torch.relu(1 - signs * logit).mean()
        return elementwise[resolved](logit, signs).mean()

    def regression(outputs: Tensor, targets: Tensor) -> Tensor:
        return elementwise[resolved](outputs[:, 0], targets).mean()

    return {"multiclass": multiclass, "binary": binary, "regression": regression}[task]
