"""Findings about how the training went."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from project.diagnosis.judgement.findings import Finding, by_severity
from project.diagnosis.judgement.remedies import activation_of, changes, norm_remedy, scaled_learning_rate, schedule_of
from project.diagnosis.judgement.thresholds import (
    ACCURACY_GAP,
    CHANCE_MARGIN,
    CRAWL,
    CRAWL_EXCESS,
    FLAT_IMPROVEMENT,
    GENERALIZATION_LOSS,
    LARGE_UPDATE,
    LATE_IMPROVEMENT,
    LOSS_JUMP,
    MIN_EPOCHS,
    SMALL_UPDATE,
    STEADY_FALL,
    UNDERFIT_ERROR,
    UNDERFIT_FALL,
    UNDERFIT_GAP,
    UNDERFIT_LOSS_GAP,
    VALIDATION_SPIKE,
    WASTED_EPOCHS,
)


def judge_training(
    history: Sequence[Mapping[str, float]],
    settings: Mapping[str, Any],
    status: str = "completed",
    *,
    chance_accuracy: float | None = None,
    chance_loss: float | None = None,
    update_ratios: Sequence[float | None] = (),
) -> list[Finding]:
    """Judge a training by its curves.

    Args:
        history: One record per epoch with `train/loss`, and where measured `train/accuracy`, `validation/loss` and
            `validation/accuracy`.
        settings: The run's settings by their flags' names, as for `judge_network`.
        status: As in metrics.json: completed, early_stopped, diverged or interrupted.
        chance_accuracy: Accuracy of always naming the commonest class; None for regression.
        chance_loss: Loss of a network that knows nothing, see `judge_network`.
        update_ratios: `diagnostics.update_to_weight_ratio` of the hidden layers' weights, of one or of several steps.

    Returns:
        Findings, the severest first.
    """
    losses = [record["train/loss"] for record in history]
    validation = [record["validation/loss"] for record in history if "validation/loss" in record]
    if status == "diverged" or not all(map(math.isfinite, losses)):
        where = f" in epoch {len(history) + (status == 'diverged')}"
        sentence = f"Training diverged{where}: the loss is no longer a number."
        return [Finding("diverged", "severe", sentence, scaled_learning_rate(settings, 0.1))]
    if not history:
        return []
    findings = _judge_learning_rate(losses, validation, settings, chance_loss, update_ratios)
    lost = _judge_chance(history, settings, chance_accuracy, [finding.code for finding in findings])
    if lost:
        return by_severity([*lost, *findings])
    rates = {finding.code for finding in findings}
    if (
        len(validation) == len(losses) and "learning_rate_high" not in rates
    ):  # else the curves show only the steps' size
        findings += _judge_fit(history, settings)
    if not rates:
        findings += _judge_progress(history, settings, {finding.code for finding in findings})
    findings += _judge_length(history, status, rates)
    return by_severity(findings)


def _judge_learning_rate(
    losses: Sequence[float],
    validation: Sequence[float],
    settings: Mapping[str, Any],
    chance_loss: float | None,
    update_ratios: Sequence[float | None],
) -> list[Finding]:
    """N29: too high jumps or ends higher than it began, too low crawls along a straight line."""
    ratios = sorted(ratio for ratio in update_ratios if ratio is not None)
    ratio = ratios[len(ratios) // 2] if ratios else None
    rate = settings.get("model.learning_rate")
    named = f"The learning rate {rate:g}" if isinstance(rate, int | float) else "The learning rate"
    falls = [before - after for before, after in pairwise(losses)]
    jumps = sum(fall < -LOSS_JUMP.value * abs(before) for before, fall in zip(losses, falls, strict=False))
    if schedule_of(settings).oscillates:
        jumps, validation = 0, []  # the rate itself goes up and down
    spikes = [
        now
        for before, now, after in zip(validation, validation[1:], validation[2:], strict=False)
        if now > (1 + VALIDATION_SPIKE.value) * before and after < (1 - LOSS_JUMP.value) * now
    ]
    high = None
    if len(losses) >= 2 and losses[-1] > losses[0]:
        high = f"the training loss went up, from {losses[0]:.3g} to {losses[-1]:.3g}"
    elif jumps >= 2:
        high = f"the training loss jumped up {jumps} times"
    elif spikes:
        high = f"the validation loss leapt to {max(spikes):.3g} and back"
    elif ratio is not None and ratio > LARGE_UPDATE.value:
        high = f"one step changes the weights by {ratio:.1e} of their size, where 1e-3 is usual"
    if high:
        sentence = f"{named} is too high: {high}."
        return [Finding("learning_rate_high", "warning", sentence, scaled_learning_rate(settings, 0.1))]
    low = None
    if ratio is not None and ratio < SMALL_UPDATE.value:
        low = f"one step changes the weights by {ratio:.1e} of their size, where 1e-3 is usual"
    elif (
        chance_loss is not None
        and falls
        and losses[-1] > (1 + CRAWL_EXCESS.value) * chance_loss
        and max(map(abs, falls)) < CRAWL.value * losses[-1]
    ):
        low = f"the training loss hardly moves from {losses[0]:.3g}, and guessing gets {chance_loss:.3g}"
    elif len(losses) >= MIN_EPOCHS.value and min(falls) > 0:
        mean_fall = (losses[0] - losses[-1]) / len(falls)
        much_left = losses[-1] > (0.5 * chance_loss if chance_loss is not None else 0.6 * losses[0])
        if falls[-1] > STEADY_FALL.value * mean_fall and much_left:
            low = f"after {len(losses)} epochs the training loss is {losses[-1]:.3g} and still falls on a straight line"
    if low:
        sentence = f"{named} is too low: {low}."
        return [Finding("learning_rate_low", "warning", sentence, scaled_learning_rate(settings, 10))]
    return []


def _judge_chance(
    history: Sequence[Mapping[str, float]],
    settings: Mapping[str, Any],
    chance_accuracy: float | None,
    codes: Sequence[str],
) -> list[Finding]:
    accuracies = [r[key] for r in history for key in ("train/accuracy", "validation/accuracy") if key in r]
    if chance_accuracy is None or not accuracies or max(accuracies) > chance_accuracy + CHANCE_MARGIN.value:
        return []
    sentence = (
        f"Nothing was learned: the best accuracy, {max(accuracies):.1%}, is that of always naming one class "
        f"({chance_accuracy:.1%})."
    )
    remedy: list[str] = []
    if not codes:  # a learning rate that was found wanting brings its own remedy
        change: dict[str, Any] = {"model.activation": "relu", "model.init": "kaiming_normal", **norm_remedy(settings)}
        if settings.get("model.dropout"):
            change["model.dropout"] = 0
        remedy = changes(settings, change) or scaled_learning_rate(settings, 0.1)
    return [Finding("nothing_learned", "severe", sentence, remedy)]


def _judge_fit(history: Sequence[Mapping[str, float]], settings: Mapping[str, Any]) -> list[Finding]:
    """N8, N24: overfitting, or underfitting, by training and validation side by side."""
    losses = [record["train/loss"] for record in history]
    validation = [record["validation/loss"] for record in history]
    last = history[-1]
    best = min(range(len(validation)), key=validation.__getitem__)
    rise = validation[-1] / validation[best] - 1 if validation[best] > 0 else 0.0
    gap = last["train/accuracy"] - last["validation/accuracy"] if "validation/accuracy" in last else 0.0
    rising = rise > GENERALIZATION_LOSS.value and losses[-1] < losses[best]
    if rising or gap > ACCURACY_GAP.value:
        parts = []
        if rising:
            parts.append(f"the validation loss has risen by {rise:.0%} since epoch {best + 1} while training's fell")
        if gap > ACCURACY_GAP.value:
            parts.append(f"training accuracy is {gap:.1%} above validation's")
        sentence = "The network overfits: " + ", and ".join(parts) + "."
        rate = float(settings.get("model.dropout") or 0)
        stronger = 0.2 if rate < 0.2 else 0.5 if rate < 0.5 else None
        remedy = [f"--model.dropout {stronger}"] if stronger else ["--data.augmentation shift"]
        return [Finding("overfitting", "warning", sentence, remedy)]
    error = 1 - last["train/accuracy"] if "train/accuracy" in last else None
    if error is not None:
        close, poor = gap < UNDERFIT_GAP.value, error > UNDERFIT_ERROR.value
    else:
        close = validation[-1] - losses[-1] < UNDERFIT_LOSS_GAP.value * abs(validation[-1])
        poor = losses[-1] > UNDERFIT_ERROR.value
    level = _late_fall(losses) < UNDERFIT_FALL.value * _late_epochs(losses)
    if len(history) >= MIN_EPOCHS.value and close and poor and level:
        rest = (
            f"at a loss of {losses[-1]:.3g}" if error is None else f"and {error:.1%} of the training examples are wrong"
        )
        sentence = f"The network underfits: validation does about as well as training, {rest}."
        return [Finding("underfitting", "warning", sentence, _more_capacity(settings))]
    return []


def _more_capacity(settings: Mapping[str, Any]) -> list[str]:
    if settings.get("model.depth") == 0:
        return ["--model.depth 2"]
    if settings.get("model.dropout"):
        return ["--model.dropout 0"]
    activation = activation_of(settings)
    if activation is not None and activation.slope == 1:  # a linear network, whatever its depth
        return ["--model.activation relu"]
    width = settings.get("model.width")
    return [f"--model.width {2 * width}"] if isinstance(width, int) else ["--model.width 512"]


def _judge_progress(
    history: Sequence[Mapping[str, float]], settings: Mapping[str, Any], codes: set[str]
) -> list[Finding]:
    """A plateau: flat, far from done, and neither by design of the schedule nor for want of capacity."""
    losses = [record["train/loss"] for record in history]
    error = 1 - history[-1]["train/accuracy"] if "train/accuracy" in history[-1] else 1.0
    if (
        len(losses) < MIN_EPOCHS.value
        or not schedule_of(settings).steady
        or "underfitting" in codes
        or error <= UNDERFIT_ERROR.value
        or _late_fall(losses) >= FLAT_IMPROVEMENT.value
    ):
        return []
    sentence = f"The training loss has stood still for the last {_late_epochs(losses)} epochs, at {losses[-1]:.3g}."
    return [Finding("plateau", "warning", sentence, ["--model.schedule cosine"])]


def _late_epochs(losses: Sequence[float]) -> int:
    """A third of the epochs, but at least two."""
    return max(2, len(losses) // 3)


def _late_fall(losses: Sequence[float]) -> float:
    """Relative fall of a loss over the last third of the epochs."""
    before = losses[-_late_epochs(losses) - 1] if len(losses) > 2 else losses[0]
    return (before - losses[-1]) / abs(before) if before else 0.0


def _judge_length(history: Sequence[Mapping[str, float]], status: str, rates: set[str]) -> list[Finding]:
    """N31: stopped early, too long, or too short."""
    key = "validation/loss" if all("validation/loss" in record for record in history) else "train/loss"
    losses = [record[key] for record in history]
    num, best = len(losses), min(range(len(losses)), key=losses.__getitem__)
    if status == "early_stopped":
        sentence = f"Training stopped early, after epoch {num}: nothing was better than epoch {best + 1}."
        return [Finding("early_stopped", "note", sentence)]
    if status != "completed" or rates:
        return []
    if num >= MIN_EPOCHS.value and num - best - 1 >= WASTED_EPOCHS.value * num:
        sentence = f"The best epoch was {best + 1} of {num}: the rest brought nothing."
        return [Finding("too_many_epochs", "note", sentence, [f"--trainer.max_epochs {best + 1}"])]
    if num >= 2 and best == num - 1 and losses[-2] - losses[-1] > LATE_IMPROVEMENT.value * abs(losses[-2]):
        sentence = f"The {key.split('/')[0]} loss was still falling in the last epoch: more epochs would pay."
        return [Finding("too_few_epochs", "note", sentence, [f"--trainer.max_epochs {2 * num}"])]
    return []
