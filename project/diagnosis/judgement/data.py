"""Findings about the data."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from project.diagnosis.judgement import thresholds
from project.diagnosis.judgement.findings import Finding, by_severity
from project.diagnosis.judgement.remedies import NORMALIZED_INPUTS


@dataclass(frozen=True)
class DataSummary:
    """What a split looks like to the network."""

    constant_feature_fraction: float  # share of features that have one and the same value in every example
    input_mean: float  # over examples and features
    input_sd: float
    class_fractions: Sequence[float] = ()  # share of every class; empty for regression
    class_names: Sequence[str] = ()  # in the order of the class indices; without them the classes have numbers

    @property
    def input_size(self) -> float:
        """Root mean square of the inputs."""
        return math.hypot(self.input_mean, self.input_sd)


def summarise_data(
    inputs: Tensor, class_fractions: Sequence[float] = (), class_names: Sequence[str] = ()
) -> DataSummary:
    """Count the constant features of a split, or of a sample of it, and measure the size of its inputs.

    Args:
        inputs: The normalized examples that the network gets, (examples, …), at least one.
        class_fractions: The shares that the classes have in the whole split, since a sample can miss a rare class.
        class_names: The names of the classes.
    """
    x = inputs.detach().flatten(1).float()
    sd, mean = torch.std_mean(x, correction=0)
    constant = (x.amin(dim=0) == x.amax(dim=0)).float().mean()
    constant_fraction, input_mean, input_sd = torch.stack([constant, mean, sd]).tolist()
    return DataSummary(constant_fraction, input_mean, input_sd, class_fractions, class_names)


def judge_data(summary: DataSummary) -> list[Finding]:
    """Judge a split before training on it.

    Args:
        summary: What the training split, or a sample of it, looks like.

    Returns:
        Findings, the most severe first; none for MNIST and FashionMNIST, normalized.
    """
    findings = []
    share = summary.constant_feature_fraction
    if share == 1:
        sentence = "Every feature has the same value in every example: there is nothing to learn from."
        findings.append(Finding("constant_features", "severe", sentence))
    elif share > thresholds.CONSTANT_FEATURES:
        sentence = f"{share:.0%} of the features never change: their weights cannot learn anything."
        findings.append(Finding("constant_features", "warning", sentence))
    findings += judge_inputs(summary)
    shares = summary.class_fractions
    names = summary.class_names or [str(i) for i in range(len(shares))]
    present = [(fraction, name) for name, fraction in zip(names, shares, strict=True) if fraction > 0]
    if len(present) < len(shares):
        missing = ", ".join(name for name, fraction in zip(names, shares, strict=True) if fraction == 0)
        sentence = f"There is no example of class {missing}: it cannot be learned."
        findings.append(Finding("missing_class", "severe" if len(present) < 2 else "warning", sentence))
    if len(present) > 1:
        (least, rare), (most, common) = min(present), max(present)
        if most / least > thresholds.CLASS_IMBALANCE:
            sentence = (
                f"The classes are unbalanced: for each example of {rare} there are {most / least:.0f} of {common}. "
                f"Always answering {common} is right {most:.0%} of the time, so read macro F1 beside accuracy."
            )
            findings.append(Finding("class_imbalance", "warning", sentence))
    return by_severity(findings)


def judge_inputs(summary: DataSummary) -> Iterator[Finding]:
    """Judge the size of what the network gets."""
    if summary.input_size > thresholds.INPUT_SCALE:
        sentence = (
            f"The inputs are not normalized: their root mean square is {summary.input_size:.0f}, but should be about 1."
        )
        yield Finding("inputs_not_normalized", "warning", sentence, NORMALIZED_INPUTS)
