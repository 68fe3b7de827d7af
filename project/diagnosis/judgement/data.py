"""Findings about the data."""

import math
from collections.abc import Sequence

from project.diagnosis.judgement.findings import Finding, Severity, by_severity
from project.diagnosis.judgement.thresholds import CLASS_IMBALANCE, CONSTANT_FEATURES, INPUT_SCALE
from project.diagnosis.probe import DataSummary


def judge_data(summary: DataSummary, class_names: Sequence[str] = ()) -> list[Finding]:
    """Judge a split before training on it.

    Args:
        summary: Of the training split, or of a sample large enough to show every class.
        class_names: In the order of the class indices; numbers if not given.

    Returns:
        Findings, the severest first; none for MNIST and FashionMNIST, normalized.
    """
    findings = []
    share = summary.constant_feature_fraction
    if share == 1:
        sentence = "Every feature has the same value in every example: there is nothing to learn from."
        findings.append(Finding("constant_features", "severe", sentence))
    elif share > CONSTANT_FEATURES.value:
        sentence = f"{share:.0%} of the features never change: their weights cannot learn anything."
        findings.append(Finding("constant_features", "warning", sentence))
    size = math.hypot(summary.input_mean, summary.input_sd)
    if size > INPUT_SCALE.value:
        sentence = f"The inputs are not normalized: their root mean square is {size:.0f}, where about 1 is expected."
        findings.append(Finding("inputs_not_normalized", "warning", sentence, ["--data.normalization standardize"]))
    shares = summary.class_fractions
    names = list(class_names) or [str(i) for i in range(len(shares))]
    missing = [name for name, fraction in zip(names, shares, strict=True) if fraction == 0]
    present = [(fraction, name) for name, fraction in zip(names, shares, strict=True) if fraction > 0]
    if missing:
        sentence = f"No example of class {', '.join(missing)}: it cannot be learned."
        severity: Severity = "severe" if len(present) < 2 else "warning"
        findings.append(Finding("missing_class", severity, sentence))
    if len(present) > 1:
        (least, rare), (most, common) = min(present), max(present)
        if most / least > CLASS_IMBALANCE.value:
            sentence = (
                f"Classes are unbalanced: {most / least:.0f} examples of {common} for one of {rare}. Naming {common} "
                f"always is right {most:.0%} of the time, so read macro F1 beside accuracy."
            )
            findings.append(Finding("class_imbalance", "warning", sentence))
    return by_severity(findings)
