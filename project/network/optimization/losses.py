"""Losses on outputs by name (N26, N27), one row each. This module imports no torch, see `activations`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from project.errors import InputError
from project.settings import check_numbers

if TYPE_CHECKING:
    from torch import Tensor

    from project.task import TaskName

LossFunction = Callable[["Tensor", "Tensor"], "Tensor"]
"""(outputs, targets) to the mean loss over the batch, a scalar."""

DEFAULT_LOSS: "dict[TaskName, str]" = {
    "multiclass": "cross_entropy",
    "binary": "binary_cross_entropy",
    "regression": "mse",
}
"""What `auto` means for each task."""


_NOWHERE: "frozenset[TaskName]" = frozenset()
_WITH_CLASSES: "frozenset[TaskName]" = frozenset({"multiclass", "binary"})


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One loss.

    Attributes:
        functions: They give for each task that it fits the mean loss over the batch, a scalar, from
            `torch.nn.functional`, outputs, targets, label_smoothing and huber_delta. multiclass takes logits
            (batch, classes) and integer labels (batch,); binary takes logits (batch, 1) and labels 0 or 1 (batch,);
            regression takes outputs (batch, 1) and real targets (batch,).
        probabilities: The tasks in which it trains the class probabilities that the network returns, so that guessing
            costs log(classes).
        smoothing: The tasks in which it can spread a share of the target over all classes.
        rate_factors: What the optimizer's usual learning rate is multiplied by for each task, first for an adaptive
            optimizer, then for gradient descent; 1 where it is missing. docs/optimizers.md shows how it was measured.
    """

    functions: "Mapping[TaskName, Callable[[Any, Tensor, Tensor, float, float], Tensor]]"
    probabilities: "frozenset[TaskName]"
    smoothing: "frozenset[TaskName]"
    rate_factors: "Mapping[TaskName, tuple[float, float]]"


def _one_hot(f: Any, labels: "Tensor", logits: "Tensor") -> Any:
    return f.one_hot(labels, logits.shape[1]).to(logits.dtype)  # (batch, classes)


def _signs(labels: "Tensor", logits: "Tensor") -> "Tensor":
    return 2 * labels.to(logits.dtype) - 1  # ±1, (batch,)


def _one_against_rest(f: Any, logits: "Tensor", labels: "Tensor", smoothing: float, _: float) -> Any:
    """Cross-entropy of σ(logit), for each class against the rest, summed over the classes."""
    targets = _one_hot(f, labels, logits) * (1 - smoothing) + smoothing / logits.shape[1]
    return f.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def _binary_cross_entropy(f: Any, logits: "Tensor", labels: "Tensor", smoothing: float, _: float) -> Any:
    """Cross-entropy of σ(logit); it is that of two logits, 0 and this one."""
    targets = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return f.binary_cross_entropy_with_logits(logits[:, 0], targets)


def _distance(terms: "Callable[[Any, Tensor, Tensor, float], Tensor]", descent: float) -> Loss:
    """A loss on the raw outputs against real targets, from its terms for each output and gradient descent's factor.

    For classification the targets are one-hot, summed over the classes (Hui & Belkin 2021, arXiv:2006.07322), and ±1
    for one output. Before it learns anything else, a network with several outputs must unlearn the noise that these
    have at first, which is larger than the targets: so adaptive optimizers need larger steps here.
    """
    return Loss(
        functions={
            "multiclass": lambda f, z, labels, _, delta: terms(f, z, _one_hot(f, labels, z), delta).sum(1).mean(),
            "binary": lambda f, z, labels, _, delta: terms(f, z[:, 0], _signs(labels, z), delta).mean(),
            "regression": lambda f, outputs, targets, _, delta: terms(f, outputs[:, 0], targets, delta).mean(),
        },
        probabilities=_NOWHERE,
        smoothing=_NOWHERE,
        rate_factors={"multiclass": (8.0, descent), "binary": (1.0, descent), "regression": (1.0, descent)},
    )


