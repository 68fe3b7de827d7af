"""Metrics of a whole split from its logits, by torchmetrics: one pass over all examples, so nothing is averaged twice."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional import auroc, calibration_error, f1_score, mean_absolute_error, r2_score
from torchmetrics.functional.classification import multiclass_confusion_matrix

from project.losses import TaskName, decide

CALIBRATION_BINS = 15
"""Bins of the expected calibration error, as Guo et al. 2017 use."""


def probabilities(logits: Tensor, task: TaskName) -> Tensor:
    """Class probabilities, (n, classes), by softmax; of class 0 and 1 by the logistic function for one output."""
    if task == "binary":
        positive = logits[:, 0].sigmoid()
        return torch.stack((1 - positive, positive), dim=1)
    return logits.softmax(1)


def score(logits: Tensor, targets: Tensor, task: TaskName) -> float:
    """Accuracy, a share in [0, 1], for classification; root mean squared error for regression, in the target's unit."""
    if task == "regression":
        return float((logits[:, 0].double() - targets.double()).square().mean().sqrt())
    return float((decide(logits, task) == targets).double().mean())


def score_name(task: TaskName) -> str:
    """What `score` is called."""
    return "rmse" if task == "regression" else "accuracy"


def confusion_matrix(logits: Tensor, targets: Tensor, task: TaskName, num_classes: int) -> Tensor:
    """Counts by true class (rows) and decided class (columns), int64 (classes, classes)."""
    return multiclass_confusion_matrix(decide(logits, task), targets, num_classes)


def evaluation_metrics(logits: Tensor, targets: Tensor, task: TaskName, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Every metric that fits the task.

    Args:
        logits: (n, outputs); for regression outputs in the target's unit.
        targets: (n,).
        task: What the outputs mean.
        class_names: In the order of the indices; empty for regression.

    Returns:
        For classification: accuracy, macro_f1, calibration_error (expected, 15 bins, of the decided class's
        probability), class_accuracy (the share of each class that is recognized, by name), confusion_matrix
        (true by decided); for two classes with one output also roc_auc. For regression: rmse, mae, r2.
    """
    if task == "regression":
        outputs = logits[:, 0]
        return {
            "rmse": score(logits, targets, task),
            "mae": float(mean_absolute_error(outputs.double(), targets.double())),
            "r2": float(r2_score(outputs.double(), targets.double())) if len(targets) > 1 else float("nan"),
        }
    num_classes = len(class_names)
    decisions, shares = decide(logits, task), probabilities(logits.double(), task)
    confusion = confusion_matrix(logits, targets, task, num_classes)
    recognized = confusion.diagonal() / confusion.sum(1)
    metrics = {
        "accuracy": score(logits, targets, task),
        "macro_f1": float(f1_score(decisions, targets, "multiclass", average="macro", num_classes=num_classes)),
        "calibration_error": float(
            calibration_error(shares, targets, "multiclass", n_bins=CALIBRATION_BINS, num_classes=num_classes)
        ),
    }
    if task == "binary":
        metrics["roc_auc"] = float(auroc(shares[:, 1], targets, "binary"))
    return metrics | {
        "class_accuracy": {name: float(share) for name, share in zip(class_names, recognized, strict=True)},
        "confusion_matrix": confusion.tolist(),
    }
