"""Examine the data by itself, before any network: `examine_data`; and why two splits differ: `explain_shift`."""

import time
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from project.data.datamodule import ImageDataModule
from project.data.sources.load import ImageSplit
from project.diagnosis.data_examination.classes import class_shift, judge_blank, judge_classes
from project.diagnosis.data_examination.duplicates import find_copies, judge_copies
from project.diagnosis.data_examination.features.classifier import RandomFeatures, judge_out_of_fold
from project.diagnosis.data_examination.features.pictures import (
    SPLITS,
    ExaminedData,
    Example,
    Illustrated,
    examined_data,
    spread_indices,
)
from project.diagnosis.data_examination.labels import LabelNoise, agreement, estimate_noise
from project.diagnosis.data_examination.shift import judge_shift
from project.diagnosis.data_examination.shortcuts import judge_shortcuts
from project.diagnosis.data_examination.values import judge_levels, judge_one_split, judge_pixels
from project.diagnosis.judgement.findings import SEVERITIES, Finding, Severity

SEVERE_NOISE = 0.3
"""Wrong labels are severe above this share of a class, or of all."""
MIN_EXAMPLES = 100
"""With fewer training pictures, labels are not judged by a classifier."""


@dataclass(frozen=True, eq=False)
class Examination:
    """What an examination found, the most severe first.

    Attributes:
        findings: Each with pictures to look at.
        num_pictures: By split.
        seconds: How long it took, without loading the data.
    """

    findings: list[Illustrated]
    num_pictures: dict[str, int]
    seconds: float


def examine_data(datamodule: ImageDataModule) -> Examination:
    """Examine copies, labels, classes, gray levels, marks and the shift from training to test."""
    data = examined_data(datamodule)
    start = time.perf_counter()
    found = findings_of(data)
    seconds = time.perf_counter() - start
    return Examination(found, {name: len(part.labels) for name, part in data.splits.items()}, seconds)


def findings_of(data: ExaminedData) -> list[Illustrated]:
    """All findings, the most severe first."""
    images = torch.cat([data.splits[name].images for name in SPLITS if name in data.splits])
    copies = find_copies(images)
    found = [*judge_blank(data), *judge_levels(data), *judge_copies(data, copies)]
    shift: list[Illustrated] = []
    if "test" in data.splits:
        shift = judge_shift(data.learning, data.splits["test"], ("training", "test"))
    marks = judge_shortcuts(data) if data.class_names else []
    erased = [] if marks else judge_one_split(data)
    # one cause, one finding: a named shift moves borders, and what was erased is a shift that needs no other name
    if any(shown.finding.code not in ("shift", "shift_erased") for shown in shift):
        erased = []
    elif erased:
        shift = []
    found += [*shift, *erased]
    if not erased and not marks:
        found += judge_pixels(data)
    found += marks
    if data.class_names:
        found += judge_classes(data)
        learning = data.learning
        if len(learning.labels) >= MIN_EXAMPLES and bool((learning.labels != learning.labels[0]).any()):
            found += judge_labels(data, learning, copies.group[: len(learning.labels)], shifted=bool(shift))
    return sorted(found, key=lambda shown: SEVERITIES.index(shown.finding.severity))


def explain_shift(datamodule: ImageDataModule) -> list[Finding]:
    """Why scores on validation and test differ: findings about what differs between the two splits."""
    data = examined_data(datamodule)
    if not {"validation", "test"} <= set(data.splits):
        return []
    validation, test = data.splits["validation"], data.splits["test"]
    found = [shown.finding for shown in judge_shift(validation, test, ("validation", "test"))]
    if data.class_names and (shift := class_shift(validation.labels, test.labels, data.class_names)):
        found.append(shift)
    return found