# fmt: off
_NAMED = {
    # −log softmax(logits)[label], from logits, so that log 0 never occurs
    "cross_entropy": Loss(probabilities=_WITH_CLASSES, smoothing=_WITH_CLASSES, rate_factors={}, functions={
        "multiclass": lambda f, z, labels, smoothing, _: f.cross_entropy(z, labels, label_smoothing=smoothing),
        "binary": _binary_cross_entropy}),
    "binary_cross_entropy": Loss(probabilities=frozenset({"binary"}), smoothing=_WITH_CLASSES,
        rate_factors={}, functions={
        "multiclass": _one_against_rest,
        "binary": _binary_cross_entropy}),
    # Σ_{j≠label} max(0, 1 − ŷ_label + ŷ_j) (Weston & Watkins 1999), where torch divides the sum by the classes; for one
    # output max(0, 1 − y·ŷ) with y = ±1 (Cortes & Vapnik 1995)
    "hinge": Loss(probabilities=_NOWHERE, smoothing=_NOWHERE, rate_factors={}, functions={
        "multiclass": lambda f, z, labels, *_: f.multi_margin_loss(z, labels) * z.shape[1],
        "binary": lambda _f, z, labels, *_: (1 - _signs(labels, z) * z[:, 0]).relu().mean()}),
    # the square's curvature grows with the width and never fades: gradient descent diverges at 1024 units from 0.01 on
    "mse": _distance(lambda _f, outputs, targets, _: (outputs - targets).square(), descent=0.02),
    "mae": _distance(lambda _f, outputs, targets, _: (outputs - targets).abs(), descent=0.1),
    "huber": _distance(lambda f, z, targets, delta: f.huber_loss(z, targets, reduction="none", delta=delta), descent=1),
}
# fmt: on
_AUTO = Loss(
    functions={task: _NAMED[name].functions[task] for task, name in DEFAULT_LOSS.items()},
    probabilities=frozenset(task for task, name in DEFAULT_LOSS.items() if task in _NAMED[name].probabilities),
    smoothing=frozenset(task for task, name in DEFAULT_LOSS.items() if task in _NAMED[name].smoothing),
    rate_factors={
        task: factors
        for task, name in DEFAULT_LOSS.items()
        if (factors := _NAMED[name].rate_factors.get(task)) is not None
    },
)
LOSSES: dict[str, Loss] = {"auto": _AUTO, **_NAMED}


def check_loss(name: str, task: "TaskName", label_smoothing: float = 0.0, huber_delta: float = 1.0) -> None:
    """Raise an `InputError` if the loss makes no sense for the task, or a number is out of range."""
    check_numbers(label_smoothing=label_smoothing, huber_delta=huber_delta)
    loss = LOSSES[name]
    if task not in loss.functions:
        fitting = [other for other, row in LOSSES.items() if task in row.functions and other != "auto"]
        raise InputError(
            f"loss {name} is for {' and '.join(loss.functions)} alone, but model.task is {task}",
            f"choose --model.loss {', '.join(fitting[:-1])} or {fitting[-1]}",
        )
    if label_smoothing and task not in loss.smoothing:
        raise InputError(
            f"label smoothing spreads a probability over classes, but loss {name} has no probabilities for task {task}",
            "choose --model.loss cross_entropy, or leave --model.label_smoothing out",
        )


def build_loss(name: str, task: "TaskName", label_smoothing: float = 0.0, huber_delta: float = 1.0) -> "LossFunction":
    """The mean loss of a batch as a function of outputs and targets, in the shapes that `Loss` gives.

    The decision is the largest logit (one output: its sign) whatever the loss, so accuracies compare.

    Args:
        name: A key of `LOSSES`.
        task: What the outputs mean.
        label_smoothing: The share ε of the target that is spread evenly over all classes, in [0, 1).
        huber_delta: The distance from which Huber's loss is linear instead of square, positive.
    """
    from torch.nn import functional

    check_loss(name, task, label_smoothing, huber_delta)
    function = LOSSES[name].functions[task]
    return lambda outputs, targets: function(functional, outputs, targets, label_smoothing, huber_delta)
