"""Findings about how the training went."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from project.diagnosis.judgement import thresholds
from project.diagnosis.judgement.findings import Finding, by_severity
from project.diagnosis.judgement.remedies import (
    RELU,
    activation_of,
    changes,
    norm_remedy,
    scaled_learning_rate,
    schedule_of,
)

History = Sequence[Mapping[str, float]]
"""One record per epoch with `train/loss`, and where measured `train/accuracy`, `validation/loss`,
`validation/accuracy`."""


def judge_training(
    history: History,
    settings: Mapping[str, Any],
    status: str = "completed",
    *,
    chance_accuracy: float | None = None,
    chance_loss: float | None = None,
    update_ratios: Sequence[float | None] = (),
) -> list[Finding]:
    """Judge a training by its curves.

    Args:
        history: What was measured, with one record per epoch.
        settings: The run's settings by their flags' names, as `judge_network` takes them.
        status: How it ended, as metrics.json says: completed, early_stopped, diverged or interrupted.
        chance_accuracy: The accuracy that always naming the most frequent class has; None for regression.
        chance_loss: The loss that uniform guesses have, as `judge_network` takes it.
        update_ratios: What `probe.update_to_weight_ratio` returns for the hidden layers' weights in one or more steps.

    Returns:
        Findings, the most severe first.
    """
    losses = [record["train/loss"] for record in history]
    if status == "diverged" or not all(map(math.isfinite, losses)):
        epoch = len(history) + (status == "diverged")
        sentence = f"Training diverged in epoch {epoch}: the loss is no longer a number."
        return [Finding("diverged", "severe", sentence, scaled_learning_rate(settings, 0.1))]
    if not history:
        return []
    validation = [record["validation/loss"] for record in history if "validation/loss" in record]
    findings = list(_judge_learning_rate(losses, validation, settings, chance_loss, update_ratios))
    rate = findings[0].code if findings else None
    lost = list(_judge_chance(history, settings, chance_accuracy, rate))
    if lost:
        return by_severity([*lost, *findings])
    if len(validation) == len(losses) and rate != "learning_rate_high":  # else the curves show only the steps' size
        findings += _judge_fit(history, settings)
    if rate is None and "underfitting" not in [finding.code for finding in findings]:
        findings += _judge_progress(history, settings)
    return by_severity([*findings, *_judge_length(history, status, rate)])


def _judge_learning_rate(
    losses: Sequence[float],
    validation: Sequence[float],
    settings: Mapping[str, Any],
    chance_loss: float | None,
    update_ratios: Sequence[float | None],
) -> Iterator[Finding]:
    """The learning rate (N29): too high jumps or ends higher than it began, too low falls slowly on a straight line."""
    ratios = sorted(ratio for ratio in update_ratios if ratio is not None)
    ratio = ratios[len(ratios) // 2] if ratios else None
    update = f"one step changes the weights by {ratio or 0.0:.1e} of their size, but 1e-3 is usual"
    falls = [before - after for before, after in pairwise(losses)]
    jumps = sum(fall < -thresholds.LOSS_JUMP * abs(before) for before, fall in zip(losses, falls, strict=False))
    if schedule_of(settings).oscillates:
        jumps, validation = 0, []  # the rate itself goes up and down
    spikes = [
        now
        for before, now, after in zip(validation, validation[1:], validation[2:], strict=False)
        if now > (1 + thresholds.VALIDATION_SPIKE) * before and after < (1 - thresholds.LOSS_JUMP) * now
    ]
    high = low = None
    if len(losses) >= 2 and losses[-1] > losses[0]:
        high = f"the training loss went up, from {losses[0]:.3g} to {losses[-1]:.3g}"
    elif jumps >= 2:
        high = f"the training loss jumped up {jumps} times"
    elif spikes:
        high = f"the validation loss jumped up to {max(spikes):.3g} and came back"
    elif ratio is not None and ratio > thresholds.LARGE_UPDATE:
        high = update
    elif ratio is not None and ratio < thresholds.SMALL_UPDATE:
        low = update
    elif (
        chance_loss is not None
        and falls
        and losses[-1] > (1 + thresholds.CRAWL_EXCESS) * chance_loss
        and max(map(abs, falls)) < thresholds.CRAWL * losses[-1]
    ):
        low = f"the training loss hardly moves from {losses[0]:.3g}, but guessing has {chance_loss:.3g}"
    elif len(losses) >= thresholds.MIN_EPOCHS and min(falls) > 0:
        mean_fall = (losses[0] - losses[-1]) / len(falls)
        much_left = losses[-1] > (0.5 * chance_loss if chance_loss is not None else 0.6 * losses[0])
        if falls[-1] > thresholds.STEADY_FALL * mean_fall and much_left:
            low = f"after {len(losses)} epochs the training loss is {losses[-1]:.3g} and still falls on a straight line"
    rate = settings.get("model.learning_rate")
    name = f"The learning rate {rate:g}" if isinstance(rate, int | float) else "The learning rate"
    if high:
        remedy = scaled_learning_rate(settings, 0.1)
        yield Finding("learning_rate_high", "warning", f"{name} is too high: {high}.", remedy)
    elif low:
        remedy = scaled_learning_rate(settings, 10)
        yield Finding("learning_rate_low", "warning", f"{name} is too low: {low}.", remedy)


def _judge_chance(
    history: History, settings: Mapping[str, Any], chance_accuracy: float | None, rate: str | None
) -> Iterator[Finding]:
    accuracies = [r[key] for r in history for key in ("train/accuracy", "validation/accuracy") if key in r]
    if chance_accuracy is None or not accuracies or max(accuracies) > chance_accuracy + thresholds.CHANCE_MARGIN:
        return
    sentence = (
        f"Nothing was learned: the best accuracy, {max(accuracies):.1%}, is that of always naming one class "
        f"({chance_accuracy:.1%})."
    )
    remedy: list[str] = []
    if rate is None:  # a finding about the learning rate brings its own remedy
        no_dropout = {"model.dropout": 0} if settings.get("model.dropout") else {}
        remedy = changes(settings, RELU | norm_remedy(settings) | no_dropout) or scaled_learning_rate(settings, 0.1)
    yield Finding("nothing_learned", "severe", sentence, remedy)


def _judge_fit(history: History, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Overfitting (N24) or underfitting (N8), by training and validation side by side."""
    losses = [record["train/loss"] for record in history]
    validation = [record["validation/loss"] for record in history]
    last, best = history[-1], _best(validation)
    rise = validation[-1] / validation[best] - 1 if validation[best] > 0 else 0.0
    gap = last["train/accuracy"] - last["validation/accuracy"] if "validation/accuracy" in last else 0.0
    signs = []
    if rise > thresholds.GENERALIZATION_LOSS and losses[-1] < losses[best]:
        signs.append(f"the validation loss has risen by {rise:.0%} since epoch {best + 1} while training's fell")
    if gap > thresholds.ACCURACY_GAP:
        signs.append(f"training accuracy is {gap:.1%} above validation's")
    if signs:
        rate = float(settings.get("model.dropout") or 0)
        remedy = f"--model.dropout {0.2 if rate < 0.2 else 0.5}" if rate < 0.5 else "--data.augmentation shift"
        yield Finding("overfitting", "warning", f"The network overfits: {', and '.join(signs)}.", [remedy])
        return
    if "train/accuracy" in last:
        error = 1 - last["train/accuracy"]
        close, poor = gap < thresholds.UNDERFIT_GAP, error > thresholds.UNDERFIT_ERROR
        rest = f"and {error:.1%} of the training examples are wrong"
    else:
        close = validation[-1] - losses[-1] < thresholds.UNDERFIT_LOSS_GAP * abs(validation[-1])
        poor = losses[-1] > thresholds.UNDERFIT_ERROR
        rest = f"at a loss of {losses[-1]:.3g}"
    level = _late_fall(losses) < thresholds.UNDERFIT_FALL * _late_epochs(losses)
    if len(history) >= thresholds.MIN_EPOCHS and close and poor and level:
        sentence = f"The network underfits: validation is about as good as training, {rest}."
        yield Finding("underfitting", "warning", sentence, [_more_capacity(settings)])


