"""Metrics of a whole split against scikit-learn and sums done by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from project.data.normalization import Normalization
from project.task import DataSpec, probabilities, score_name
from project.training.metrics import CALIBRATION_BINS, confusion_matrix, evaluation_metrics, score
from project.training.module import ImageModule

NAMES = ("shirt", "coat", "bag", "boot")


def multiclass(num: int = 500, seed: int = 0, num_present: int = 4) -> tuple[Tensor, Tensor]:
    """Logits (num, 4) that know something of the labels (num,)."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, num_present, (num,), generator=generator)
    return 2 * torch.randn(num, 4, generator=generator) + 2 * torch.eye(4)[targets], targets


def binary(num: int = 500, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 2, (num,), generator=generator)
    return torch.randn(num, 1, generator=generator) + targets[:, None], targets


def calibration_error(confidences: np.ndarray, hits: np.ndarray) -> float:
    """Guo et al. 2017, eqs. 3 and 5, bin by bin."""
    total = 0.0
    for b in range(CALIBRATION_BINS):
        low, high = b / CALIBRATION_BINS, (b + 1) / CALIBRATION_BINS
        inside = (confidences > low) & (confidences <= high)
        if inside.any():
            total += inside.mean() * abs(hits[inside].mean() - confidences[inside].mean())
    return total


def check_classified(logits: Tensor, targets: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
    """Hold the metrics of a classification against scikit-learn; returns them."""
    found = evaluation_metrics(logits, targets, "binary" if len(names) == 2 else "multiclass", names)
    if len(names) == 2:
        decisions, positive = (logits[:, 0] > 0).long(), logits.double().sigmoid()
        confidences = torch.maximum(positive, 1 - positive)[:, 0].numpy()
    else:
        decisions, confidences = logits.argmax(1), logits.double().softmax(1).max(1).values.numpy()
    assert found["accuracy"] == sklearn_metrics.accuracy_score(targets, decisions)
    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(targets, decisions, average="macro"), rel=1e-12)
    labels = range(len(names))
    assert found["confusion_matrix"] == sklearn_metrics.confusion_matrix(targets, decisions, labels=labels).tolist()
    present = sorted(set(targets.tolist()))
    recalls = sklearn_metrics.recall_score(targets, decisions, average=None, labels=present)
    assert [found["class_accuracy"][names[label]] for label in present] == pytest.approx(recalls.tolist(), rel=1e-15)
    expected = calibration_error(confidences, (decisions == targets).numpy())
    assert found["calibration_error"] == pytest.approx(expected, abs=1e-6)
    return found


def test_classification_against_scikit_learn() -> None:
    assert "roc_auc" not in check_classified(*multiclass(), NAMES)
    logits, targets = binary()
    found = check_classified(logits, targets, ("cat", "dog"))
    assert found["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(targets, logits[:, 0]), abs=1e-6)


def test_regression_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = 30 * torch.randn(200, generator=generator)
    outputs = targets[:, None] + 5 * torch.randn(200, 1, generator=generator)
    found = evaluation_metrics(outputs, targets, "regression", ())
    true, predicted = targets.double(), outputs[:, 0].double()
    assert found == {
        "rmse": pytest.approx(math.sqrt(sklearn_metrics.mean_squared_error(true, predicted)), rel=1e-12),
        "mae": pytest.approx(sklearn_metrics.mean_absolute_error(true, predicted), rel=1e-12),
        "r2": pytest.approx(sklearn_metrics.r2_score(true, predicted), rel=1e-12),
    }


def test_regression_on_one_example_has_no_r2() -> None:
    found = evaluation_metrics(torch.tensor([[3.0]]), torch.tensor([1.0]), "regression", ())
    assert (found["rmse"], found["mae"]) == (2.0, 2.0)
    assert math.isnan(found["r2"])


def test_shares_are_exact_in_float64() -> None:
    # 2 of 3 right in class 0, 1 of 3 in class 1: a float32 share would differ from 2 / 3 in the eighth digit
    logits = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1], [1, 0], [1, 0]])
    found = evaluation_metrics(logits, torch.tensor([0, 0, 0, 1, 1, 1]), "multiclass", ("a", "b"))
    assert found["class_accuracy"] == {"a": 2 / 3, "b": 1 / 3}
    assert found["accuracy"] == 0.5
    assert found["confusion_matrix"] == [[2, 1], [2, 1]]
    assert found["macro_f1"] == pytest.approx((2 * 2 / (3 + 4) + 2 * 1 / (3 + 2)) / 2, rel=1e-15)


