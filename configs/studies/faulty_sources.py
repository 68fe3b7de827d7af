"""FashionMNIST with faults that were put in on purpose, for the study leaks_shift.yaml: a leak, and two shifts.

python scripts/train.py --extensions configs/studies/faulty_sources.py --data.dataset fashion_mnist_leak
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from project.data.sources.load import ImageDataset, ImageSplit
from project.data.sources.table import SOURCES, Source

MOVED_BY = 1
"""Pixels to the right and down, in the pictures of test that are moved."""


def leak(data: ImageDataset) -> ImageDataset:
    """Put copies of test pictures, with their labels, in the place of every second training picture."""
    images, labels = data.train.images.clone(), data.train.labels.clone()
    copies = torch.arange(len(images[::2])) % len(data.test.images)
    images[::2], labels[::2] = data.test.images[copies], data.test.labels[copies]
    return replace(data, train=ImageSplit(images, labels))


def shift(data: ImageDataset, change: Callable[[Tensor], Tensor]) -> ImageDataset:
    """Change the pictures of test: uint8 (n, height, width) to the same."""
    return replace(data, test=ImageSplit(change(data.test.images), data.test.labels))


def moved(images: Tensor) -> Tensor:
    return pad(images, (MOVED_BY, 0, MOVED_BY, 0))[:, :-MOVED_BY, :-MOVED_BY].contiguous()


def dark(images: Tensor) -> Tensor:
    """Half as bright."""
    return images // 2


def load(fault: Callable[[ImageDataset], ImageDataset], settings: Any) -> ImageDataset:
    data = fault(SOURCES["fashion_mnist"].load(replace(settings, dataset="fashion_mnist")))
    splits = {"train": data.train, "test": data.test}
    sha256 = {f"{name} pictures": hashlib.sha256(split.images.numpy()).hexdigest() for name, split in splits.items()}
    return replace(data, name=settings.dataset, source=f"{data.source}, with a fault", sha256=sha256)


FAULTS = {"leak": leak, "moved": partial(shift, change=moved), "dark": partial(shift, change=dark)}
for name, fault in FAULTS.items():
    SOURCES[f"fashion_mnist_{name}"] = Source(partial(load, fault), polarity="auto")
