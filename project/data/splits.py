"""How the training set is cut, stratified by class, and how some of its labels are made wrong on purpose."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from project.data.loaders import mix_seed

_NOISE_STREAM = 0x6E6F697365
"""It parts the draws of label noise from others with the same seed."""

MAX_AUTO_VALIDATION = 5000
"""The largest number of validation examples that `data.num_validation auto` takes."""


def fitting_sizes(num_validation: int, num_train: int | None, available: int) -> str:
    """What to type where validation and training set together need more examples than there are."""
    if num_validation < available:
        return f"type --data.num_train {available - num_validation} or less"
    if num_train and num_train < available:
        return f"type --data.num_validation {available - num_train} or less"
    return "type --data.num_validation auto, and leave --data.num_train out"


def stratified_split(
    labels: "np.ndarray[Any, Any]", indices: "np.ndarray[Any, Any]", num: int, generator: np.random.Generator
) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Cut `num` of the indices so that every class has its share, to within one example.

    Returns:
        The `num` chosen indices and the rest, both ascending.
    """
    classes, counts = np.unique(labels[indices], return_counts=True)
    shares = counts * num / max(len(indices), 1)
    take = np.floor(shares).astype(np.int64)
    # what rounding down left goes to the classes with the largest remainders (Hamilton's method)
    take[np.argsort(take - shares, kind="stable")[: num - take.sum()]] += 1
    chosen = [
        generator.permutation(indices[labels[indices] == label])[:count]
        for label, count in zip(classes, take, strict=True)
    ]
    selected = np.sort(np.concatenate(chosen)) if chosen else indices[:0]
    return selected, np.setdiff1d(indices, selected, assume_unique=True)


def redraw_labels(labels: Tensor, indices: Tensor, share: float, num_classes: int, seed: int) -> Tensor:
    """Draw a share of the labels anew, evenly from all classes, among which is the one that was there.

    Args:
        labels: All labels, int64 (n,); they are not changed.
        indices: The examples among which `share` is taken, int64 (m,).
        share: So much of `indices`, rounded to whole examples, in [0, 1].
        num_classes: Labels are drawn from 0 to one less than this.
        seed: It decides which labels are redrawn, and what they become.

    Returns:
        A copy of all labels with the new ones in it, (n,).
    """
    generator = torch.Generator().manual_seed(mix_seed(seed, _NOISE_STREAM))
    num = round(share * len(indices))
    chosen = indices[torch.randperm(len(indices), generator=generator)[:num]]
    noisy = labels.clone()
    noisy[chosen] = torch.randint(num_classes, (num,), generator=generator)
    return noisy