def _more_capacity(settings: Mapping[str, Any]) -> str:
    if settings.get("model.depth") == 0:
        return "--model.depth 2"
    if settings.get("model.dropout"):
        return "--model.dropout 0"
    activation = activation_of(settings)
    if activation is not None and activation.slope == 1:  # a linear network, whatever its depth
        return "--model.activation relu"
    width = settings.get("model.width")
    return f"--model.width {2 * width if isinstance(width, int) else 512}"


def _judge_progress(history: History, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """A plateau: flat, with many errors left, and not because the schedule ends or capacity is missing."""
    losses = [record["train/loss"] for record in history]
    if (
        len(losses) >= thresholds.MIN_EPOCHS
        and schedule_of(settings).steady
        and 1 - history[-1].get("train/accuracy", 0.0) > thresholds.UNDERFIT_ERROR
        and _late_fall(losses) < thresholds.FLAT_IMPROVEMENT
    ):
        sentence = f"The training loss has stood still for the last {_late_epochs(losses)} epochs, at {losses[-1]:.3g}."
        yield Finding("plateau", "warning", sentence, ["--model.schedule cosine"])


def _best(losses: Sequence[float]) -> int:
    return min(range(len(losses)), key=losses.__getitem__)


def _late_epochs(losses: Sequence[float]) -> int:
    """A third of the epochs, but at least two."""
    return max(2, len(losses) // 3)


def _late_fall(losses: Sequence[float]) -> float:
    """Relative fall of a loss over the last third of the epochs."""
    before = losses[-_late_epochs(losses) - 1] if len(losses) > 2 else losses[0]
    return (before - losses[-1]) / abs(before) if before else 0.0


def _judge_length(history: History, status: str, rate: str | None) -> Iterator[Finding]:
    """The number of epochs (N31): stopped early, too many, or too few."""
    split = "validation" if all("validation/loss" in record for record in history) else "train"
    losses = [record[f"{split}/loss"] for record in history]
    num, best = len(losses), _best(losses)
    if status == "early_stopped":
        sentence = f"Training stopped early, after epoch {num}: no epoch was better than epoch {best + 1}."
        yield Finding("early_stopped", "note", sentence)
    elif status != "completed" or rate is not None:
        return
    elif num >= thresholds.MIN_EPOCHS and num - best - 1 >= thresholds.WASTED_EPOCHS * num:
        sentence = f"The best epoch was {best + 1} of {num}: the later ones brought nothing."
        yield Finding("too_many_epochs", "note", sentence, [f"--trainer.max_epochs {best + 1}"])
    elif num >= 2 and best == num - 1 and losses[-2] - losses[-1] > thresholds.LATE_IMPROVEMENT * abs(losses[-2]):
        sentence = f"The {split} loss was still falling in the last epoch: more epochs would help."
        yield Finding("too_few_epochs", "note", sentence, [f"--trainer.max_epochs {2 * num}"])


def judge(evidence: Any) -> list[Finding]:
    return []
