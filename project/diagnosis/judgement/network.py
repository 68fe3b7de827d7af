"""Findings about the network, layer by layer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from project.diagnosis.judgement.findings import Finding, by_severity
from project.diagnosis.judgement.remedies import (
    changes,
    norm_name,
    norm_of,
    norm_remedy,
    scaled_learning_rate,
    usual_init,
)
from project.diagnosis.judgement.thresholds import (
    BORN_DEAD_PROBABILITY,
    COLLAPSED_RANK,
    DEAD_FRACTION,
    DEAD_RISE,
    DROPOUT_NOISE,
    EXPLODING_RATIO,
    INITIAL_LOSS_DEFICIT,
    INITIAL_LOSS_EXCESS,
    INPUT_SCALE,
    SATURATED_FRACTION,
    VANISHING_RATIO,
)
from project.diagnosis.probe import LayerProbe, Probe, slope


def judge_network(
    probe: Probe,
    settings: Mapping[str, Any],
    *,
    trained: bool = False,
    chance_loss: float | None = None,
    born_dead_probability: float | None = None,
    ratio_without_norm: float | None = None,
    earlier: Sequence[Probe] = (),
) -> list[Finding]:
    """Judge what a probe saw: before training, in between or after it.

    Args:
        probe: The numbers.
        settings: The run's settings by their flags' names, such as `model.activation`; missing ones count as unknown.
        trained: Whether training has begun; before it, the initial loss and the odds of a born-dead network count.
        chance_loss: Loss of a network that knows nothing, `theory.initial_loss(num_classes)` for cross-entropy; None
            for other losses.
        born_dead_probability: From `theory.born_dead_fraction` or `born_dead_bound`, both without norm; None where the
            activation cannot die.
        ratio_without_norm: `Probe.gradient_ratio` that theory predicts for the same network without norm; None if it
            has none.
        earlier: Probes of the same network on the same examples, the oldest first, for the trend of dead units.

    Returns:
        Findings, the severest first; none for a healthy network.
    """
    if not _is_finite(probe):
        sentence = f"The network's numbers are not finite (loss {probe.loss:g}): it has diverged."
        return [Finding("not_finite", "severe", sentence, scaled_learning_rate(settings, 0.1))]
    stuck = _judge_symmetry(probe, settings)
    if stuck:
        return stuck
    findings = _judge_silence(probe, settings, trained, born_dead_probability)
    if not any(layer.dead_fraction == 1 for layer in probe.hidden):  # else nothing flows, and all follows from that
        findings += _judge_gradients(probe, settings, trained, ratio_without_norm)
        findings += _judge_units(probe, settings, trained, earlier)
    if not trained:
        findings += _judge_dropout(probe, settings)
        if chance_loss is not None:
            findings += _judge_initial_loss(probe, settings, chance_loss)
    return by_severity(findings)


def _is_finite(probe: Probe) -> bool:
    numbers = [probe.loss]
    for layer in (*probe.hidden, probe.output):
        numbers += [layer.activation_sd, layer.weight_norm, layer.weight_gradient_norm]
    return all(math.isfinite(number) for number in numbers)


def _judge_symmetry(probe: Probe, settings: Mapping[str, Any]) -> list[Finding]:
    """N21: with all weights zero, or all units of a layer alike, gradients cannot tell the units apart."""
    layers = [*probe.hidden, probe.output]
    remedy = changes(settings, {"model.init": "auto"}) or ["--model.init kaiming_normal"]
    if (
        probe.hidden
        and all(layer.weight_gradient_norm == 0 and layer.weight_norm == 0 for layer in layers)
        and all(layer.bias_gradient_norm == 0 for layer in probe.hidden)
    ):
        sentence = "All weights are zero: no gradient reaches them, and nothing but the last bias can learn."
        return [Finding("zero_weights", "severe", sentence, remedy)]
    alike = [layer for layer in probe.hidden if layer.n_out > 1 and layer.identical_unit_fraction == 1]
    if not alike:
        return []
    sentence = f"All units of {_where(alike)} have the same weights: they compute the same, and "
    if settings.get("model.dropout"):
        sentence += "only dropout can tell them apart."
    else:
        sentence += "get the same gradients for ever, so that each such layer is worth one unit."
    return [Finding("identical_units", "severe", sentence, remedy)]


def _judge_silence(
    probe: Probe, settings: Mapping[str, Any], trained: bool, born_dead_probability: float | None
) -> list[Finding]:
    """N20 for whole layers: born dead (Lu et al. 2019), or died in training."""
    silent = [layer for layer in probe.hidden if layer.dead_fraction == 1]
    narrow = min((layer.n_out for layer in probe.hidden), default=0)
    widen = {"model.width": 256} if narrow < 256 else {}
    rescue = changes(settings, {**widen, "model.init": "auto", **norm_remedy(settings), **_no_dropout(probe, settings)})
    odds = born_dead_probability or 0.0
    if silent:
        dead = f"{_where(silent)} {'is' if len(silent) == 1 else 'are'} silent on every example"
        if trained:
            sentence = f"The network has died: {dead}, and no gradient gets past."
            remedy = changes(settings, {"model.activation": "leaky_relu"}) + scaled_learning_rate(settings, 0.1)
            return [Finding("dead_network", "severe", sentence, remedy)]
        sentence = f"The network is born dead: {dead}, so its output is constant and no gradient gets past."
        if odds > BORN_DEAD_PROBABILITY.value:
            sentence += f" That happens to {odds:.0%} of networks of this shape."
        return [Finding("born_dead", "severe", sentence, rescue)]
    if trained or odds <= BORN_DEAD_PROBABILITY.value:
        return []
    if norm_of(settings).over is not None:
        sentence = f"Without {norm_name(settings)}, {odds:.0%} of networks of this shape would be born dead."
        return [Finding("norm_prevents_born_dead", "note", sentence, changes(settings, widen))]
    sentence = f"{odds:.0%} of networks of this shape are born dead; this draw is not, the next seed's may be."
    return [Finding("born_dead", "warning", sentence, rescue)]


def _judge_gradients(
    probe: Probe, settings: Mapping[str, Any], trained: bool, ratio_without_norm: float | None
) -> list[Finding]:
    """N19: gradients that vanish or explode between the last hidden layer and the first, and signals that collapse."""
    findings = []
    ratio, depth = probe.gradient_ratio, len(probe.hidden)
    rectify = {"model.activation": "relu", "model.init": "kaiming_normal"}
    if settings.get("model.activation") == "relu" and settings.get("model.init") == "auto":
        rectify = {}  # auto is the same
    repair = {**rectify, **norm_remedy(settings), **_no_dropout(probe, settings)}
    fewer = [f"--model.depth {max(1, depth // 4)}"]
    if ratio is not None and ratio < VANISHING_RATIO.value:
        sentence = f"Gradients vanish: layer 1 gets {_share(ratio)} of what layer {depth} gets."
        findings.append(Finding("vanishing_gradient", "severe", sentence, changes(settings, repair) or fewer))
    elif ratio is not None and ratio > EXPLODING_RATIO.value:
        sentence = f"Gradients explode: layer 1 gets {ratio:.0e} times what layer {depth} gets."
        if norm_of(settings).over == "examples":
            sentence += " Batch norm itself makes them grow at every layer."
            remedy = ["--model.norm layer"]
        else:
            remedy = changes(settings, {**usual_init(settings), **norm_remedy(settings)})
        findings.append(Finding("exploding_gradient", "severe", sentence, remedy or fewer))
    elif not trained and ratio_without_norm is not None and ratio_without_norm < VANISHING_RATIO.value:
        sentence = (
            f"Only {norm_name(settings)} keeps gradients from vanishing: without it, theory expects layer 1 to get "
            f"{_share(ratio_without_norm)} of what layer {depth} gets."
        )
        remedy = changes(settings, {**rectify, **_no_dropout(probe, settings)})
        findings.append(Finding("norm_prevents_vanishing", "note", sentence, remedy))
    collapsed = [
        layer
        for layer in probe.hidden
        if layer.n_out > 1 and layer.effective_rank is not None and layer.effective_rank < COLLAPSED_RANK.value
    ]
    if collapsed:
        sentence = f"To {_where(collapsed)} all examples look alike: effective rank {collapsed[-1].effective_rank:.2f}."
        findings.append(Finding("collapsed_representation", "warning", sentence, changes(settings, repair) or fewer))
    return findings


def _judge_units(probe: Probe, settings: Mapping[str, Any], trained: bool, earlier: Sequence[Probe]) -> list[Finding]:
    """N12, N13 and N20: saturated units, silent ones, and ones that fall silent while training."""
    findings = []
    saturated = [layer for layer in probe.hidden if layer.saturated_fraction > SATURATED_FRACTION.value]
    if saturated:
        share = max(layer.saturated_fraction for layer in saturated)
        name = settings.get("model.activation", "the activation")
        sentence = f"{name} saturates in {_where(saturated)}: up to {share:.0%} of the outputs hardly answer."
        if math.sqrt(probe.input_second_moment) > INPUT_SCALE.value:
            remedy = ["--data.normalization standardize"]
        else:
            remedy = changes(settings, {**usual_init(settings), **norm_remedy(settings)}) or [
                "--model.activation relu",
                "--model.init kaiming_normal",
            ]
        findings.append(Finding("saturated_units", "warning", sentence, remedy))
    dying = [layer for layer in probe.hidden if DEAD_FRACTION.value < layer.dead_fraction < 1]
    alive = {"model.activation": "leaky_relu", **({} if trained else norm_remedy(settings))}
    slower = scaled_learning_rate(settings, 0.1) if trained else []
    if dying:
        share = max(layer.dead_fraction for layer in dying)
        sentence = f"In {_where(dying)} up to {share:.0%} of the units are silent on every example."
        findings.append(Finding("dead_units", "warning", sentence, changes(settings, alive) + slower))
    history = [[p.hidden[i].dead_fraction for p in (*earlier, probe)] for i in range(len(probe.hidden))]
    rising = [
        (layer, shares)
        for layer, shares in zip(probe.hidden, history, strict=True)
        if shares[-1] - shares[0] > DEAD_RISE.value and slope(shares) > 0
    ]
    if rising:
        layer, shares = max(rising, key=lambda item: item[1][-1] - item[1][0])
        sentence = (
            f"Units are dying in {_where([layer for layer, _ in rising])}: the silent share of {layer.name} rose from "
            f"{shares[0]:.0%} to {shares[-1]:.0%}."
        )
        findings.append(Finding("dying_units", "warning", sentence, changes(settings, alive) + slower))
    return findings


def _judge_dropout(probe: Probe, settings: Mapping[str, Any]) -> list[Finding]:
    """N24: dropout's noise adds up over layers until little of the signal is left (Schoenholz et al. 2017)."""
    rate, depth = float(settings.get("model.dropout") or 0), len(probe.hidden)
    noise = depth * rate / (1 - rate)
    if noise <= DROPOUT_NOISE.value:
        return []
    sentence = f"Dropout {rate:g} in each of {depth} hidden layers leaves little of the signal."
    return [Finding("deep_dropout", "warning", sentence, ["--model.dropout 0"])]


