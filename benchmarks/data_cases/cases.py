"""What a case is."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.data_cases.sickness import Array, Rng


@dataclass
class Arrays:
    """Both official sets as arrays: images uint8 (n, height, width), labels int64 (n,)."""

    images: Array
    labels: Array
    test_images: Array
    test_labels: Array

    def __post_init__(self) -> None:
        self.images, self.test_images = self.images.copy(), self.test_images.copy()
        self.labels, self.test_labels = self.labels.copy(), self.test_labels.copy()

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1


@dataclass(frozen=True)
class Case:
    """A data set that is sick or healthy.

    Args:
        name: What is wrong with it.
        dataset: mnist or fashion_mnist.
        num_train: Training pictures, of which a tenth is used for validation.
        num_test: Test pictures.
        make: Makes the data sick; None for healthy ones.
        codes: The findings that name it, each enough; empty for healthy ones.
        classes: The classes that are used; None for all.
        size: Side of the pictures after resizing; None leaves it.
        seed: Seed of the choice of pictures and of what makes them sick.
    """

    name: str
    dataset: str
    num_train: int
    num_test: int
    make: Callable[[Arrays, Rng], None] | None = None
    codes: tuple[str, ...] = ()
    classes: tuple[int, ...] | None = None
    size: int | None = None
    seed: int = 0
    remark: str = field(default="")


def drawn(case: Case, full: Arrays) -> Arrays:
    """The case's pictures, chosen at random from the full sets, resized, and made sick."""
    from PIL import Image

    rng = np.random.default_rng(case.seed)
    parts = []
    for images, labels, num in (
        (full.images, full.labels, case.num_train),
        (full.test_images, full.test_labels, case.num_test),
    ):
        there = np.arange(len(labels)) if case.classes is None else np.flatnonzero(np.isin(labels, case.classes))
        chosen = np.sort(rng.permutation(there)[:num])
        own = images[chosen]
        if case.size is not None:
            side = (case.size, case.size)
            own = np.stack([np.asarray(Image.fromarray(one).resize(side, Image.Resampling.BILINEAR)) for one in own])
        numbers = labels[chosen]
        if case.classes is not None:
            numbers = np.searchsorted(np.array(sorted(case.classes)), numbers)
        parts += [own, numbers]
    arrays = Arrays(*parts)
    if case.make is not None:
        case.make(arrays, rng)
    return arrays
