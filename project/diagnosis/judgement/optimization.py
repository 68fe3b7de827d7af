"""Suspects among the settings that decide how far and how steadily the weights move."""

import math
from collections.abc import Iterator
from itertools import pairwise

from project.diagnosis.judgement import thresholds
from project.diagnosis.judgement.findings import Finding, Suspect
from project.diagnosis.judgement.remedies import schedule_of
from project.diagnosis.measurement.evidence import Evidence

PLAIN_CLIPPING = "--trainer.gradient_clip_val null"


def suspect_optimization(e: Evidence) -> Iterator[Suspect]:
    """What the settings of the optimizer, the schedule and the batches did to the weights."""
    yield from _momentum(e)
    yield from _learning_rate(e)
    yield from _steps(e)
    yield from _clipping(e)
    yield from _schedule(e)
    yield from _weight_decay(e)
    yield from _patience(e)


def _horizon(momentum: float) -> float:
    """Over how many steps a momentum averages."""
    return 1 / max(1 - momentum, 1e-9)


def _momentum_is_long(e: Evidence) -> bool:
    momentum = float(e.settings["model.momentum"])
    usual = _horizon(e.row.momentum)
    return e.row.uses_momentum and _horizon(momentum) > thresholds.LONG_MOMENTUM * usual


def _momentum(e: Evidence) -> Iterator[Suspect]:
    if not _momentum_is_long(e):
        return
    momentum, usual = float(e.settings["model.momentum"]), e.row.momentum
    horizon = _horizon(momentum)
    sentence = (
        f"Momentum {momentum:g} averages over {horizon:,.0f} steps, and the training has {e.num_steps:,}: "
        f"{e.settings['model.optimizer']} usually has {usual:g}, which is {_horizon(usual):.0f} steps."
    )
    strength = math.log10(horizon / _horizon(usual)) + max(0.0, math.log10(horizon / e.num_steps))
    yield Suspect(strength, Finding("momentum_long", "warning", sentence, [f"--model.momentum {usual:g}"]))


def _learning_rate(e: Evidence) -> Iterator[Suspect]:
    rate, usual = e.learning_rate, e.suited_rate
    ratio = rate / usual if _momentum_is_long(e) else e.rate_ratio
    name = e.settings["model.optimizer"]
    suited = rate / ratio if ratio else usual  # with this momentum
    remedy = [f"--model.learning_rate {suited:.2g}"]
    signs = signs_of_large_steps(e)
    if ratio >= thresholds.RATE_FACTOR or (signs and ratio > 1 / thresholds.RATE_FACTOR):
        told = f"it is {ratio:.2g} times what suits {name}" if ratio >= thresholds.RATE_FACTOR else ""
        sentence = (
            f"The learning rate {rate:g} is too high: {', and '.join(part for part in (told, *signs[:1]) if part)}."
        )
        if ratio < thresholds.RATE_FACTOR:
            remedy = [f"--model.learning_rate {rate / 5:.2g}"]
        # large steps may have many causes: alone they weigh little
        weight = 0.5 if ratio >= thresholds.RATE_FACTOR else 0.3
        strength = max(math.log10(ratio), 0.0) + weight * len(signs)
        yield Suspect(strength, Finding("learning_rate_high", "warning", sentence, remedy))
    elif ratio <= 1 / thresholds.RATE_FACTOR and e.path < thresholds.SHORT_PATH:
        sentence = (
            f"The learning rate {rate:g} is too low: {suited:.2g} suits {name}, and with this one the weights moved by "
            f"only {e.path:.1g} times their size in all {e.num_steps:,} steps."
        )
        yield Suspect(-math.log10(ratio), Finding("learning_rate_low", "warning", sentence, remedy))


def signs_of_large_steps(e: Evidence) -> list[str]:
    """What shows that the steps were too large, in words."""
    signs = []
    if e.status == "diverged" or not math.isfinite(e.last.loss):
        signs.append("the loss is no longer a number")
    losses = [record["train/loss"] for record in e.history if math.isfinite(record["train/loss"])]
    jumps = sum(
        after > (1 + thresholds.LOSS_JUMP) * before + thresholds.LOSS_FLOOR for before, after in pairwise(losses)
    )
    if len(losses) >= 2 and losses[-1] > 1.02 * losses[0] + thresholds.LOSS_FLOOR:
        signs.append(f"the training loss went up, from {losses[0]:.3g} to {losses[-1]:.3g}")
    elif jumps and not schedule_of(e.settings).oscillates:
        signs.append(f"the training loss jumped up {jumps} time{'s' if jumps > 1 else ''}")
    if e.update_ratio > thresholds.LARGE_UPDATE:
        signs.append(f"one step changes a layer's weights by {e.update_ratio:.0%} of their size, but 0.1 % is usual")
    return signs


