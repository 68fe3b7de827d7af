"""How the training set is cut, stratified by class."""

from typing import Any

import numpy as np


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
