"""Losses against torch.nn, scikit-learn and sums done by hand (N26, N27)."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn

from project.errors import InputError
from project.network.optimization.losses import DEFAULT_LOSS, LOSSES, build_loss
from project.task import TaskName, decide

NAMED = [name for name in LOSSES if name != "auto"]
ALLOWED = [(task, name) for name in NAMED for task in LOSSES[name].functions]


def drawn(outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits (40, outputs) and labels (40,)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(40, outputs, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, max(outputs, 2), (40,), generator=generator)


MULTICLASS, BINARY = drawn(5, 0), drawn(1, 1)


def test_facts_of_every_row() -> None:
    for name in ("cross_entropy", "binary_cross_entropy", "hinge"):
        assert set(LOSSES[name].functions) == {"multiclass", "binary"}
    for name in ("auto", "mse", "mae", "huber"):
        assert set(LOSSES[name].functions) == {"multiclass", "binary", "regression"}
    assert LOSSES["auto"].probabilities == {"multiclass", "binary"}


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, name in ALLOWED if task != "regression"])
def test_which_losses_have_probabilities_and_which_are_smoothed(task: TaskName, name: str) -> None:
    row, classes = LOSSES[name], 3 if task == "multiclass" else 2
    zeros = torch.zeros(classes, classes if task == "multiclass" else 1)
    # guessing costs log(classes) where the loss trains class probabilities, and nowhere else
    guessing = build_loss(name, task)(zeros, torch.arange(classes)).item()
    assert (task in row.probabilities) == (guessing == pytest.approx(math.log(classes)))
    logits, labels = MULTICLASS if task == "multiclass" else BINARY
    plain, smooth = (row.functions[task](nn.functional, logits, labels, x, 1.0) for x in (0.0, 0.3))
    assert (task in row.smoothing) == (not torch.equal(plain, smooth))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy(smoothing: float) -> None:
    logits, labels = MULTICLASS
    loss = build_loss("cross_entropy", "multiclass", smoothing)(logits, labels)
    torch.testing.assert_close(loss, nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels))
    targets = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    logarithms = logits.numpy() - np.log(np.exp(logits.numpy()).sum(1, keepdims=True))
    assert loss.item() == pytest.approx(-(targets * logarithms).sum(1).mean())


def test_cross_entropy_is_scikit_learns_log_loss() -> None:
    logits, labels = MULTICLASS
    expected = sklearn_metrics.log_loss(labels, logits.softmax(1))
    assert build_loss("cross_entropy", "multiclass")(logits, labels).item() == pytest.approx(expected)
    logits, labels = BINARY
    expected = sklearn_metrics.log_loss(labels, logits[:, 0].sigmoid())
    for name in ("cross_entropy", "binary_cross_entropy"):
        assert build_loss(name, "binary")(logits, labels).item() == pytest.approx(expected)


def test_one_output_says_the_same_as_two() -> None:
    """σ(z) is the softmax of (0, z), smoothed or not."""
    logits, labels = BINARY
    two = torch.cat((torch.zeros_like(logits), logits), dim=1)
    for smoothing in (0.0, 0.2):
        one = build_loss("cross_entropy", "binary", smoothing)(logits, labels)
        torch.testing.assert_close(one, build_loss("cross_entropy", "multiclass", smoothing)(two, labels))


def test_binary_cross_entropy() -> None:
    logits, labels = BINARY
    expected = nn.BCEWithLogitsLoss()(logits[:, 0], labels.double())
    torch.testing.assert_close(build_loss("binary_cross_entropy", "binary")(logits, labels), expected)
    logits, labels = MULTICLASS
    one_hot = torch.eye(5, dtype=torch.float64)[labels]
    expected = sum(nn.BCEWithLogitsLoss()(logits[:, j], one_hot[:, j]) for j in range(5))
    torch.testing.assert_close(build_loss("binary_cross_entropy", "multiclass")(logits, labels), expected)
    smooth = 0.9 * one_hot + 0.1 / 5
    expected = 5 * nn.BCEWithLogitsLoss()(logits, smooth)
    torch.testing.assert_close(build_loss("binary_cross_entropy", "multiclass", 0.1)(logits, labels), expected)


def test_hinge_by_hand() -> None:
    # two classes: 1 − 0.3 = 0.7; met with a margin: 0; 1 + 2 = 3
    logits, labels = torch.tensor([[0.3], [-1.5], [2.0]]), torch.tensor([1, 0, 0])
    assert build_loss("hinge", "binary")(logits, labels).item() == pytest.approx((0.7 + 0 + 3) / 3)
    # three classes, label 1: (1 − 1 + 0.5) + (1 − 1 + 2) = 2.5; label 0: 0 + (1 − 3 + 2.5) = 0.5
    logits, labels = torch.tensor([[0.5, 1.0, 2.0], [3.0, -1.0, 2.5]]), torch.tensor([1, 0])
    assert build_loss("hinge", "multiclass")(logits, labels).item() == pytest.approx((2.5 + 0.5) / 2)


def test_hinge_against_libraries() -> None:
    logits, labels = BINARY
    expected = sklearn_metrics.hinge_loss(labels, logits[:, 0])
    assert build_loss("hinge", "binary")(logits, labels).item() == pytest.approx(expected)
    logits, labels = MULTICLASS
    # torch divides the sum over the classes by their number, Weston & Watkins do not
    torch.testing.assert_close(
        build_loss("hinge", "multiclass")(logits, labels), 5 * nn.MultiMarginLoss()(logits, labels)
    )


@pytest.mark.parametrize(
    ("name", "reference"),
    [("mse", nn.MSELoss()), ("mae", nn.L1Loss()), ("huber", nn.HuberLoss(delta=0.7))],
)
def test_losses_on_real_targets(name: str, reference: nn.Module) -> None:
    logits, labels = MULTICLASS
    one_hot = torch.eye(5, dtype=torch.float64)[labels]
    loss = build_loss(name, "multiclass", huber_delta=0.7)(logits, labels)
    torch.testing.assert_close(loss, 5 * reference(logits, one_hot))
    logits, labels = BINARY
    signs = torch.where(labels == 1, 1.0, -1.0).double()
    torch.testing.assert_close(
        build_loss(name, "binary", huber_delta=0.7)(logits, labels), reference(logits[:, 0], signs)
    )
    targets = torch.linspace(-3, 3, 40, dtype=torch.float64)
    loss = build_loss(name, "regression", huber_delta=0.7)(logits, targets)
    torch.testing.assert_close(loss, reference(logits[:, 0], targets))


def test_huber_turns_from_square_to_linear_at_delta() -> None:
    outputs, targets = torch.tensor([[1.0], [5.0]]), torch.zeros(2)
    # 1²/2 inside δ = 2, and 2·(5 − 2/2) outside
    assert build_loss("huber", "regression", huber_delta=2.0)(outputs, targets).item() == pytest.approx((0.5 + 8) / 2)


@pytest.mark.parametrize("task", DEFAULT_LOSS)
def test_auto_is_the_tasks_usual_loss(task: TaskName) -> None:
    outputs = torch.tensor([[0.5, -1.0], [2.0, 0.1]])[:, : 2 if task == "multiclass" else 1]
    targets = torch.tensor([1, 0]) if task != "regression" else torch.tensor([0.3, -0.3])
    usual = {"multiclass": "cross_entropy", "binary": "binary_cross_entropy", "regression": "mse"}[task]
    assert DEFAULT_LOSS[task] == usual
    assert torch.equal(build_loss("auto", task)(outputs, targets), build_loss(usual, task)(outputs, targets))


@pytest.mark.parametrize(("task", "name"), ALLOWED)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_stay_finite(task: TaskName, name: str, size: float) -> None:
    logits = torch.full((4, 3 if task == "multiclass" else 1), size)
    logits[:2, 0] *= -1
    logits.requires_grad_()
    targets = torch.tensor([0, 1, 0, 1])
    loss = build_loss(name, task)(logits, targets.float() if task == "regression" else targets)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("task", "name"), ALLOWED)
def test_every_loss_is_the_mean_over_the_batch(task: TaskName, name: str) -> None:
    logits = torch.randn(
        6, 3 if task == "multiclass" else 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    targets = torch.tensor([0, 1, 1, 0, 1, 0])
    if task == "regression":
        targets = targets.double()
    loss = build_loss(name, task)
    each = torch.stack([loss(logits[i : i + 1], targets[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(loss(logits, targets), each.mean())


def test_decide() -> None:
    assert decide(torch.tensor([[0.1, 2.0, 1.9], [3.0, -1.0, 2.0]]), "multiclass").tolist() == [1, 0]
    decisions = decide(torch.tensor([[0.2], [-0.2], [0.0]]), "binary")
    assert decisions.tolist() == [1, 0, 0]
    assert decisions.dtype == torch.int64
    assert decide(torch.tensor([[0.25], [-3.5]]), "regression").tolist() == [0.25, -3.5]


REFUSED = [
    *((name, "regression", {}) for name in NAMED if "regression" not in LOSSES[name].functions),
    *(("cross_entropy", "multiclass", {"label_smoothing": x}) for x in (-0.1, 1.0, math.nan)),
    *((name, task, {"label_smoothing": 0.1}) for task, name in ALLOWED if task not in LOSSES[name].smoothing),
    ("auto", "regression", {"label_smoothing": 0.1}),
    *(("huber", "regression", {"huber_delta": x}) for x in (0.0, -1.0, math.nan, math.inf)),
]


@pytest.mark.parametrize(("name", "task", "wrong"), REFUSED, ids=str)
def test_refusals(name: str, task: TaskName, wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong), "model.task").replace("label_", "label.")):
        build_loss(name, task, **wrong)
