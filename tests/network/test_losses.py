"""Losses against torch.nn, scikit-learn and sums done by hand (N26, N27)."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn

from project.errors import InputError
from project.network.losses import DEFAULT_LOSS, LossName, build_loss
from project.network.mlp import MLP
from project.task import TaskName, decide

CLASS_LOSSES: tuple[LossName, ...] = ("cross_entropy", "binary_cross_entropy", "hinge")
REAL_LOSSES: tuple[LossName, ...] = ("mse", "mae", "huber")
ALLOWED: list[tuple[TaskName, LossName]] = [
    *(("multiclass", name) for name in CLASS_LOSSES + REAL_LOSSES),
    *(("binary", name) for name in CLASS_LOSSES + REAL_LOSSES),
    *(("regression", name) for name in REAL_LOSSES),
]


@pytest.fixture
def multiclass() -> tuple[Tensor, Tensor]:
    """Logits (40, 5) and labels (40,)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 5, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, 5, (40,), generator=generator)


@pytest.fixture
def binary() -> tuple[Tensor, Tensor]:
    """Logits (40, 1) and labels (40,)."""
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(40, 1, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, 2, (40,), generator=generator)


def test_every_loss_is_tested_here() -> None:
    assert {"auto", *CLASS_LOSSES, *REAL_LOSSES} == set(get_args(LossName))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy(multiclass: tuple[Tensor, Tensor], smoothing: float) -> None:
    logits, labels = multiclass
    loss = build_loss("cross_entropy", "multiclass", smoothing)(logits, labels)
    torch.testing.assert_close(loss, nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, labels))
    targets = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    logarithms = logits.numpy() - np.log(np.exp(logits.numpy()).sum(1, keepdims=True))
    assert loss.item() == pytest.approx(-(targets * logarithms).sum(1).mean())


def test_cross_entropy_is_scikit_learns_log_loss(
    multiclass: tuple[Tensor, Tensor], binary: tuple[Tensor, Tensor]
) -> None:
    logits, labels = multiclass
    expected = sklearn_metrics.log_loss(labels, logits.softmax(1))
    assert build_loss("cross_entropy", "multiclass")(logits, labels).item() == pytest.approx(expected)
    logits, labels = binary
    expected = sklearn_metrics.log_loss(labels, logits[:, 0].sigmoid())
    for name in ("cross_entropy", "binary_cross_entropy"):
        assert build_loss(name, "binary")(logits, labels).item() == pytest.approx(expected)


def test_one_output_says_the_same_as_two(binary: tuple[Tensor, Tensor]) -> None:
    """σ(z) is the softmax of (0, z), smoothed or not."""
    logits, labels = binary
    two = torch.cat((torch.zeros_like(logits), logits), dim=1)
    for smoothing in (0.0, 0.2):
        one = build_loss("cross_entropy", "binary", smoothing)(logits, labels)
        torch.testing.assert_close(one, build_loss("cross_entropy", "multiclass", smoothing)(two, labels))


def test_binary_cross_entropy(multiclass: tuple[Tensor, Tensor], binary: tuple[Tensor, Tensor]) -> None:
    logits, labels = binary
    expected = nn.BCEWithLogitsLoss()(logits[:, 0], labels.double())
    torch.testing.assert_close(build_loss("binary_cross_entropy", "binary")(logits, labels), expected)
    logits, labels = multiclass
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


def test_hinge_against_libraries(multiclass: tuple[Tensor, Tensor], binary: tuple[Tensor, Tensor]) -> None:
    logits, labels = binary
    expected = sklearn_metrics.hinge_loss(labels, logits[:, 0])
    assert build_loss("hinge", "binary")(logits, labels).item() == pytest.approx(expected)
    logits, labels = multiclass
    # torch divides the sum over the classes by their number, Weston & Watkins do not
    torch.testing.assert_close(
        build_loss("hinge", "multiclass")(logits, labels), 5 * nn.MultiMarginLoss()(logits, labels)
    )


@pytest.mark.parametrize(
    ("name", "reference"),
    [("mse", nn.MSELoss()), ("mae", nn.L1Loss()), ("huber", nn.HuberLoss(delta=0.7))],
)
def test_losses_on_real_targets(
    name: LossName, reference: nn.Module, multiclass: tuple[Tensor, Tensor], binary: tuple[Tensor, Tensor]
) -> None:
    logits, labels = multiclass
    one_hot = torch.eye(5, dtype=torch.float64)[labels]
    loss = build_loss(name, "multiclass", huber_delta=0.7)(logits, labels)
    torch.testing.assert_close(loss, 5 * reference(logits, one_hot))
    logits, labels = binary
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