def _steps(e: Evidence) -> Iterator[Suspect]:
    if not e.num_steps < thresholds.FEW_STEPS:
        return
    batch, epochs = int(e.settings.get("data.batch_size", 256)), max(len(e.history), 1)
    sentence = f"The training has only {e.num_steps} optimizer steps"
    remedy = []
    if e.num_train // batch > 2 * e.steps_of_an_epoch:
        cut = [name for name in ("trainer.max_steps", "trainer.limit_train_batches") if name in e.settings]
        sentence += f", because of {' and '.join(cut) or 'the Trainer’s limits'}."
        remedy = [f"--{name} {'-1' if name.endswith('steps') else '1.0'}" for name in cut]
    elif e.steps_of_an_epoch < thresholds.FEW_STEPS / 3:
        smaller = _smaller_batch(e.num_train, epochs)
        if smaller < batch:
            sentence += f": {e.num_train:,} examples are {e.steps_of_an_epoch} batches of {batch:,}."
            remedy = [f"--data.batch_size {smaller}"]
    if not remedy:
        sentence += f" in {epochs} epoch{'s' if epochs > 1 else ''}."
        remedy = [f"--trainer.max_epochs {epochs * -(-2 * thresholds.FEW_STEPS // e.num_steps)}"]
    yield Suspect(
        math.log10(2 * thresholds.FEW_STEPS / e.num_steps), Finding("too_few_steps", "warning", sentence, remedy)
    )


def _smaller_batch(num_train: int, epochs: int) -> int:
    """The largest power of two with which the training has enough steps, from 32 to 256."""
    wanted = num_train * epochs / (3 * thresholds.FEW_STEPS)
    return int(min(256, max(32, 2 ** math.floor(math.log2(max(wanted, 1))))))


def _clipping(e: Evidence) -> Iterator[Suspect]:
    value = e.settings.get("trainer.gradient_clip_val")
    if not value or e.kept_fraction > thresholds.KEPT_FRACTION:
        return
    sentence = (
        f"Gradient clipping at {value:g} takes almost everything away: it acted in {e.clipped_steps:.0%} of the steps "
        f"and left {e.kept_fraction:.2g} of the gradient."
    )
    yield Suspect(-math.log10(e.kept_fraction), Finding("clipping_tight", "warning", sentence, [PLAIN_CLIPPING]))


def _schedule(e: Evidence) -> Iterator[Suspect]:
    warmup = float(e.settings.get("model.warmup_fraction") or 0)
    if warmup > thresholds.LONG_WARMUP:
        sentence = f"The warm-up takes {warmup:.0%} of the steps: hardly any are left at the full learning rate."
        strength = -math.log10(max(1 - warmup, 0.01))
        yield Suspect(strength, Finding("warmup_long", "warning", sentence, ["--model.warmup_fraction 0"]))


def _weight_decay(e: Evidence) -> Iterator[Suspect]:
    decay, usual = float(e.settings["model.weight_decay"]), e.row.weight_decay
    pull = e.decay_pull
    if e.row.decoupled_decay:
        strong = pull > thresholds.DECOUPLED_PULL and e.shrinkage > thresholds.SHRINKAGE
        strength = math.log10(max(e.shrinkage, 1e-9)) + 1
    else:
        # where each step is divided by the gradient's size, the decay decides for all weights whose gradient is small
        limit = thresholds.ADAPTIVE_PULL if e.row.adaptive else thresholds.COUPLED_PULL
        strong = pull > limit
        strength = math.log10(max(pull, 1e-9) / limit) + 1
    if not strong or decay <= usual:
        return
    kind = "" if e.row.decoupled_decay else ", where it is part of the gradient"
    sentence = (
        f"Weight decay {decay:g} is too strong for {e.settings['model.optimizer']}{kind}: it pulls {pull:.0%} as hard "
        f"as {'the whole update' if e.row.decoupled_decay else 'the gradient of the loss'}."
    )
    yield Suspect(strength, Finding("weight_decay_strong", "warning", sentence, [f"--model.weight_decay {usual:g}"]))


def _patience(e: Evidence) -> Iterator[Suspect]:
    patience, epochs = int(e.settings.get("patience") or 0), max(len(e.history), 1)
    wanted = int(e.settings.get("trainer.max_epochs") or epochs)
    if e.status == "early_stopped" and patience <= thresholds.SHORT_PATIENCE and epochs < wanted / 2:
        sentence = (
            f"Training stopped after {epochs} of {wanted} epochs, since patience {patience} ends it at the first "
            "fluctuation."
        )
        remedy = ["--patience 10"]
        yield Suspect(math.log10(wanted / epochs) + 0.3, Finding("stopped_too_early", "warning", sentence, remedy))
