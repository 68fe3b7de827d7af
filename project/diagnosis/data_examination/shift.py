"""Whether pictures of two splits come from one source, and what has happened to them if not.

A classifier two-sample test (Lopez-Paz & Oquab 2017, arXiv:1610.06545): if a classifier tells unseen pictures of the
two splits apart, they differ. Here it is ridge regression on random features and on what photographers would measure.
The verdict needs both: an accuracy that is certainly above 1/2, and far enough above it to matter.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from project.data.channels import gray
from project.data.sources.load import ImageSplit
from project.diagnosis.data_examination.features.classifier import RandomFeatures, judge_out_of_fold
from project.diagnosis.data_examination.features.pictures import (
    Example,
    Illustrated,
    background,
    reduced,
    spread_indices,
)
from project.diagnosis.data_examination.features.transformations import Transformation, erased, possible_transformations
from project.diagnosis.judgement.findings import Finding, Severity

SAMPLE = 4000
"""Pictures of each split that are compared at most."""
TRIED = 600
"""Pictures on which possible transformations are tried."""
RANDOM_FEATURES = 192
MIN_ACCURACY = 0.56
"""Smallest accuracy of the two-sample test that matters. If a share s of one split is recognizably from elsewhere, the
accuracy is about (1 + s) / 2: this is an eighth. The official test sets of MNIST and FashionMNIST give 0.50 to 0.52."""
MIN_Z = 4.0
"""And its least distance from 1/2 in standard errors of a fair coin."""
MIN_ERASED = 0.2
"""A pixel that is constant in one split counts as erased when it has another value in this share of the other one."""
EXPLAINED = 0.5
"""A transformation is named when it explains more than this share of the squared difference of the features' means."""


@dataclass(frozen=True)
class TwoSample:
    """Result of the two-sample test.

    Attributes:
        accuracy: How often the split of an unseen picture is recognized; both are equally frequent.
        z: Distance from 1/2 in standard errors.
    """

    accuracy: float
    z: float

    @property
    def differs(self) -> bool:
        return self.accuracy > MIN_ACCURACY and self.z > MIN_Z


@dataclass(frozen=True, eq=False)
class Features:
    """Numbers about each picture: random features, and what can be said in words.

    Attributes:
        random: The random part, fitted to one of the splits.
        base: The background's gray level, by which what stands out is found.
    """

    random: RandomFeatures
    base: float

    @classmethod
    def fitted(cls, images: Tensor) -> "Features":
        return cls(RandomFeatures.fitted(images, RANDOM_FEATURES), float(background(gray(images))))

    def __call__(self, images: Tensor) -> Tensor:
        """(n, features); in colour, only the random part sees the colours."""
        x = reduced(gray(images))
        flat = x.flatten(1)
        height, width = x.shape[1:]
        points = torch.linspace(0, flat.shape[1] - 1, 9).round().long()
        across, down = x.diff(dim=2).abs(), x.diff(dim=1).abs()
        smooth = functional.avg_pool2d(x.unsqueeze(1), 3, 1).squeeze(1)
        mass = (x - self.base).abs()
        total = mass.sum((1, 2)).clamp(min=1.0)
        row, column = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        by_row, by_column = mass.sum(2) / total[:, None], mass.sum(1) / total[:, None]
        y, z = by_row @ row, by_column @ column
        numbers = [
            flat.mean(1),
            flat.std(1),
            across.mean((1, 2)),
            down.mean((1, 2)),
            (x[:, 1:-1, 1:-1] - smooth).abs().mean((1, 2)),
            across.square().mean((1, 2)).sqrt(),
            (flat == 0).float().mean(1),
            (flat == 255).float().mean(1),
            x[:, 0].mean(1) + x[:, -1].mean(1),
            x[:, :, 0].mean(1) + x[:, :, -1].mean(1),
            y,
            z,
            by_row @ row.square() - y.square(),
            by_column @ column.square() - z.square(),
            torch.einsum("nhw,h,w->n", mass, row, column) / total - y * z,
        ]
        quantiles = flat.sort(1).values[:, points]
        return torch.cat([self.random(images)[:, :-1], quantiles, torch.stack(numbers, 1)], 1)