@pytest.mark.parametrize("task", get_args(TaskName))
def test_auto_is_the_tasks_usual_loss(task: TaskName) -> None:
    outputs = torch.tensor([[0.5, -1.0], [2.0, 0.1]])[:, : 2 if task == "multiclass" else 1]
    targets = torch.tensor([1, 0]) if task != "regression" else torch.tensor([0.3, -0.3])
    usual = {"multiclass": "cross_entropy", "binary": "binary_cross_entropy", "regression": "mse"}[task]
    assert DEFAULT_LOSS[task] == usual
    assert torch.equal(build_loss("auto", task)(outputs, targets), build_loss(usual, task)(outputs, targets))


@pytest.mark.parametrize(("task", "name"), ALLOWED)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_stay_finite(task: TaskName, name: LossName, size: float) -> None:
    logits = torch.full((4, 3 if task == "multiclass" else 1), size)
    logits[:2, 0] *= -1
    logits.requires_grad_()
    targets = torch.tensor([0, 1, 0, 1])
    loss = build_loss(name, task)(logits, targets.float() if task == "regression" else targets)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("task", "name"), ALLOWED)
def test_every_loss_is_the_mean_over_the_batch(task: TaskName, name: LossName) -> None:
    logits = torch.randn(
        6, 3 if task == "multiclass" else 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    targets = torch.tensor([0, 1, 1, 0, 1, 0])
    if task == "regression":
        targets = targets.double()
    loss = build_loss(name, task)
    each = torch.stack([loss(logits[i : i + 1], targets[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(loss(logits, targets), each.mean())


@pytest.mark.parametrize(("task", "name"), ALLOWED)
def test_gradient_descent_solves_a_separable_problem(task: TaskName, name: LossName) -> None:
    torch.manual_seed(0)
    num_classes = {"multiclass": 3, "binary": 2, "regression": 1}[task]
    noise, targets = torch.randn(30, 3), torch.arange(30) % max(num_classes, 2)
    x = torch.eye(3)[targets] + 0.1 * noise
    if task == "regression":
        x, targets = noise, noise @ torch.tensor([1.0, -2.0, 0.5]) + 0.3
    model = MLP(3, num_classes if task == "multiclass" else 1, depth=0)
    loss = build_loss(name, task)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 150)  # mae needs a falling rate to settle
        optimizer.zero_grad()
        loss(model(x), targets).backward()
        optimizer.step()
    decisions = decide(model(x), task)
    if task == "regression":
        assert (decisions - targets).abs().max() < 0.01
    else:
        assert (decisions == targets).all()


def test_decide() -> None:
    assert decide(torch.tensor([[0.1, 2.0, 1.9], [3.0, -1.0, 2.0]]), "multiclass").tolist() == [1, 0]
    decisions = decide(torch.tensor([[0.2], [-0.2], [0.0]]), "binary")
    assert decisions.tolist() == [1, 0, 0]
    assert decisions.dtype == torch.int64
    assert decide(torch.tensor([[0.25], [-3.5]]), "regression").tolist() == [0.25, -3.5]


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_regression_refuses_what_compares_classes(name: LossName) -> None:
    with pytest.raises(InputError, match=f"loss {name} compares classes") as error:
        build_loss(name, "regression")
    assert "mse, mae or huber" in error.value.remedy


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_label_smoothing_out_of_range(smoothing: float) -> None:
    with pytest.raises(InputError, match=r"model\.label_smoothing is") as error:
        build_loss("cross_entropy", "multiclass", smoothing)
    assert "--model.label_smoothing 0.1" in error.value.remedy


@pytest.mark.parametrize(("task", "name"), [pair for pair in ALLOWED if "entropy" not in pair[1]])
def test_label_smoothing_needs_probabilities(task: TaskName, name: LossName) -> None:
    with pytest.raises(InputError, match=f"but loss {name} has no probabilities"):
        build_loss(name, task, label_smoothing=0.1)


@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan, math.inf])
def test_huber_delta_out_of_range(delta: float) -> None:
    with pytest.raises(InputError, match=r"model\.huber_delta is") as error:
        build_loss("huber", "regression", huber_delta=delta)
    assert "--model.huber_delta 1.0" in error.value.remedy


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown loss 'l2'") as error:
        build_loss("l2", "regression")
    assert "mse" in error.value.remedy