def judge_labels(data: ExaminedData, learning: ImageSplit, groups: Tensor, shifted: bool) -> list[Illustrated]:
    """Judge the labels of training and validation out of fold, then the test set's by the same classifier.

    Args:
        data: All splits.
        learning: Training and validation together.
        groups: Which of these are copies of each other, int64 (n,).
        shifted: Whether the test set's pictures are known to differ: then its labels cannot be judged.
    """
    classes = len(data.class_names)
    features = RandomFeatures.fitted(learning.images)
    one_hot = functional.one_hot(learning.labels, classes).float()
    judged = judge_out_of_fold(features(learning.images), one_hot, groups)
    agreed = agreement(judged.scores.argmax(1), learning.labels, classes)
    if agreed.unrelated:
        sentence = (
            f"The labels of training have nothing to do with the pictures: a classifier is right {agreed.accuracy:.0%} "
            f"of the time, guessing {agreed.chance:.0%}. They may be shuffled, or in another order than the pictures."
        )
        examples = _labelled(data, learning, spread_indices(len(learning.labels), 10))
        return [Illustrated(Finding("unrelated_labels", "severe", sentence), examples)]
    found = _judge_noise(data, learning, judged.scores, "training")
    if "test" not in data.splits or len(data.splits["test"].labels) < MIN_EXAMPLES // 2:
        return found
    test = data.splits["test"]
    scores = features(test.images) @ judged.weights
    decided = scores.argmax(1)
    on_test = agreement(decided, test.labels, classes)
    counts = torch.zeros(classes, classes)
    counts.index_put_((decided, test.labels), torch.ones(len(decided)), accumulate=True)
    _, renamed = linear_sum_assignment(-counts.numpy())  # decided class → the test set's label for it
    lost = agreed.accuracy - on_test.accuracy
    gained = float(counts[torch.arange(classes), torch.from_numpy(renamed)].sum()) / len(decided) - on_test.accuracy
    if lost > 0.03 and gained > 0.03 and gained > 0.5 * lost:
        renames = [(a, int(b)) for a, b in enumerate(renamed) if a != b and counts[a, int(b)] > counts[a, a]]
        listed = ", ".join(f"{data.class_names[a]} is called {data.class_names[b]}" for a, b in renames[:6])
        shifts = {(b - a) % classes for a, b in renames}
        if len(renames) > 2 and len(shifts) == 1:
            listed = f"all labels are shifted by {shifts.pop()}, so {listed}"
        sentence = (
            f"The test set numbers its classes differently: {listed}. With the names exchanged {gained:.0%} more of it "
            "would be right."
        )
        changed = torch.isin(test.labels, torch.tensor([b for _, b in renames])).nonzero().flatten()
        found.append(Illustrated(Finding("renamed_classes", "severe", sentence), _labelled(data, test, changed[:10])))
    elif not shifted and on_test.unrelated:
        sentence = (
            f"The labels of the test set have nothing to do with its pictures: a classifier that is right "
            f"{agreed.accuracy:.0%} of the time in training is right {on_test.accuracy:.0%} of the time here."
        )
        examples = _labelled(data, test, spread_indices(len(test.labels), 10))
        found.append(Illustrated(Finding("unrelated_labels", "severe", sentence), examples))
    elif not shifted:
        found += _judge_noise(data, test, scores, "test")
    return found


def _judge_noise(data: ExaminedData, split: ImageSplit, scores: Tensor, name: str) -> list[Illustrated]:
    noise: LabelNoise = estimate_noise(scores, split.labels)
    decided, found = scores.argmax(1), []
    disputed = torch.tensor(noise.disputed, dtype=torch.int64)

    def shown(indices: Tensor) -> list[Example]:
        return [
            Example(split.images[i], f"{name}: {data.name_of(split.labels[i])}\nlooks: {data.name_of(decided[i])}")
            for i in indices[:10]
        ]

    if noise.is_symmetric:
        severity: Severity = "severe" if noise.symmetric > SEVERE_NOISE else "warning"
        sentence = (
            f"About {noise.symmetric:.1%} of the labels of {name} are wrong, whatever the class (certainly more than "
            f"{noise.symmetric_certain:.1%}). Look at the disputed ones."
        )
        finding = Finding("label_noise", severity, sentence, ["--model.label_smoothing 0.1"])
        found.append(Illustrated(finding, shown(disputed)))
    for pair in noise.pairs[:3]:
        like, labelled = data.class_names[pair.looks_like], data.class_names[pair.labelled]
        severity = "severe" if pair.share > SEVERE_NOISE else "warning"
        sentence = (
            f"About {pair.share:.0%} of the pictures of {name} that look like {like} are labelled {labelled}, also the "
            "clearest ones. Look at them."
        )
        own = disputed[(decided[disputed] == pair.looks_like) & (split.labels[disputed] == pair.labelled)]
        found.append(Illustrated(Finding("pair_noise", severity, sentence), shown(own)))
    if not found and len(disputed):
        sentence = (
            f"{len(disputed):,} labels of {name} ({len(disputed) / len(split.labels):.2%}) contradict a confident "
            "judgement. Not all of them must be wrong; the first ones are the most likely to be."
        )
        found.append(Illustrated(Finding("disputed_labels", "note", sentence), shown(disputed)))
    return found


def _labelled(data: ExaminedData, split: ImageSplit, indices: Tensor) -> list[Example]:
    return [Example(split.images[i], data.name_of(split.labels[i])) for i in indices]
