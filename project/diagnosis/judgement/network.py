"""Findings about the network, layer by layer."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from project.diagnosis.judgement import thresholds
from project.diagnosis.judgement.findings import Finding, Suspect, by_severity
from project.diagnosis.judgement.remedies import (
    NORMALIZED_INPUTS,
    RELU,
    changes,
    norm_of,
    norm_remedy,
    norm_remedy_flags,
    scaled_learning_rate,
    usual_init,
)
from project.diagnosis.measurement.evidence import Evidence
from project.diagnosis.measurement.probe import LayerProbe, Probe


def judge_network(
    probe: Probe,
    settings: Mapping[str, Any],
    *,
    chance_loss: float | None = None,
    born_dead_probability: float | None = None,
    ratio_without_norm: float | None = None,
) -> list[Finding]:
    """Judge what a probe measured before training.

    Args:
        probe: The numbers that were measured.
        settings: The run's settings by their flags' names, such as `model.activation`; missing ones count as unknown.
        chance_loss: The loss that uniform guesses have, for cross-entropy; None for other losses.
        born_dead_probability: What `theory.born_dead_fraction` or `born_dead_bound` returns, both without norm; None
            where the activation cannot die.
        ratio_without_norm: The `Probe.gradient_ratio` that theory expects of the same network without norm; None if
            it has none.

    Returns:
        Findings, the most severe first; none for a healthy network.
    """
    numbers = [(layer.activation_sd, layer.weight_norm, layer.weight_gradient_norm) for layer in probe.layers]
    if not all(map(math.isfinite, (probe.loss, *(number for layer in numbers for number in layer)))):
        sentence = f"The network's numbers are not finite (loss {probe.loss:g}): its signals overflow."
        return [Finding("not_finite", "severe", sentence, _smaller_signals(probe, settings))]
    stuck = list(_judge_symmetry(probe, settings))
    if stuck:
        return stuck
    findings = list(_judge_silence(probe, settings, trained=False, odds=born_dead_probability or 0.0))
    if not any(layer.dead_fraction == 1 for layer in probe.hidden):  # else nothing flows, and all follows from that
        findings += _judge_gradients(probe, settings, ratio_without_norm)
        findings += _judge_units(probe, settings, None)
    if _no_dropout(probe, settings):
        rate, depth = settings["model.dropout"], len(probe.hidden)
        sentence = f"Dropout {rate:g} in each of {depth} hidden layers leaves little of the signal."
        findings.append(Finding("deep_dropout", "warning", sentence, ["--model.dropout 0"]))
    if chance_loss is not None:
        findings += _judge_initial_loss(probe, settings, chance_loss)
    return by_severity(findings)


def _judge_symmetry(probe: Probe, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """With all weights zero, or all units of a layer alike, gradients cannot make units differ (the course's N21)."""
    remedy = changes(settings, {"model.init": "auto"}) or ["--model.init kaiming_normal"]
    alike = [layer for layer in probe.hidden if layer.n_out > 1 and layer.identical_unit_fraction == 1]
    if (
        probe.hidden
        and all(layer.weight_gradient_norm == 0 and layer.weight_norm == 0 for layer in probe.layers)
        and all(layer.bias_gradient_norm == 0 for layer in probe.hidden)
    ):
        sentence = "All weights are zero: no gradient reaches them, and only the output layer's bias can learn."
        yield Finding("zero_weights", "severe", sentence, remedy)
    elif alike:
        sentence = f"All units of {_where(alike)} have the same weights: they compute the same, and "
        if settings.get("model.dropout"):
            sentence += "only dropout can make them differ."
        else:
            sentence += "get the same gradients forever, so that each such layer works like a single unit."
        yield Finding("identical_units", "severe", sentence, remedy)


def _judge_silence(probe: Probe, settings: Mapping[str, Any], trained: bool, odds: float) -> Iterator[Finding]:
    """Whole layers that are silent (N20): born dead (Lu et al. 2019), or died in training."""
    silent = [layer for layer in probe.hidden if layer.dead_fraction == 1]
    dead = f"{_where(silent)} {'is' if len(silent) == 1 else 'are'} silent on every example"
    narrow = min((layer.num_values for layer in probe.hidden), default=0) < 256
    widen = {"model.width": 256} if narrow else {}
    rescue = changes(settings, {**widen, "model.init": "auto", **norm_remedy(settings), **_no_dropout(probe, settings)})
    likely = odds > thresholds.BORN_DEAD_PROBABILITY
    if silent and trained:
        sentence = f"The network has died: {dead}, and no gradient passes through."
        remedy = changes(settings, {"model.activation": "leaky_relu"}) + scaled_learning_rate(settings, 0.1)
        yield Finding("dead_network", "severe", sentence, remedy)
    elif silent:
        sentence = f"The network is born dead: {dead}, so its output is constant and no gradient passes through."
        sentence += f" This happens to {odds:.0%} of networks of this shape." if likely else ""
        yield Finding("born_dead", "severe", sentence, rescue)
    elif likely and not trained and norm_of(settings).over is not None:
        sentence = f"Without {norm_of(settings).title}, {odds:.0%} of networks of this shape would be born dead."
        yield Finding("norm_prevents_born_dead", "note", sentence, changes(settings, widen))
    elif likely and not trained:
        sentence = f"{odds:.0%} of networks of this shape are born dead; this one is not, but the next seed's may be."
        yield Finding("born_dead", "warning", sentence, rescue)


def _judge_gradients(probe: Probe, settings: Mapping[str, Any], ratio_without_norm: float | None) -> Iterator[Finding]:
    """Gradients that vanish or explode from the last hidden layer to the first (N19), and signals that collapse."""
    ratio, depth = probe.gradient_ratio, len(probe.hidden)
    is_relu = settings.get("model.activation") == "relu" and settings.get("model.init") == "auto"
    rectify = {} if is_relu else RELU  # for relu, auto is kaiming_normal
    no_dropout = _no_dropout(probe, settings)
    fewer = [f"--model.depth {max(1, depth // 4)}"]
    restore = changes(settings, {**rectify, **norm_remedy(settings), **no_dropout}) or fewer
    if ratio is not None and ratio < thresholds.VANISHING_RATIO:
        sentence = f"Gradients vanish: layer 1 gets {_share(ratio)} of what layer {depth} gets."
        yield Finding("vanishing_gradient", "severe", sentence, restore)
    elif ratio is not None and ratio > thresholds.EXPLODING_RATIO:
        sentence = f"Gradients explode: layer 1 gets {ratio:.0e} times what layer {depth} gets."
        remedy = changes(settings, usual_init(settings) | norm_remedy(settings)) or fewer
        if norm_of(settings).over == "examples":
            sentence += " Batch norm itself makes them grow at every layer."
            remedy = ["--model.norm layer"]
        yield Finding("exploding_gradient", "severe", sentence, remedy)
    elif ratio_without_norm is not None and ratio_without_norm < thresholds.VANISHING_RATIO:
        sentence = (
            f"Only {norm_of(settings).title or 'the norm'} keeps gradients from vanishing: without it, theory expects "
            f"layer 1 to get {_share(ratio_without_norm)} of what layer {depth} gets."
        )
        yield Finding("norm_prevents_vanishing", "note", sentence, changes(settings, {**rectify, **no_dropout}))
    ranked = [layer for layer in probe.hidden if layer.n_out > 1 and layer.effective_rank is not None]
    collapsed = [layer for layer in ranked if (layer.effective_rank or 0.0) < thresholds.COLLAPSED_RANK]
    if collapsed:
        rank = collapsed[-1].effective_rank
        sentence = f"All examples look alike to {_where(collapsed)}: the effective rank is {rank:.2f}."
        yield Finding("collapsed_representation", "warning", sentence, restore)


def _judge_units(probe: Probe, settings: Mapping[str, Any], before: Probe | None) -> Iterator[Finding]:
    """Units that are saturated (N12, N13), silent (N20), or have fallen silent since an earlier probe."""
    saturated = [layer for layer in probe.hidden if layer.saturated_fraction > thresholds.SATURATED_FRACTION]
    if saturated:
        share = max(layer.saturated_fraction for layer in saturated)
        name = settings.get("model.activation", "the activation")
        sentence = f"{name} saturates in {_where(saturated)}: up to {share:.0%} of the outputs hardly react."
        yield Finding("saturated_units", "warning", sentence, _smaller_signals(probe, settings) or changes({}, RELU))
    alive = changes(settings, {"model.activation": "leaky_relu", **norm_remedy(settings)})
    many = [layer for layer in probe.hidden if thresholds.DEAD_FRACTION < layer.dead_fraction < 1]
    if many:
        share = max(layer.dead_fraction for layer in many)
        sentence = f"In {_where(many)}, up to {share:.0%} of the units are silent on every example."
        yield Finding("dead_units", "warning", sentence, alive)
    rises = [
        (now.dead_fraction - then.dead_fraction, then.dead_fraction, now)
        for then, now in zip(before.hidden if before else [], probe.hidden, strict=False)
    ]
    rising = [rise for rise in rises if rise[0] > thresholds.DEAD_RISE]
    if rising:
        _, share, layer = max(rising, key=lambda rise: rise[0])
        sentence = (
            f"Units have died in {_where([layer for *_, layer in rising])}: the silent share of {layer.name} rose from "
            f"{share:.0%} to {layer.dead_fraction:.0%}."
        )
        yield Finding("dying_units", "warning", sentence, alive)


def _judge_initial_loss(probe: Probe, settings: Mapping[str, Any], chance_loss: float) -> Iterator[Finding]:
    sentence = f"The loss before training is {probe.loss:.2f}, but a network that knows nothing has {chance_loss:.2f}"
    if probe.loss - chance_loss > thresholds.INITIAL_LOSS_EXCESS:
        sentence += ": it is sure of wrong answers before it has seen a label."
        yield Finding("initial_loss", "warning", sentence, _smaller_signals(probe, settings))
    elif probe.loss - chance_loss < -thresholds.INITIAL_LOSS_DEFICIT:
        sentence += ": the labels have leaked into the inputs, or these weights are already trained."
        yield Finding("initial_loss", "warning", sentence)


def _smaller_signals(probe: Probe, settings: Mapping[str, Any]) -> list[str]:
    """Flags against signals that are too large: because of the inputs, or else because of the weights."""
    if math.sqrt(probe.input_second_moment) > thresholds.INPUT_SCALE:
        return NORMALIZED_INPUTS
    return changes(settings, usual_init(settings) | norm_remedy(settings))


def _no_dropout(probe: Probe, settings: Mapping[str, Any]) -> dict[str, int]:
    """Dropout's noise adds up over layers until little of the signal is left (N24; Schoenholz et al. 2017)."""
    rate = float(settings.get("model.dropout") or 0)
    noise = len(probe.hidden) * rate / (1 - rate)
    return {"model.dropout": 0} if noise > thresholds.DROPOUT_NOISE else {}


def _where(layers: Sequence[LayerProbe]) -> str:
    """Hidden layers by their numbers, with neighbours as a range: `layers 1, 4–6`."""
    numbers = [int(layer.name.split()[-1]) for layer in layers]
    # within a range, a number and its place in the list grow together
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda item: item[1] - item[0])]
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
    return f"layer{'' if len(numbers) == 1 else 's'} " + ", ".join(parts)


