"""How often each class occurs in each split, and pictures on which there is nothing."""

import math

import torch
from scipy.stats import chi2_contingency
from torch import Tensor

from project.diagnosis.data_examination.features.pictures import ExaminedData, Example, Illustrated, is_blank
from project.diagnosis.judgement.findings import Finding, Severity

IMBALANCE, CERTAIN_IMBALANCE = 5.0, 2.5
"""Classes are unbalanced when the largest is this many times the smallest, and certainly (three standard errors of the
logarithm) more than the second number. Buda, Maki & Mazurowski 2018 find the effect growing from small ratios on; 5 is
a handicap of log 5 = 1.6 for the logit of the rare class."""
SHIFT_DISTANCE = 0.04
"""Shares of classes differ when their total variation distance is above this: halving one of ten classes gives 0.05.
MNIST's own splits have 0.013."""
SHIFT_ERROR = 1e-4
"""Error probability of the test that goes with it (likelihood ratio), and of a class missing by chance."""
BLANK = 0.001
"""Blank pictures are worth a warning above this share."""


def count_classes(labels: Tensor, classes: int) -> Tensor:
    """Examples of each class, int64 (classes,)."""
    return torch.bincount(labels, minlength=classes)


def judge_classes(data: ExaminedData) -> list[Illustrated]:
    """Judge missing classes, imbalance, and shares that differ between training and test."""
    found, names = [], data.class_names
    counts = {split: count_classes(part.labels, len(names)) for split, part in data.splits.items()}
    train = counts["train"]
    for split, own in counts.items():
        # what training has not is told there; by chance a rare class may be missing in a small split
        expected = train / train.sum() * own.sum()
        missing = own == 0 if split == "train" else (own == 0) & (expected > -math.log(SHIFT_ERROR))
        if missing.any():
            listed = ", ".join(names[i] for i in missing.nonzero().flatten().tolist())
            sentence = f"{split.capitalize()} has no example of class {listed}: it cannot be "
            sentence += "learned." if split == "train" else "scored. Draw this split from the same source as training."
            severity: Severity = "severe" if int((own > 0).sum()) < 2 else "warning"
            found.append(Illustrated(Finding("missing_class", severity, sentence)))
    present = train[train > 0]
    if len(present) > 1:
        rare, common = int(present.min()), int(present.max())
        certain = math.log(common / rare / CERTAIN_IMBALANCE) > 3 * math.sqrt(1 / rare + 1 / common)
        if common / rare >= IMBALANCE and certain:
            where = names[int((train == rare).nonzero()[0])], names[int(train.argmax())]
            sentence = (
                f"The classes are unbalanced: for each example of {where[0]} there are {common / rare:.0f} of "
                f"{where[1]}. Always answering {where[1]} is right {common / int(train.sum()):.0%} of the time, so "
                "read macro F1 beside accuracy."
            )
            found.append(Illustrated(Finding("class_imbalance", "warning", sentence)))
    if "test" in counts and (shift := class_shift(data.learning.labels, data.splits["test"].labels, names)):
        found.append(Illustrated(shift))
    return found


def class_shift(labels: Tensor, test_labels: Tensor, names: tuple[str, ...]) -> Finding | None:
    """A finding if the classes have certainly other shares in the test set, and by enough to matter."""
    both = torch.stack([count_classes(labels, len(names)), count_classes(test_labels, len(names))])
    both = both[:, both.sum(0) > 0]
    shares = both.double() / both.sum(1, keepdim=True)
    distance = float((shares[0] - shares[1]).abs().sum() / 2)
    if distance <= SHIFT_DISTANCE or chi2_contingency(both.numpy(), lambda_="log-likelihood").pvalue > SHIFT_ERROR:
        return None
    differ = (shares[1] - shares[0]).abs()
    seen = [name for name, count in zip(names, torch.bincount(labels, minlength=len(names)), strict=True) if count]
    worst = int(differ.argmax())
    name = seen[worst] if len(seen) == both.shape[1] else str(worst)
    sentence = (
        f"The classes have other shares in the test set: {name} has {shares[1][worst]:.1%} instead of "
        f"{shares[0][worst]:.1%}, and {distance:.0%} of the examples would have to change their class. Compare recall "
        "class by class, not accuracy."
    )
    return Finding("class_shift", "warning", sentence)


def judge_blank(data: ExaminedData) -> list[Illustrated]:
    """Judge pictures of one flat gray."""
    blank, num, examples = 0, 0, []
    for split, part in data.splits.items():
        where = is_blank(part.images).nonzero().flatten()
        blank, num = blank + len(where), num + len(part.images)
        examples += [Example(part.images[i], f"{split}\n{data.name_of(part.labels[i])}") for i in where[:3]]
    if not blank:
        return []
    sentence = f"{blank:,} pictures ({blank / num:.2%}) are blank: one gray level everywhere. Remove them."
    severity: Severity = "severe" if blank > num / 2 else "warning" if blank > BLANK * num and blank > 2 else "note"
    return [Illustrated(Finding("blank_pictures", severity, sentence), examples)]