def matched(one: ImageSplit, other: ImageSplit, num: int = SAMPLE) -> tuple[Tensor, Tensor]:
    """Indices into both splits, equally many and with the same classes, so that other shares of classes do not count.

    Where a class is too rare in one of them, it is rare in both samples.
    """
    classes = int(max(one.labels.max(), other.labels.max())) + 1
    counts = torch.stack([torch.bincount(split.labels, minlength=classes) for split in (one, other)]).amin(0)
    wanted = (counts * min(1.0, num / max(int(counts.sum()), 1))).round().long()
    chosen = []
    for seed, split in enumerate((one, other)):
        parts = []
        for label, count in enumerate(wanted.tolist()):
            own = (split.labels == label).nonzero().flatten()
            parts.append(own[spread_indices(len(own), count, seed)])
        chosen.append(torch.cat(parts))
    return chosen[0], chosen[1]


def two_sample_test(features: Tensor, other: Tensor) -> TwoSample:
    """Cross-validated accuracy of telling two samples of equal size apart, from (n, features) each."""
    both = torch.cat([features, other])
    both = (both - both.mean(0)) / both.std(0).clamp(min=1e-6)
    both = functional.pad(both.clamp(-6, 6), (0, 1), value=1.0)
    side = torch.cat([torch.ones(len(features)), -torch.ones(len(other))])
    scores = judge_out_of_fold(both, side.unsqueeze(1)).scores[:, 0]
    accuracy = float(((scores > 0) == (side > 0)).double().mean())
    return TwoSample(accuracy, (accuracy - 0.5) * 2 * math.sqrt(len(both)))


@dataclass(frozen=True)
class Explanation:
    """A transformation that makes one split look like the other.

    Attributes:
        transformation: What it is.
        part: How much of it fits best: of its strength, or of the pictures, in [0, 1].
        explained: Share of the squared difference between the features' means, in [0, 1].
    """

    transformation: Transformation
    part: float
    explained: float


def explain(images: Tensor, other: Tensor, measure: Features) -> Explanation | None:
    """The transformation of the first pictures that leads to the other ones, if any explains enough."""
    start, goal = measure(images), measure(other)
    sd = ((start.var(0) + goal.var(0)) / 2).sqrt().clamp(min=1e-3 * float(start.std()))
    difference = (goal.mean(0) - start.mean(0)) / sd
    size = float(difference.square().sum())
    best: Explanation | None = None
    tried = possible_transformations(*images.shape[1:])
    gone = (other == other[0]).all(0) & ((images != other[0]).float().mean(0) > MIN_ERASED)
    if gone.any():
        tried.append(Transformation("erased", "erased in part", partial(erased, mask=gone, value=other[0].float())))
    for transformation in tried:
        way = (measure(transformation(images.float())).mean(0) - start.mean(0)) / sd
        part = float((way @ difference / way.square().sum().clamp(min=1e-9)).clamp(0, 1))
        explained = 1 - float((difference - part * way).square().sum()) / max(size, 1e-9)
        if best is None or explained > best.explained:
            best = Explanation(transformation, part, explained)
    return best if best is not None and best.explained > EXPLAINED else None


def judge_shift(one: ImageSplit, other: ImageSplit, names: tuple[str, str]) -> list[Illustrated]:
    """Judge whether the pictures of two splits differ, and name what has happened to the second.

    Args:
        one: A split, usually training.
        other: The split that is compared with it.
        names: What the two are called.
    """
    chosen = matched(one, other)
    if len(chosen[0]) < 50 or min(one.images.shape[1:3]) < 4:  # nothing could be certain
        return []
    images, others = one.images[chosen[0]], other.images[chosen[1]]
    measure = Features.fitted(images)
    tested = two_sample_test(measure(images), measure(others))
    if not tested.differs:
        return []
    some = spread_indices(len(images), TRIED)
    if images.dim() == 4:  # what may have happened is tried on gray levels
        measure = Features.fitted(gray(images))
    found = explain(gray(images[some]), gray(others[some]), measure)
    what = f"differ from those of {names[0]}"
    if found is not None:
        what = f"are {found.transformation.words}, compared with those of {names[0]}"
        if found.part < 0.9:
            what += f" (about {found.part:.0%} of that fits best, in strength or in the number of pictures)"
    sentence = (
        f"The pictures of {names[1]} {what}: a small classifier tells the two apart {tested.accuracy:.0%} of the time, "
        "50% would be chance. What is learned from one does not hold for the other."
    )
    severity: Severity = "severe" if tested.accuracy > 0.75 else "warning"
    kind = f"shift_{found.transformation.kind}" if found else "shift"
    examples = [
        Example(images_of[index], name)
        for name, images_of, num in zip(names, (images, others), (2, 3), strict=True)
        for index in spread_indices(len(images_of), num)
    ]
    remedies = {"shift_moved": ["--data.augmentation shift"], "shift_rotated": ["--data.augmentation affine"]}
    return [Illustrated(Finding(kind, severity, sentence, remedies.get(kind, [])), examples)]
