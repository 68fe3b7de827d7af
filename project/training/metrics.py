"""Metrics of a whole split from its logits: they see all examples at once, so nothing is averaged twice."""

from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error, r2_score
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

from project.task import TaskName, decide, probabilities

CALIBRATION_BINS = 15
"""The number of bins of the expected calibration error, as in Guo et al. 2017."""


def score(logits: Tensor, targets: Tensor, task: TaskName) -> float:
    """Accuracy, a share in [0, 1], for classification; root mean squared error for regression, in the target's unit."""
    if task == "regression":
        return float((logits[:, 0].double() - targets.double()).square().mean().sqrt())
    return float((decide(logits, task) == targets).double().mean())


def confusion_matrix(logits: Tensor, targets: Tensor, task: TaskName, num_classes: int) -> Tensor:
    """Counts by true class (rows) and decided class (columns), int64 (classes, classes)."""
    return multiclass_confusion_matrix(decide(logits, task), targets, num_classes)


def evaluation_metrics(logits: Tensor, targets: Tensor, task: TaskName, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Every metric that fits the task.

    Args:
        logits: The logits, or for regression the outputs in the target's unit, (n, outputs).
        targets: The targets, (n,).
        task: What the outputs mean.
        class_names: The classes' names in the order of their indices; empty for regression.

    Returns:
        For classification: accuracy; macro_f1, the mean over the classes that occur among targets or decisions;
        calibration_error (expected, 15 bins, of the decided class's probability); class_accuracy, the share of each
        class that is recognized, by name, NaN for a class without targets; confusion_matrix (true by decided); with one
        output also roc_auc, NaN where one class has no targets. For regression: rmse, mae, r2 (NaN for one example).
    """
    if task == "regression":
        outputs, reals = logits[:, 0].double(), targets.double()
        return {
            "rmse": score(logits, targets, task),
            "mae": float(mean_absolute_error(outputs, reals)),
            "r2": float(r2_score(outputs, reals)) if len(targets) > 1 else float("nan"),
        }
    confusion = confusion_matrix(logits, targets, task, len(class_names))
    # in float64, unlike torchmetrics' own shares: runs are compared by them
    hits, num_true, num_decided = confusion.diagonal().double(), confusion.sum(1), confusion.sum(0)
    # torchmetrics puts a probability of exactly 1 in float32 into a 16th bin: this keeps it in the last of the 15
    below_one = probabilities(logits.double(), task).clamp(max=1 - 2**-24)
    metrics = {
        "accuracy": score(logits, targets, task),
        "macro_f1": float((2 * hits / (num_true + num_decided)).nanmean()),
        "calibration_error": float(
            multiclass_calibration_error(below_one, targets, below_one.shape[1], n_bins=CALIBRATION_BINS)
        ),
    }
    if task == "binary":
        metrics["roc_auc"] = _roc_auc(logits[:, 0], targets)
    return metrics | {
        "class_accuracy": dict(zip(class_names, (hits / num_true).tolist(), strict=True)),
        "confusion_matrix": confusion.tolist(),
    }


def _roc_auc(logits: Tensor, targets: Tensor) -> float:
    if targets.min() == targets.max():
        return float("nan")
    # only the order counts: a sigmoid rounds large logits to 1, but their ranks differ
    ranks = cast(Tensor, torch.unique(logits, return_inverse=True)[1])
    return float(binary_auroc(ranks.double() / len(ranks), targets))
