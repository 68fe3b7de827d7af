"""A classifier that is trained in a second and judges every example without having seen it.

Ridge regression on random ReLU features has a closed form (Rahimi & Recht 2008, "Weighted sums of random kitchen
sinks"), and the matrix products of all folds are those of the parts, so cross-validation costs one pass.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from project.diagnosis.data_examination.features.pictures import chunks, reduced

NUM_FEATURES = 1024
NUM_FOLDS = 5
MAX_FITTED = 20_000
"""Examples from which the classifiers learn at most; all are judged."""
RIDGES = (1e-4, 1e-2, 1e-1)
"""Penalties over the features' mean square, of which the best out of fold is taken."""


@dataclass(frozen=True, eq=False)
class RandomFeatures:
    """relu(x·W + b) of standardized pictures; W and b are random but always the same.

    Attributes:
        mean: Mean of each pixel, (pixels,).
        scale: One over the root mean square of what remains, a scalar.
        weight: (pixels, features).
        bias: (features,).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def fitted(cls, images: Tensor, num_features: int = NUM_FEATURES) -> "RandomFeatures":
        """Standardize by these pictures, (n, height, width[, channels])."""
        x = reduced(images[:20_000]).flatten(1)
        mean = x.mean(0)
        scale = 1 / (x - mean).square().mean().sqrt().clamp(min=1e-3)
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(x.shape[1], num_features, generator=generator) / x.shape[1] ** 0.5
        return cls(mean, scale, weight, torch.randn(num_features, generator=generator) * 0.5)

    def __call__(self, images: Tensor) -> Tensor:
        """Features with a constant 1 as the last one, (n, features + 1)."""
        parts = []
        for part in chunks(images):
            x = (reduced(part).flatten(1) - self.mean) * self.scale
            parts.append(functional.pad(torch.addmm(self.bias, x, self.weight).relu_(), (0, 1), value=1.0))
        return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class Judged:
    """Scores by classifiers that have not seen what they judge.

    Attributes:
        scores: About the probability of each class, (n, classes).
        weights: The classifier of all examples, (features, classes).
    """

    scores: Tensor
    weights: Tensor


def folds_of(num: int, num_folds: int = NUM_FOLDS) -> Tensor:
    """The fold of each example, int64 (n,), at random from a fixed seed."""
    return torch.randperm(num, generator=torch.Generator().manual_seed(1)) % num_folds


def judge_out_of_fold(features: Tensor, targets: Tensor, groups: Tensor | None = None) -> Judged:
    """Fit ridge regressions without one fold at a time, and judge that fold.

    Args:
        features: (n, features).
        targets: One column per class, for example one-hot, (n, classes).
        groups: Examples with the same number, int64 (n,), are in the same fold, so that a copy does not give the answer
            away; without it every example is a group.
    """
    fold = folds_of(len(features)) if groups is None else folds_of(int(groups.max()) + 1)[groups]
    largest = NUM_FOLDS * max(int(torch.bincount(fold).max()), 1)
    parts = [(fold == number).nonzero().flatten() for number in range(NUM_FOLDS)]
    # more than enough examples: those that nobody learns from are still judged without their own fold
    fitted = [part[: -(-len(part) * MAX_FITTED // max(largest, MAX_FITTED))] for part in parts]
    chosen = [features[part] for part in fitted]
    grams = torch.stack([x.T @ x for x in chosen])
    sides = torch.stack([x.T @ targets[part] for x, part in zip(chosen, fitted, strict=True)])
    gram, side = grams.sum(0), sides.sum(0)
    size = gram.diagonal().mean()
    eye = torch.eye(len(gram))
    best: Judged | None = None
    best_loss = float("inf")
    for ridge in RIDGES:
        scores = torch.empty(len(features), targets.shape[1])
        for part, own_gram, own_side in zip(parts, grams, sides, strict=True):
            scores[part] = features[part] @ torch.linalg.solve(gram - own_gram + ridge * size * eye, side - own_side)
        loss = float((scores - targets).square().mean())
        if loss < best_loss:
            best, best_loss = Judged(scores, torch.linalg.solve(gram + ridge * size * eye, side)), loss
    assert best is not None, "a finite loss"
    return best
