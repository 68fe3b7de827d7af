"""The examples that every probe of a run looks at."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from project.data.augmentation import Batch, rotate
from project.data.datamodule import ImageDataModule
from project.data.loaders import EvaluationLoader
from project.diagnosis.theory import initial_loss
from project.network.losses import LOSSES
from project.task import DataSpec
from project.training.module import ImageModule

PROBE_EXAMPLES = 256
"""Validation examples that every probe looks at: the same ones each time."""


def layer_tags(num_hidden: int) -> list[str]:
    """The layers' names as TensorBoard sorts them rightly: hidden_01, …, output."""
    digits = len(str(num_hidden))
    return [*(f"hidden_{number:0{digits}}" for number in range(1, num_hidden + 1)), "output"]


def spread(num: int, most: int) -> Tensor:
    """At most `most` positions spread evenly over `num`, int64: a split may be sorted by class."""
    chosen = min(num, most)
    return torch.arange(chosen) * num // max(chosen, 1)


def spread_examples(loader: EvaluationLoader, most: int) -> tuple[Tensor, Batch]:
    """At most `most` examples spread evenly over a split: their positions in it, (n,), and the examples."""
    positions = spread(len(loader.indices), most)
    images = loader.images[loader.indices[positions].to(loader.images.device)]
    if loader.degrees is not None:
        images = rotate(images, loader.degrees[positions].to(images.device))
    return positions, Batch(images, loader.targets[positions.to(loader.targets.device)])


def probe_examples(module: ImageModule, datamodule: ImageDataModule) -> tuple[Tensor, Tensor]:
    """The examples of a run's probes, from validation, or from training where there is none.

    Returns:
        Normalized inputs, (n, features), and targets as the loss expects them, (n,), on the data's device.
    """
    loader = datamodule.evaluation_loader("validation" if datamodule.settings.num_validation else "train")
    batch = spread_examples(loader, PROBE_EXAMPLES)[1]
    with torch.no_grad():
        inputs = module.normalization(batch.images)
    if module.task == "regression":
        return inputs, module.spec.standardized(batch.targets)
    return inputs, batch.targets


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; then the mode that was before."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def chance_loss(settings: Mapping[str, Any], spec: DataSpec) -> float | None:
    """Loss of uniform guesses, where the loss trains class probabilities; else None.

    Args:
        settings: By their flags' names; `model.loss` is looked at.
        spec: Of the data.
    """
    loss = LOSSES.get(settings.get("model.loss", ""))
    known = loss is not None and spec.task in loss.probabilities
    return initial_loss(len(spec.class_names)) if known else None