def _share(ratio: float) -> str:
    return f"{ratio:.0e}" if ratio > 0 else "nothing"


def suspect_network(e: Evidence) -> Iterator[Suspect]:
    """What the initialization makes of signals and gradients before the first step, and layers that died later."""
    first = e.first or e.last
    if stuck := list(_judge_symmetry(first, e.settings)):
        yield Suspect(10.0, stuck[0])
        return
    initial = list(_suspect_signals(e, first))
    yield from initial
    if initial:  # vanishing gradients and dead units follow from such signals
        return
    ratio = first.gradient_ratio
    for finding in _judge_gradients(first, e.settings, None):
        if ratio and finding.code != "collapsed_representation":
            yield Suspect(abs(math.log10(ratio)) / 3 + 0.5, finding)
    for finding in _judge_silence(e.last, e.settings, trained=True, odds=0.0):
        yield Suspect(0.4, finding)


def _suspect_signals(e: Evidence, first: Probe) -> Iterator[Suspect]:
    """Signals that the initialization makes too large, too small or the same for all pictures."""
    signals = [layer.pre_activation_sd for layer in first.hidden]
    if not signals:
        return
    bias, smallest = float(e.settings.get("model.init_bias") or 0), max(min(signals), 1e-9)
    if abs(bias) > thresholds.LARGE_BIAS * smallest and norm_of(e.settings).over is None:
        sentence = (
            f"The initial bias {bias:g} is {abs(bias) / smallest:.0f} times the spread of what the units receive: each "
            "unit answers every picture in the same way."
        )
        yield Suspect(4.0, Finding("init_bias", "warning", sentence, ["--model.init_bias 0"]))
        return
    fading = [after / before for before, after in pairwise(signals) if before > 0]
    # weights that are too small make each layer's signal smaller than the last one's, until nothing is left of it
    if any(layer.dead_fraction == 1 for layer in first.hidden) and not (fading and max(fading) < thresholds.FADING):
        (finding, *_) = _judge_silence(first, e.settings, trained=False, odds=0.0)
        yield Suspect(5.0, finding)
        return
    size = e.data.input_size
    inputs = size if size > thresholds.INPUT_SCALE else 1.0  # their size is a suspect of its own
    scale = float(e.settings.get("model.init_scale") or 1)
    weights = f"init_scale {scale:g}" if scale != 1 else f"init {e.settings.get('model.init')}"
    remedy = changes(e.settings, usual_init(e.settings)) or norm_remedy_flags(e.settings)
    if max(signals) > thresholds.LARGE_SIGNAL * inputs:
        sentence = (
            f"The initial weights are too large ({weights}): pre-activations have a spread of up to "
            f"{max(signals):.2g}, but about 1 is usual."
        )
        strength = math.log10(max(signals) / inputs) + 0.5
        yield Suspect(strength, Finding("init_large", "warning", sentence, remedy))
    elif smallest < thresholds.SMALL_SIGNAL:
        sentence = (
            f"The initial weights are too small ({weights}): pre-activations have a spread of down to {smallest:.1g}, "
            "but about 1 is usual."
        )
        if len(signals) > thresholds.DEEP:
            remedy = changes(e.settings, usual_init(e.settings) | norm_remedy(e.settings))
        yield Suspect(-math.log10(smallest), Finding("init_small", "warning", sentence, remedy))


def note_units(e: Evidence) -> Iterator[Finding]:
    """What became of gradients and units, which is good to know also where it did no harm."""
    first = e.first or e.last
    for finding in (*_judge_gradients(first, e.settings, None), *_judge_units(e.last, e.settings, first)):
        if finding.code != "collapsed_representation":
            yield Finding(finding.code, "note", finding.sentence)
