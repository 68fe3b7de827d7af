"""Labels that are wrong: at random, from one class to another, in the test set alone, or without any sense.

Confident learning (Northcutt, Jiang & Chuang 2021, arXiv:1911.00068) compares each label with the judgement of a
classifier that has not seen it, where that classifier is confident. Here an example counts as confident by its rank
among those that are judged alike, so that no probabilities are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from scipy.stats import beta
from torch import Tensor

SHARES = (0.1, 0.25, 0.5)
"""The most confident shares of each decided class that are compared with their labels."""
PLATEAU = 0.7
"""Wrong labels are as frequent among the most confident judgements as among others; real confusions become rare there.
So the rate in the most confident tenth must not be certainly below this share of the rate in the more confident
half."""
CERTAINTY = 1e-3
"""One-sided error probability of the bounds; for class pairs it is divided by their number (Bonferroni)."""
MIN_SYMMETRIC = 0.005
"""Symmetric noise is reported when it is certainly above this share; MNIST and FashionMNIST have less than 0.1 %."""
FEW_CLASSES = 5
"""With fewer classes all of them may be alike; then symmetric noise must be above MIN_PAIR."""
MIN_PAIR = 0.04
"""Noise from one class to another is reported when it is certainly above this share of the class. FashionMNIST's coats
and pullovers, which people confuse too, have 2 to 4 %."""


@dataclass(frozen=True)
class PairNoise:
    """`share` of the examples that look like class `looks_like` have the label `labelled`."""

    looks_like: int
    labelled: int
    share: float


@dataclass(frozen=True)
class LabelNoise:
    """What is wrong with the labels.

    Attributes:
        symmetric: Estimated share of labels that are replaced by another class, whatever the class.
        symmetric_certain: The share of which one can be certain; 0 if confusions explain it as well.
        pairs: Class pairs with certainly more than their share of wrong labels, the worst first.
        disputed: Indices of the examples whose label a confident judgement contradicts, the most
            confident first.
        classes: The number of classes.
    """

    symmetric: float
    symmetric_certain: float
    pairs: Sequence[PairNoise] = field(default_factory=list)
    disputed: Sequence[int] = field(default_factory=list)
    classes: int = 10

    @property
    def is_symmetric(self) -> bool:
        """Whether there is certainly symmetric noise."""
        return self.symmetric_certain > (MIN_SYMMETRIC if self.classes >= FEW_CLASSES else MIN_PAIR)


def estimate_noise(scores: Tensor, labels: Tensor) -> LabelNoise:
    """Estimate how many labels are wrong, from scores by classifiers that have not seen them.

    Symmetric noise reaches the classes with which a class is never confused: it is read from the two thirds of the
    other classes whose scores are the lowest. With two classes there are none, and only pairs are estimated.

    Args:
        scores: (n, classes).
        labels: int64 (n,).
    """
    classes = scores.shape[1]
    top = scores.topk(2, dim=1)
    decided, margin = top.indices[:, 0], top.values[:, 0] - top.values[:, 1]
    counts = torch.zeros(len(SHARES), classes, classes, dtype=torch.float64)  # (share, decided, label)
    unlike = torch.zeros(classes, classes, dtype=torch.bool)
    disputed = []
    for number in range(classes):
        own = (decided == number).nonzero().flatten()
        if not len(own):
            continue
        own = own[margin[own].argsort(descending=True, stable=True)]
        for row, share in enumerate(SHARES):
            counts[row, number] = torch.bincount(labels[own[: max(int(share * len(own)), 1)]], minlength=classes)
        disputed.append(own[: len(own) // 2][labels[own[: len(own) // 2]] != number])
        mean = scores[own].mean(0)
        mean[number] = torch.inf
        unlike[number, mean.argsort()[: (classes - 1) * 2 // 3]] = True
    totals = counts.sum(2)  # (share, decided)
    found = torch.cat(disputed)
    found = found[(scores[found].amax(1) - scores[found, labels[found]]).argsort(descending=True, stable=True)]

    symmetric = certain = 0.0
    if unlike.any():
        kept = (counts * unlike).sum((1, 2))
        factor = (classes - 1) / int(unlike.sum(1).max()) / totals.sum(1)
        low, high = _bounds(kept, totals.sum(1), CERTAINTY)
        scale = factor * totals.sum(1)
        rates, low, high = kept * factor, low * scale, high * scale
        symmetric = float(rates[2])
        certain = float(low[1:].min()) if high[0] >= PLATEAU * rates[2] else 0.0
    pairs = []
    low, _ = _bounds(counts, totals.unsqueeze(2).expand_as(counts), CERTAINTY / (classes * (classes - 1)))
    rates = counts / totals.unsqueeze(2).clamp(min=1)
    plateau = _bounds(counts, totals.unsqueeze(2).expand_as(counts), 0.05)[1][0] >= PLATEAU * rates[2]
    plain = (low[1:].amin(0) > MIN_PAIR + symmetric / (classes - 1)) & plateau
    for number, label in plain.fill_diagonal_(False).nonzero().tolist():
        pairs.append(PairNoise(number, label, float(rates[1:, number, label].mean())))
    return LabelNoise(symmetric, certain, sorted(pairs, key=lambda pair: -pair.share), found.tolist(), classes)


def _bounds(counts: Tensor, totals: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """Clopper-Pearson's lower and upper bounds of shares, each with this error probability."""
    hits, misses = counts.numpy(), (totals - counts).numpy()
    low = torch.from_numpy(beta.ppf(error, hits, misses + 1)).nan_to_num(0.0)
    return low, torch.from_numpy(beta.isf(error, hits + 1, misses)).nan_to_num(1.0)


@dataclass(frozen=True)
class Agreement:
    """How well labels agree with judgements.

    Attributes:
        accuracy: Share of equal ones.
        chance: What the accuracy would be if the two had nothing to do with each other.
        z: The difference in standard errors of that.
    """

    accuracy: float
    chance: float
    z: float

    @property
    def unrelated(self) -> bool:
        """Whether no relation is proven, or it is too weak to be of use: Cohen's kappa below 0.03."""
        return self.z < 4 or self.accuracy - self.chance < 0.03 * (1 - self.chance)


def agreement(decided: Tensor, labels: Tensor, classes: int) -> Agreement:
    """Compare judgements with labels, both int64 (n,)."""
    num = len(labels)
    accuracy = float((decided == labels).double().mean())
    shares = [torch.bincount(x, minlength=classes).double() / num for x in (decided, labels)]
    chance = float((shares[0] * shares[1]).sum())
    error = max(chance * (1 - chance) / num, 1e-12) ** 0.5
    return Agreement(accuracy, chance, (accuracy - chance) / error)
