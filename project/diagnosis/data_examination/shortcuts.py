"""A pixel, patch or stripe whose value alone gives the label away."""

from dataclasses import dataclass

import torch
from scipy.stats import chi2
from torch import Tensor
from torch.nn import functional

from project.data.channels import gray
from project.data.sources.load import ImageSplit
from project.diagnosis.data_examination.features.pictures import ExaminedData, Example, Illustrated, spread_indices
from project.diagnosis.judgement.findings import Finding

MAX_VALUES = 16_000_000
"""Pixels times pictures that are counted at most."""
CHUNK = 1 << 23
"""Entries of the table of counts that is in memory at a time."""
MIN_INFORMATION = 0.08
"""Share of a class's entropy that a pixel must explain; a patch in an eighth of one class's pictures does."""
FALLS = ((0.5, 0.2), (0.8, 0.35))
"""A mark's sides reach the first share of its maximum, and the pixels around it have less than the second. In all 90
pairs of classes of MNIST and of FashionMNIST the frame of the sharpest natural box has 0.31 and 0.49."""
GIVES_ALL_AWAY = 0.9
"""No single pixel of a real picture explains this share of the entropy of four or more classes."""
ERROR = 1e-3
"""Error probability of the test that a pixel and the label are related, over all pixels and classes (Bonferroni)."""
TRAINING_ONLY = 0.3
"""A shortcut is in one set only when the other has less than this share of its information."""


@dataclass(frozen=True, eq=False)
class Informative:
    """What each pixel alone says about the label.

    Attributes:
        of_all: Share of the label's entropy that the pixel's value explains, beyond chance, (height, width).
        of_one: The same for the question whether it is one class or another, the best class, (height, width).
        which: That class, int64 (height, width).
        certain: Whether one of the two is certain, bool (height, width).
    """

    of_all: Tensor
    of_one: Tensor
    which: Tensor
    certain: Tensor


