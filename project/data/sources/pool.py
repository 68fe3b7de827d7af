"""A test set for data that come as one pool, and what all of a user's own data are checked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from project.data.sources.load import ImageDataset
from project.errors import InputError
from project.task import TaskName

TEST_PARTS = 6
"""One part in so many of a pool is kept for testing, as in MNIST and CIFAR-10."""
Indices = np.ndarray[Any, np.dtype[np.int64]]


def cut_test_set(labels: torch.Tensor, split_seed: int, names: Sequence[str] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a sixth of a pool for testing, of every class and at least one example of each.

    Args:
        labels: Classes, int64 (n,); or numbers, float32 (n,), among which the cut is drawn without classes.
        split_seed: It alone decides the cut.
        names: The classes' names, for the refusal.

    Returns:
        The indices of the training set and of the test set, int64, ascending.

    Raises:
        InputError: If a class has only one example.
    """
    classes = np.zeros(len(labels), dtype=np.int64) if labels.is_floating_point() else labels.numpy()
    # another stream than the one that cuts validation with the same seed
    generator = np.random.Generator(np.random.PCG64([split_seed, TEST_PARTS]))
    chosen = []
    for label in np.unique(classes):
        own = np.flatnonzero(classes == label)
        if len(own) < 2:
            raise InputError(
                f"class {names[label] if names else label} has one example, but a test set is cut from the same pool",
                "add examples of it, or remove the class",
            )
        chosen.append(generator.permutation(own)[: max(round(len(own) / TEST_PARTS), 1)])
    test = np.sort(np.concatenate(chosen))
    train = np.setdiff1d(np.arange(len(labels)), test, assume_unique=True)
    return torch.from_numpy(train), torch.from_numpy(test)


def check_targets(data: ImageDataset, task: TaskName) -> None:
    """Refuse targets that the task cannot learn: numbers or a single class, unless it is a regression."""
    if task == "regression":
        return
    if data.train.labels.is_floating_point():
        raise InputError(
            f"the targets of {data.source} are real numbers, but model.task is {task}",
            "type --model.task regression, or save the targets as integers if they are classes",
        )
    if len(data.class_names) < 2:
        raise one_class(data.source)


def one_class(source: str) -> InputError:
    """The refusal of examples that are all of one class, or all have the same target."""
    return InputError(
        f"{source} have one class, or one number as target, but two or more are needed: there is nothing to learn",
        "add examples of another class, or type --model.task regression --data.target rotation to learn a number",
    )
