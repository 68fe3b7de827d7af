"""Suspects among the settings that decide what the network can fit, and what keeps it from fitting."""

import math
from collections.abc import Iterator

from project.diagnosis.judgement import thresholds
from project.diagnosis.judgement.data import judge_inputs
from project.diagnosis.judgement.findings import Finding, Suspect
from project.diagnosis.judgement.remedies import activation_of, norm_of
from project.diagnosis.measurement.evidence import Evidence
from project.network.optimization.losses import LOSSES


def suspect_fit(e: Evidence) -> Iterator[Suspect]:
    """What regularization, capacity, loss and data allow the network to fit."""
    yield from _dropout(e)
    yield from _label_smoothing(e)
    yield from _augmentation(e)
    yield from _capacity(e)
    yield from _loss(e)
    yield from _inputs(e)
    yield from _batch(e)
    yield from _examples(e)


def _widths(e: Evidence) -> list[int]:
    return [layer.num_values for layer in e.last.hidden]


def _noise(e: Evidence) -> float:
    """How much larger the training error is under dropout and augmentation than without them."""
    last = e.history[-1] if e.history else {}
    if "train/accuracy" in last:
        return (1 - last["train/accuracy"]) - e.train_error
    return 0.0


def _dropout(e: Evidence) -> Iterator[Suspect]:
    rate, widths = float(e.settings.get("model.dropout") or 0), _widths(e)
    if not rate or not widths:
        return
    # the relative variance of the noise of all layers, and the units that a narrow layer has left
    noise = len(widths) * rate / (1 - rate)
    left = (1 - rate) * min(widths)
    if noise < thresholds.STRONG_DROPOUT and left >= thresholds.UNITS_LEFT:
        return
    sentence = (
        f"Dropout {rate:g} in {len(widths)} hidden layer{'s' if len(widths) > 1 else ''} is too much: it leaves about "
        f"{left:.0f} of {min(widths)} units at a time"
    )
    noisy = _noise(e)
    sentence += f", and the training error is {noisy:.0%} higher with it than without." if noisy > 0.02 else "."
    strength = math.log10(noise / thresholds.STRONG_DROPOUT) + 1 if noise >= thresholds.STRONG_DROPOUT else 0.5
    yield Suspect(strength, Finding("dropout_strong", "warning", sentence, ["--model.dropout 0"]))


def _label_smoothing(e: Evidence) -> Iterator[Suspect]:
    share = float(e.settings.get("model.label_smoothing") or 0)
    if share >= thresholds.STRONG_SMOOTHING:
        sentence = (
            f"Label smoothing {share:g} gives only {1 - share:.0%} of the target to the true class: the loss hardly "
            "tells classes apart."
        )
        strength = -math.log10(1 - share)
        yield Suspect(strength, Finding("label_smoothing_strong", "warning", sentence, ["--model.label_smoothing 0"]))


def _augmentation(e: Evidence) -> Iterator[Suspect]:
    names = e.settings.get("data.augmentation") or []
    names = [names] if isinstance(names, str) else names
    if names:
        noisy = _noise(e)
        sentence = (
            f"The augmentation ({', '.join(names)}) is too strong for so short a training: the network knows its own "
            f"examples no better than new ones (errors {e.train_error:.1%} and {e.error:.1%})."
        )
        strength = 0.5 + max(math.log10(max(noisy, 1e-9) / thresholds.NOISY_TRAINING), 0.0)
        yield Suspect(strength, Finding("augmentation_strong", "warning", sentence, ["--data.augmentation null"]))


def _capacity(e: Evidence) -> Iterator[Suspect]:
    widths = _widths(e)
    activation = activation_of(e.settings)
    needed = max(e.num_classes - 1, 4)
    if widths and min(widths) < needed:
        position = widths.index(min(widths)) + 1
        sentence = (
            f"Hidden layer {position} has only {min(widths)} unit{'s' if min(widths) > 1 else ''}: everything that the "
            f"output knows of a picture must pass through {'them' if min(widths) > 1 else 'it'}."
        )
        strength = math.log10(needed / min(widths)) + 1
        yield Suspect(strength, Finding("too_narrow", "warning", sentence, ["--model.width 512"]))
    if not widths:
        sentence = "Without a hidden layer the network is linear in the pixels."
        yield Suspect(1.0, Finding("linear_network", "warning", sentence, ["--model.depth 2"]))
    elif activation is not None and activation.slope == 1:
        sentence = f"Without an activation the {len(widths)} hidden layers are one linear map (course note N6)."
        yield Suspect(1.0, Finding("linear_network", "warning", sentence, ["--model.activation relu"]))


def _loss(e: Evidence) -> Iterator[Suspect]:
    name, task = str(e.settings["model.loss"]), e.settings["model.task"]
    delta = float(e.settings.get("model.huber_delta") or 1)
    if name == "huber" and delta < thresholds.SMALL_DELTA:
        sentence = f"With huber_delta {delta:g} every error counts as an outlier, whose gradient is {delta:g} at most."
        strength = -math.log10(delta)
        remedy = "--model.huber_delta 1" if task == "regression" else "--model.loss auto"
        yield Suspect(strength, Finding("loss_unsuited", "warning", sentence, [remedy]))
    elif task != "regression" and task not in LOSSES[name].probabilities:
        sentence = f"Loss {name} trains no class probabilities; cross-entropy is what usually trains a classifier best."
        yield Suspect(0.7, Finding("loss_unsuited", "warning", sentence, ["--model.loss auto"]))


def _inputs(e: Evidence) -> Iterator[Suspect]:
    for finding in judge_inputs(e.data):
        yield Suspect(math.log10(e.data.input_size), finding)


def _batch(e: Evidence) -> Iterator[Suspect]:
    batch = int(e.settings.get("data.batch_size", 256))
    if batch > thresholds.SMALL_BATCH:
        return
    sentence = f"Batches of {batch} are very small: each step follows the noise of {batch} examples"
    sentence += ", and batch norm takes its statistics from them." if norm_of(e.settings).over == "examples" else "."
    yield Suspect(1.0, Finding("batch_small", "warning", sentence, ["--data.batch_size 64"]))


def _examples(e: Evidence) -> Iterator[Suspect]:
    per_class = e.num_train / max(e.num_classes, 1)
    if "data.num_train" not in e.settings or e.settings["data.num_train"] is None:
        return
    if per_class < thresholds.FEW_EXAMPLES and e.train_error < 0.5 * e.error:
        sentence = (
            f"There are only {e.num_train:,} training examples, which the network knows by heart (training error "
            f"{e.train_error:.1%}, validation {e.error:.1%})."
        )
        strength = math.log10(thresholds.FEW_EXAMPLES / per_class) + 1
        remedy = ["--data.num_train null"]
        if len(e.history) > thresholds.MANY_EPOCHS:  # with more examples, as many epochs are many more steps
            remedy.append(f"--trainer.max_epochs {thresholds.MANY_EPOCHS}")
        yield Suspect(strength, Finding("few_examples", "warning", sentence, remedy))