def measure_information(split: ImageSplit, classes: int) -> Informative:
    """Mutual information of each pixel's gray level and the label, less its bias (Miller & Madow 1955).

    Args:
        split: The pictures, of which a sample is counted, and their labels.
        classes: The number of classes.
    """
    height, width = split.images.shape[1:]
    pixels = height * width
    chosen = spread_indices(len(split.labels), max(MAX_VALUES // pixels, 1000))
    flat, labels = split.images[chosen].flatten(1), split.labels[chosen]
    num = len(labels)
    of_class = torch.bincount(labels, minlength=classes).double() / num
    entropy = -torch.xlogy(of_class, of_class).sum()
    binary = -torch.xlogy(of_class, of_class) - torch.xlogy(1 - of_class, 1 - of_class)
    results = []
    for part in torch.split(torch.arange(pixels), max(CHUNK // (256 * classes), 1)):
        values = flat[:, part].long()  # (n, part)
        index = (torch.arange(len(part)) * 256 + values) * classes + labels[:, None]
        table = torch.bincount(index.flatten(), minlength=len(part) * 256 * classes).double() / num
        table = table.view(len(part), 256, classes)
        of_value = table.sum(2)  # (part, 256)
        levels = (of_value > 0).sum(1)
        value_entropy = -torch.xlogy(of_value, of_value).sum(1)
        joint_entropy = -torch.xlogy(table, table).sum((1, 2))
        joint_cells = (table > 0).sum((1, 2))
        present = int((of_class > 0).sum())
        freedom = (joint_cells - levels - present + 1).clamp(min=0)
        of_all = value_entropy + entropy - joint_entropy
        limit = ERROR / (pixels * (classes + 1))
        certain = _is_certain(of_all, freedom, num, limit)
        of_all = (of_all - freedom / (2 * num)).clamp(min=0) / entropy.clamp(min=1e-9)
        rest = of_value.unsqueeze(2) - table
        one = (
            value_entropy[:, None] + binary + (torch.xlogy(table, table) + torch.xlogy(rest.clamp(min=0), rest)).sum(1)
        )
        cells = (table > 0).sum(1) + (rest > 0.5 / num).sum(1)
        freedom = (cells - levels[:, None] - 1).clamp(min=0)
        # 2 n times the information is about chi-square distributed under independence, with its freedom as mean
        excess = (one - freedom / (2 * num)).clamp(min=0)
        best = torch.where(binary > 1e-9, excess / binary.clamp(min=1e-9), 0.0).max(1)
        which = best.indices[:, None]
        certain |= _is_certain(one.gather(1, which)[:, 0], freedom.gather(1, which)[:, 0], num, limit)
        results.append(torch.stack([of_all, best.values, best.indices.double(), certain.double()], 1))
    of_all, of_one, which, certain = torch.cat(results).T.view(4, height, width)
    return Informative(of_all.float(), of_one.float(), which.long(), certain > 0)


def _is_certain(information: Tensor, freedom: Tensor, num: int, error: float) -> Tensor:
    """Whether the likelihood ratio 2 n I is larger than chance gives with this error probability."""
    limits = torch.from_numpy(chi2.isf(error, freedom.clamp(min=1).numpy()))
    return 2 * num * information > limits


def isolated(information: Tensor) -> Tensor:
    """Which pixels are in a mark: a box or stripe beyond whose edges information falls at once, bool (height, width).

    Each side of the box reaches nearly the box's maximum, and the frame of pixels around it has little. In a real
    picture what a pixel explains changes over several pixels.
    """
    height, width = information.shape
    found = torch.zeros(height, width, dtype=torch.bool)
    longest = max(2, min(height, width) // 5)
    for rows in range(1, longest + 1):
        for columns in range(1, longest + 1):
            found |= _marks(information, rows, columns)
        found |= _marks(information.mean(1, keepdim=True), rows, 1).expand(height, width)
        found |= _marks(information.mean(0, keepdim=True), 1, rows).expand(height, width)
    return found & (information > MIN_INFORMATION)


def _marks(information: Tensor, rows: int, columns: int) -> Tensor:
    """Which pixels are in a mark of this size, bool (height, width)."""
    box = _maximum(information, rows, columns)
    height, width = box.shape
    across, down = _maximum(information, 1, columns), _maximum(information, rows, 1)
    sides = (across[:height], across[rows - 1 :], down[:, :width], down[:, columns - 1 :])
    side = torch.stack(sides).amin(0)
    around = functional.pad(information, (1, 1, 1, 1))  # nothing is outside; information is not negative
    across, down = _maximum(around, 1, columns + 2), _maximum(around, rows + 2, 1)
    frames = (across[:height], across[rows + 1 :], down[:, :width], down[:, columns + 1 :])
    frame = torch.stack(frames).amax(0)
    marks = torch.zeros_like(box, dtype=torch.bool)
    for reached, left in FALLS:
        marks |= (box > MIN_INFORMATION) & (side >= reached * box) & (frame < left * box)
    spread = functional.pad(marks.float(), (columns - 1, columns - 1, rows - 1, rows - 1))
    return _maximum(spread, rows, columns) > 0


def _maximum(values: Tensor, rows: int, columns: int) -> Tensor:
    """The maximum of each box of this size, (height − rows + 1, width − columns + 1)."""
    return functional.max_pool2d(values.unsqueeze(0), (rows, columns), 1).squeeze(0)


def find_shortcut(split: ImageSplit, information: Informative, classes: int) -> tuple[int, int] | None:
    """The pixel that gives away the most, as (row, column), or None."""
    score = torch.maximum(information.of_all, information.of_one)
    suspected = isolated(information.of_all) | isolated(information.of_one)
    if classes >= 4:
        suspected |= information.of_all > GIVES_ALL_AWAY
    suspected &= information.certain
    if not suspected.any():
        return None
    # the bias is estimated by counting, which is rough for noise of many levels: the same pixels with shuffled labels
    pixels = suspected.flatten().nonzero().flatten()
    shuffled = split.labels[torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(0))]
    null = measure_information(ImageSplit(split.images.flatten(1)[:, pixels].unsqueeze(1), shuffled), classes)
    chance = torch.maximum(null.of_all, null.of_one).flatten()
    suspected.view(-1)[pixels] = chance < 0.2 * score.flatten()[pixels]
    if not suspected.any():
        return None
    best = int(torch.where(suspected, score, -1.0).argmax())
    return divmod(best, score.shape[1])


def judge_shortcuts(data: ExaminedData) -> list[Illustrated]:
    """Judge whether one pixel gives the label away, in training, in the test set, or in both."""
    classes = len(data.class_names)
    originals = {"training": data.learning}
    if "test" in data.splits:
        originals["test"] = data.splits["test"]
    # a mark in colour shows in the gray levels too
    sets = {name: ImageSplit(gray(split.images), split.labels) for name, split in originals.items()}
    measured = {name: measure_information(split, classes) for name, split in sets.items()}
    for name, split in sets.items():
        place = find_shortcut(split, measured[name], classes)
        if place is None:
            continue
        own = measured[name]
        all_classes = bool(own.of_all[place] > 0.5 * own.of_one[place])
        share = float(own.of_all[place] if all_classes else own.of_one[place])
        what = "the class" if all_classes else f"whether it is class {data.name_of(own.which[place])}"
        where = f"row {place[0] + 1}, column {place[1] + 1}"
        others = [other for other in measured if other != name]
        both = all(
            float(max(measured[other].of_all[place], measured[other].of_one[place])) > TRAINING_ONLY * share
            for other in others
        )
        end = (
            "A network reads this mark instead of the picture, and is lost where it is missing."
            if both
            else f"It is in {name} only: a network that reads this mark instead of the picture fails on the other set."
        )
        sentence = (
            f"The pixel at {where} of {name} alone tells {what} ({share:.0%} of that information) while the pixels "
            f"around it do not: a mark that gives the label away. {end}"
        )
        return [Illustrated(Finding("shortcut", "severe", sentence), _marked(originals[name], data, place, name))]
    return []


def _marked(split: ImageSplit, data: ExaminedData, place: tuple[int, int], name: str) -> list[Example]:
    """One picture of each of the first classes."""
    examples = []
    for label in range(min(len(data.class_names), 8)):
        own = (split.labels == label).nonzero().flatten()
        if len(own):
            index = own[0]
            value = int(gray(split.images[index][None])[0][place])
            examples.append(Example(split.images[index], f"{data.name_of(label)}\n{name}: {value}"))
    return examples
