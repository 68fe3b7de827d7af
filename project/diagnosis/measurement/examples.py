"""The examples that every probe of a run looks at."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from project.data.datamodule import ImageDataModule
from project.data.loaders import spread_examples
from project.network.optimization.losses import LOSSES
from project.task import DataSpec
from project.training.module import ImageModule

MAX_PROBE_EXAMPLES = 256
"""Validation examples that every probe looks at: the same ones each time."""


def layer_tags(num_hidden: int) -> list[str]:
    """The layers' names, equal in networks of any depth, and in the layers' order when sorted: hidden_01, …, output.

    From the hundredth layer on they have a digit more; TensorBoard sorts numbers by their value.
    """
    return [*(f"hidden_{number:02}" for number in range(1, num_hidden + 1)), "output"]


def probe_examples(module: ImageModule, datamodule: ImageDataModule) -> tuple[Tensor, Tensor]:
    """The examples of a run's probes, from validation, or from training where there is none.

    Returns:
        Normalized inputs, (n, features), and targets as the loss expects them, (n,), on the data's device.
    """
    loader = datamodule.evaluation_loader("validation" if datamodule.settings.is_validated else "train")
    batch = spread_examples(loader, MAX_PROBE_EXAMPLES)
    with torch.no_grad():
        inputs = module.normalization(batch.images)
    if module.task == "regression":
        return inputs, module.spec.standardized(batch.targets)
    return inputs, batch.targets


def chance_loss(settings: Mapping[str, Any], spec: DataSpec) -> float | None:
    """Loss of uniform guesses, log(classes), where the loss trains class probabilities; else None.

    Args:
        settings: The run's settings by their flags' names, of which `model.loss` counts.
        spec: What the data are.
    """
    loss = LOSSES.get(settings.get("model.loss", ""))
    known = loss is not None and spec.task in loss.probabilities
    return math.log(len(spec.class_names)) if known else None