def _judge_initial_loss(probe: Probe, settings: Mapping[str, Any], chance_loss: float) -> list[Finding]:
    excess = probe.loss - chance_loss
    if -INITIAL_LOSS_DEFICIT.value <= excess <= INITIAL_LOSS_EXCESS.value:
        return []
    sentence = (
        f"The loss before training is {probe.loss:.2f}, where a network that knows nothing gets {chance_loss:.2f}"
    )
    if excess < 0:
        sentence += ": the labels have leaked into the inputs, or these weights are trained."
        return [Finding("initial_loss", "warning", sentence)]
    sentence += ": it is sure of itself, and wrong, before it has seen a label."
    if math.sqrt(probe.input_second_moment) > INPUT_SCALE.value:
        remedy = ["--data.normalization standardize"]
    else:
        remedy = changes(settings, {**usual_init(settings), **norm_remedy(settings)})
    return [Finding("initial_loss", "warning", sentence, remedy)]


def _no_dropout(probe: Probe, settings: Mapping[str, Any]) -> dict[str, int]:
    return {"model.dropout": 0} if _judge_dropout(probe, settings) else {}


def _where(layers: Sequence[LayerProbe]) -> str:
    """Hidden layers by their numbers, runs drawn together: `layers 1, 4–6`."""
    numbers = [int(layer.name.split()[-1]) for layer in layers]
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
    return f"layer{'' if len(numbers) == 1 else 's'} " + ", ".join(parts)


def _share(ratio: float) -> str:
    return f"{ratio:.0e}" if ratio > 0 else "nothing"
