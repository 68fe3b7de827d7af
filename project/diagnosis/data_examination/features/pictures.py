"""What is examined, what is shown of it, and the views of the pictures that several checks share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from project.data.datamodule import ImageDataModule
from project.data.settings import SplitName
from project.data.sources.load import ImageSplit
from project.diagnosis.judgement.findings import Finding

MAX_SIDE = 28
"""Larger pictures are averaged down to this side before they are compared, which bounds the time."""
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Example:
    """A picture to look at, uint8 (height, width) or (height, width, channels), with its caption."""

    image: Tensor
    caption: str


@dataclass(frozen=True, eq=False)
class Illustrated:
    """A finding with the pictures that show it, which may be none."""

    finding: Finding
    examples: Sequence[Example] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ExaminedData:
    """The pictures and labels of all splits.

    Attributes:
        splits: The pictures, uint8 (n, height, width[, channels]), and labels of each split that is not empty.
        class_names: The names in the order of the labels; empty for regression, whose labels are not examined.
    """

    splits: Mapping[SplitName, ImageSplit]
    class_names: tuple[str, ...]

    @property
    def train(self) -> ImageSplit:
        return self.splits["train"]

    @property
    def learning(self) -> ImageSplit:
        """Training and validation together: both are cut at random from the same files."""
        parts = [self.splits[name] for name in SPLITS[:2] if name in self.splits]
        return ImageSplit(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))

    def name_of(self, label: Tensor | int) -> str:
        return self.class_names[int(label)] if self.class_names else str(int(label))


def examined_data(datamodule: ImageDataModule) -> ExaminedData:
    """The splits as the settings cut them, with the chosen classes numbered from 0."""
    names = datamodule.spec.class_names
    splits: dict[SplitName, ImageSplit] = {}
    for split, indices in datamodule.splits.items():
        if len(indices):
            labels = datamodule.targets(split)[indices] if names else datamodule.source(split).labels[indices]
            if labels.is_floating_point():  # real numbers have no classes
                labels = torch.zeros_like(labels)
            splits[split] = ImageSplit(datamodule.source(split).images[indices], labels.long())
    return ExaminedData(splits, names)


def chunks(images: Tensor) -> tuple[Tensor, ...]:
    """Parts of the pictures that fit into memory as numbers of another type."""
    return torch.split(images, max((1 << 22) // math.prod(images.shape[1:]), 1))


def reduced(images: Tensor, max_side: int = MAX_SIDE) -> Tensor:
    """Float pictures in 0–255, (n, height, width[, channels]), averaged down until no side is over `max_side`."""
    factor = -(-max(images.shape[1:3]) // max_side)
    if factor == 1:
        return images.float()
    if images.dim() == 4:
        planes = [functional.avg_pool2d(part.float().movedim(3, 1), factor) for part in chunks(images)]
        return torch.cat(planes).movedim(1, 3)
    parts = [functional.avg_pool2d(part.float().unsqueeze(1), factor).squeeze(1) for part in chunks(images)]
    return torch.cat(parts)


def is_blank(images: Tensor) -> Tensor:
    """Which pictures, (n, height, width[, channels]), have one flat gray or colour, bool (n,)."""
    pixels = images.flatten(1, 2)  # (n, pixels[, channels])
    same = pixels.amin(1) == pixels.amax(1)
    return same if same.dim() == 1 else same.all(1)


def background(images: Tensor) -> Tensor:
    """The gray level that is the most frequent at the pictures' edges, a scalar tensor."""
    edges = torch.cat([images[:, 0].flatten(), images[:, -1].flatten(), images[:, :, 0].flatten()])
    return torch.bincount(edges.long(), minlength=256).argmax()


def spread_indices(num: int, wanted: int, seed: int = 0) -> Tensor:
    """`wanted` of `num` indices, or all where there are fewer, drawn at random from a fixed seed, ascending."""
    if num <= wanted:
        return torch.arange(num)
    return torch.randperm(num, generator=torch.Generator().manual_seed(seed))[:wanted].sort().values