def test_a_class_without_targets_has_no_accuracy() -> None:
    logits, targets = multiclass(num_present=3)
    # it was decided for: its f1 is 0 and counts
    assert (logits.argmax(1) == 3).any()
    assert math.isnan(check_classified(logits, targets, NAMES)["class_accuracy"]["boot"])
    # and where it is not even decided for, it does not count
    logits[:, 3] = -100
    assert math.isnan(check_classified(logits, targets, NAMES)["class_accuracy"]["boot"])


@pytest.mark.parametrize("only", [0, 1])
def test_roc_auc_of_a_single_class_is_not_a_number(only: int) -> None:
    logits, _ = binary(20)
    found = evaluation_metrics(logits, torch.full((20,), only), "binary", ("cat", "dog"))
    assert math.isnan(found["roc_auc"])


def test_roc_auc_counts_a_tie_half() -> None:
    # pairs (positive, negative): 2 > 1, 2 = 2, 0 < 1, 0 < 2
    logits, targets = torch.tensor([[2.0], [0.0], [1.0], [2.0]]), torch.tensor([1, 1, 0, 0])
    found = evaluation_metrics(logits, targets, "binary", ("cat", "dog"))
    assert found["roc_auc"] == pytest.approx((1 + 0.5) / 4)


def test_roc_auc_tells_large_logits_apart() -> None:
    logits, targets = binary()
    found = evaluation_metrics(1000 + 100 * logits, targets, "binary", ("cat", "dog"))
    assert found["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(targets, logits[:, 0]), abs=1e-6)


def test_calibration_error_of_the_very_sure() -> None:
    # probabilities of 1 to the last digit belong to the last bin: one right at 1.0, one wrong at 0.98 and so on
    margins = torch.tensor([200.0, 200.0, math.log(49), math.log(49)], dtype=torch.float64)
    logits = torch.stack((margins, torch.zeros(4)), dim=1)
    targets = torch.tensor([0, 1, 0, 0])
    found = evaluation_metrics(logits, targets, "multiclass", ("a", "b"))
    assert found["calibration_error"] == pytest.approx(abs(3 / 4 - (1 + 1 + 0.98 + 0.98) / 4), abs=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(num=st.integers(1, 60), seed=st.integers(0, 10_000), size=st.sampled_from([0.1, 1.0, 30.0]))
def test_any_split_against_the_definitions(num: int, seed: int, size: float) -> None:
    logits, targets = multiclass(num, seed)
    json.dumps(check_classified(size * logits, targets, NAMES))  # plain numbers, strings, lists and dicts


def test_probabilities() -> None:
    logits = torch.tensor([[math.log(3.0)], [-math.log(4.0)]])
    torch.testing.assert_close(probabilities(logits, "binary"), torch.tensor([[0.25, 0.75], [0.8, 0.2]]))
    logits = torch.tensor([[0.0, math.log(2.0), math.log(5.0)]])
    torch.testing.assert_close(probabilities(logits, "multiclass"), torch.tensor([[1 / 8, 2 / 8, 5 / 8]]))


def test_score_by_hand() -> None:
    assert score(torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 0, 0]), "multiclass") == 2 / 3
    assert score(torch.tensor([[0.5], [-0.5], [0.1]]), torch.tensor([1, 1, 0]), "binary") == 1 / 3
    assert score(torch.tensor([[3.0], [0.0]]), torch.tensor([0.0, 4.0]), "regression") == math.sqrt((9 + 16) / 2)
    assert [score_name(task) for task in ("multiclass", "binary", "regression")] == ["accuracy", "accuracy", "rmse"]


def test_confusion_matrix_has_a_row_and_column_for_every_class() -> None:
    matrix = confusion_matrix(torch.tensor([[9.0, 0, 0], [0, 9, 0]]), torch.tensor([1, 1]), "multiclass", 3)
    assert matrix.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert matrix.dtype == torch.int64


@pytest.mark.parametrize(
    ("loss", "known"),
    [("auto", True), ("cross_entropy", True), ("hinge", False), ("mse", False), ("binary_cross_entropy", False)],
)
def test_there_is_no_calibration_error_where_the_loss_trains_no_probabilities(loss: str, known: bool) -> None:
    normalization = Normalization(torch.zeros(()), torch.ones(()))
    module = ImageModule(DataSpec(2, 2, 4, "multiclass", NAMES), normalization, loss=loss, width=4)
    module.evaluated = multiclass()
    assert ("calibration_error" in module.metrics()) == known
    assert module.metrics()["accuracy"] == score(*multiclass(), "multiclass")
