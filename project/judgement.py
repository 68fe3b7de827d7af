"""What the numbers mean, in words, with a remedy to type: of a network, of a training, of the data.

Each judgement compares numbers with a documented `Threshold` and yields `Finding`s; `verdict` sums them up. The numbers
come from `project.diagnostics` and from a run's history. A finding says what was measured before it says what to do.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, cast

from torch import Tensor, nn

from project.diagnostics import DataSummary, LayerProbe, Probe, probe, slope
from project.mlp import MLP, HiddenLayer
from project.theory import (
    DepthScale,
    LayerPrediction,
    born_dead_bound,
    born_dead_fraction,
    depth_scale,
    predict,
    variances,
)

Severity = Literal["severe", "warning", "note"]
"""severe: it will not learn, or has not; warning: it costs accuracy or time; note: good to know."""

SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One judgement.

    Attributes:
        code: What it is, for programs: `vanishing_gradient`, `overfitting`, ….
        severity: How much it matters.
        sentence: What was found, with its numbers, for people.
        remedy: Flags to type, the best first; empty where no setting mends it.
    """

    code: str
    severity: Severity
    sentence: str
    remedy: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Threshold:
    """A number that a judgement turns on, and why it is that number."""

    value: float
    reason: str


VANISHING_RATIO = Threshold(
    1e-3,
    "First hidden layer's gradient over the last one's, below which gradients vanish. Sigmoid layers of 256 on "
    "FashionMNIST (Xavier, Adam 1e-3, 3 epochs): 5 layers, ratio 3e-3, reach 0.861; 6 layers, 6e-4, 0.834; 8 layers, "
    "4e-5, 0.562.",
)
EXPLODING_RATIO = Threshold(
    1e3,
    "First hidden layer's gradient over the last one's, above which gradients explode: the mirror image of vanishing. "
    "Batch norm with relu gets there at about 37 layers, growing by √(π/(π−1)) = 1.21 a layer (Yang et al. 2019).",
)
SATURATED_FRACTION = Threshold(
    0.5,
    "Share of a layer's outputs with less than 5 % of the steepest slope, from which the layer counts as saturated: "
    "most of its gradient is lost (Glorot & Bengio 2010, section 3).",
)
DEAD_FRACTION = Threshold(
    0.5,
    "Share of units silent on every example, from which a layer counts as dying: half of the work is wasted. A healthy "
    "random relu network 20 layers deep has up to 0.3, one 40 deep 0.45, since deep down all examples look alike.",
)
DEAD_RISE = Threshold(
    0.2,
    "Rise of a layer's dead share since the first probe, from which units are said to be dying while training.",
)
DROPOUT_NOISE = Threshold(
    3.5,
    "Relative noise variance that dropout adds, p/(1 − p), summed over the hidden layers. 256 relu units with batch "
    "norm on FashionMNIST, 3 epochs: 0.859 at 3 (three layers, dropout 0.5) and 0.865 at 2.5 (ten layers, 0.2), but "
    "0.755 at 3.75 (fifteen, 0.2) and 0.653 at 5 (twenty, 0.2), where 0.871 is reached without.",
)
BORN_DEAD_PROBABILITY = Threshold(
    0.05,
    "Chance that a network of this shape is born dead, from which it is worth a word: one seed in twenty.",
)
COLLAPSED_RANK = Threshold(
    1.05,
    "Effective rank of a layer's activations, below which all examples look the same to it. Five sigmoid layers, which "
    "still train, leave 1.08; six, which hardly do, 1.02.",
)
INITIAL_LOSS_EXCESS = Threshold(
    3.0,
    "Nats by which the loss before training may exceed that of uniform guesses, log(classes). Every activation with "
    "its usual initialization stays within 2 at depths up to 20; pictures left at 0–255 cost a hundred or more.",
)
INITIAL_LOSS_DEFICIT = Threshold(
    0.5,
    "Nats by which the loss before training may lie below log(classes): random weights cannot know more than this.",
)
LARGE_UPDATE = Threshold(
    0.03,
    "Update over weight, from which the learning rate is high: more than ten times the usual 1e-3 (Hinton 2010, "
    "section 7, allows a factor of 10 either way), with a margin of 3.",
)
SMALL_UPDATE = Threshold(
    3e-5,
    "Update over weight, below which the learning rate is low: less than a tenth of the usual 1e-3 (Hinton 2010), with "
    "a margin of 3.",
)
GENERALIZATION_LOSS = Threshold(
    0.05,
    'Relative rise of the validation loss above its minimum, from which a network overfits: Prechelt 1998, "Early '
    'Stopping — But When?", criterion GL_5.',
)
ACCURACY_GAP = Threshold(
    0.05,
    "Training minus validation accuracy, from which the network has learned its examples rather than their kind.",
)
UNDERFIT_GAP = Threshold(
    0.02,
    "Training minus validation accuracy, up to which nearly all of the error is bias, and more capacity would pay.",
)
UNDERFIT_LOSS_GAP = Threshold(
    0.10,
    "The same by loss, relative to validation's, where there is no accuracy.",
)
UNDERFIT_FALL = Threshold(
    0.03,
    "Relative fall of the training loss per epoch in the last third, below which a curve has levelled off.",
)
UNDERFIT_ERROR = Threshold(
    0.05,
    "Training error (for regression, the loss in units of the target's variance), below which nobody would call it "
    "underfitting.",
)
FLAT_IMPROVEMENT = Threshold(
    0.01,
    "Relative fall of the training loss over the last third of the epochs, below which it stands still.",
)
CHANCE_MARGIN = Threshold(
    0.02,
    "Accuracy above that of always naming the commonest class, up to which nothing was learned.",
)
LOSS_JUMP = Threshold(
    0.10,
    "Relative rise of the training loss from one epoch to the next that counts as a jump; two of them, or ending above "
    "the first epoch's loss, and the learning rate is too high.",
)
VALIDATION_SPIKE = Threshold(
    0.25,
    "Relative rise of the validation loss in one epoch that the next takes back by at least LOSS_JUMP: overfitting "
    "does not turn back, steps that are too large do.",
)
CRAWL = Threshold(
    0.01,
    "Relative change of the training loss per epoch, below which a network that is still worse than guessing crawls.",
)
CRAWL_EXCESS = Threshold(
    0.02,
    "How far above that of guessing, relatively, the loss must be for that: a network that cannot learn still finds "
    "the frequencies of the classes, and with them the loss of guessing.",
)
STEADY_FALL = Threshold(
    0.7,
    "Last epoch's fall of the training loss over the average epoch's, from which the loss falls as if on a straight "
    "line: a curve that still has all of its way to go.",
)
LATE_IMPROVEMENT = Threshold(
    0.01,
    "Relative fall of the validation loss in the last epoch, from which more epochs would pay.",
)
WASTED_EPOCHS = Threshold(
    0.5,
    "Share of the epochs spent after the best one, from which the training was too long.",
)
CONSTANT_FEATURES = Threshold(
    0.25,
    "Share of features that never change, from which it is worth a word. MNIST's empty border makes 9 % and harms "
    "nothing.",
)
CLASS_IMBALANCE = Threshold(
    10.0,
    "Largest class over the smallest, from which rare classes suffer (Buda, Maki & Mazurowski 2018, "
    '"A systematic study of the class imbalance problem").',
)
INPUT_SCALE = Threshold(
    10.0,
    "Root mean square of the inputs, above which they are not normalized: initializations reckon with 1 (LeCun et al. "
    '1998, "Efficient BackProp", section 4.3).',
)
MIN_EPOCHS = Threshold(
    5,
    "Epochs from which a curve has a shape to judge; with fewer, only what is plain at once is said.",
)


_USUAL_SCALES = {"model.init_scale": 1.0, "model.init_bias": 0.0}
_BORN_DEAD_EXAMPLES = 128  # enough for the odds of a born-dead network, which hardly depend on the inputs


def thresholds() -> dict[str, Threshold]:
    """Every threshold by its name, for the documentation."""
    return {name: value for name, value in globals().items() if isinstance(value, Threshold)}


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The same findings, the severest first, otherwise in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def combined_remedy(findings: Iterable[Finding]) -> list[str]:
    """All remedies as one set of flags: where two findings set the same flag, the severer one decides."""
    flags: dict[str, str] = {}
    for finding in by_severity(findings):
        for flag in finding.remedy:
            flags.setdefault(flag.split()[0], flag)
    return list(flags.values())


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
            activation is not relu.
        ratio_without_norm: `Probe.gradient_ratio` that theory predicts for the same network without norm; None if it
            has none.
        earlier: Probes of the same network on the same examples, the oldest first, for the trend of dead units.

    Returns:
        Findings, the severest first; none for a healthy network.
    """
    if not _is_finite(probe):
        sentence = f"The network's numbers are not finite (loss {probe.loss:g}): it has diverged."
        return [Finding("not_finite", "severe", sentence, _scaled_learning_rate(settings, 0.1))]
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
    remedy = _changes(settings, {"model.init": "auto"}) or ["--model.init kaiming_normal"]
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
    rescue = _changes(settings, {**widen, "model.init": "auto", **_norm(settings), **_no_dropout(probe, settings)})
    odds = born_dead_probability or 0.0
    if silent:
        dead = f"{_where(silent)} {'is' if len(silent) == 1 else 'are'} silent on every example"
        if trained:
            sentence = f"The network has died: {dead}, and no gradient gets past."
            remedy = _changes(settings, {"model.activation": "leaky_relu"}) + _scaled_learning_rate(settings, 0.1)
            return [Finding("dead_network", "severe", sentence, remedy)]
        sentence = f"The network is born dead: {dead}, so its output is constant and no gradient gets past."
        if odds > BORN_DEAD_PROBABILITY.value:
            sentence += f" That happens to {odds:.0%} of networks of this shape."
        return [Finding("born_dead", "severe", sentence, rescue)]
    if trained or odds <= BORN_DEAD_PROBABILITY.value:
        return []
    if settings.get("model.norm", "none") != "none":
        sentence = f"Without {_norm_name(settings)}, {odds:.0%} of networks of this shape would be born dead."
        return [Finding("norm_prevents_born_dead", "note", sentence, _changes(settings, widen))]
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
    mend = {**rectify, **_norm(settings), **_no_dropout(probe, settings)}
    fewer = [f"--model.depth {max(1, depth // 4)}"]
    if ratio is not None and ratio < VANISHING_RATIO.value:
        sentence = f"Gradients vanish: layer 1 gets {_share(ratio)} of what layer {depth} gets."
        findings.append(Finding("vanishing_gradient", "severe", sentence, _changes(settings, mend) or fewer))
    elif ratio is not None and ratio > EXPLODING_RATIO.value:
        sentence = f"Gradients explode: layer 1 gets {ratio:.0e} times what layer {depth} gets."
        if settings.get("model.norm") == "batch":
            sentence += " Batch norm itself makes them grow at every layer."
            remedy = ["--model.norm layer"]
        else:
            remedy = _changes(settings, {**_usual_init(settings), **_norm(settings)})
        findings.append(Finding("exploding_gradient", "severe", sentence, remedy or fewer))
    elif not trained and ratio_without_norm is not None and ratio_without_norm < VANISHING_RATIO.value:
        sentence = (
            f"Only {_norm_name(settings)} keeps gradients from vanishing: without it, theory expects layer 1 to get "
            f"{_share(ratio_without_norm)} of what layer {depth} gets."
        )
        remedy = _changes(settings, {**rectify, **_no_dropout(probe, settings)})
        findings.append(Finding("norm_prevents_vanishing", "note", sentence, remedy))
    collapsed = [
        layer
        for layer in probe.hidden
        if layer.n_out > 1 and layer.effective_rank is not None and layer.effective_rank < COLLAPSED_RANK.value
    ]
    if collapsed:
        sentence = f"To {_where(collapsed)} all examples look alike: effective rank {collapsed[-1].effective_rank:.2f}."
        findings.append(Finding("collapsed_representation", "warning", sentence, _changes(settings, mend) or fewer))
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
            remedy = _changes(settings, {**_usual_init(settings), **_norm(settings)}) or [
                "--model.activation relu",
                "--model.init kaiming_normal",
            ]
        findings.append(Finding("saturated_units", "warning", sentence, remedy))
    dying = [layer for layer in probe.hidden if DEAD_FRACTION.value < layer.dead_fraction < 1]
    alive = {"model.activation": "leaky_relu", **({} if trained else _norm(settings))}
    slower = _scaled_learning_rate(settings, 0.1) if trained else []
    if dying:
        share = max(layer.dead_fraction for layer in dying)
        sentence = f"In {_where(dying)} up to {share:.0%} of the units are silent on every example."
        findings.append(Finding("dead_units", "warning", sentence, _changes(settings, alive) + slower))
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
        findings.append(Finding("dying_units", "warning", sentence, _changes(settings, alive) + slower))
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
        remedy = _changes(settings, {**_usual_init(settings), **_norm(settings)})
    return [Finding("initial_loss", "warning", sentence, remedy)]


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
        return [Finding("diverged", "severe", sentence, _scaled_learning_rate(settings, 0.1))]
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
    if settings.get("model.schedule") == "cyclic":
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
        return [Finding("learning_rate_high", "warning", sentence, _scaled_learning_rate(settings, 0.1))]
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
        return [Finding("learning_rate_low", "warning", sentence, _scaled_learning_rate(settings, 10))]
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
        change: dict[str, Any] = {"model.activation": "relu", "model.init": "kaiming_normal", **_norm(settings)}
        if settings.get("model.dropout"):
            change["model.dropout"] = 0
        remedy = _changes(settings, change) or _scaled_learning_rate(settings, 0.1)
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
    if settings.get("model.activation") == "identity":
        return ["--model.activation relu"]
    width = settings.get("model.width")
    return [f"--model.width {2 * width}"] if isinstance(width, int) else ["--model.width 512"]


def _judge_progress(
    history: Sequence[Mapping[str, float]], settings: Mapping[str, Any], codes: set[str]
) -> list[Finding]:
    """A plateau: flat, far from done, and neither by design of the schedule nor for want of capacity."""
    losses = [record["train/loss"] for record in history]
    error = 1 - history[-1]["train/accuracy"] if "train/accuracy" in history[-1] else 1.0
    steady_rate = settings.get("model.schedule", "constant") == "constant"
    if (
        len(losses) < MIN_EPOCHS.value
        or not steady_rate
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


def verdict(findings: Iterable[Finding], results: Mapping[str, Any]) -> str:
    """What happened, in a sentence or two, for metrics.json.

    Args:
        findings: Of network, training and data; the severest is told, a note only if there is no other, and if it
            has no remedy, the next that has one.
        results: As in metrics.json: `status`, `epochs`, `best`, `test/accuracy`, `validation/accuracy`, for regression
            `test/rmse`, `validation/rmse`; what is missing is left out.
    """
    parts = []
    for split in ("test", "validation"):
        for name, form in (("accuracy", ".2%"), ("rmse", ".4g")):
            if isinstance(results.get(f"{split}/{name}"), int | float):
                parts.append(f"{split} {name} {results[f'{split}/{name}']:{form}}")
    status = str(results.get("status", "completed")).replace("_", " ")
    epochs = results.get("epochs")
    happened = status.capitalize()
    if epochs is not None:
        happened += f" after {epochs} epoch{'' if epochs == 1 else 's'}"
    if parts:
        happened += ": " + ", ".join(parts)
    best = results.get("best") or {}
    if "epoch" in best:
        happened += f" (best epoch {best['epoch']})"
    ordered = by_severity(findings)
    if not ordered:
        return f"{happened}. Nothing stands out."
    told = ordered[:1]
    if not told[0].remedy:  # what goes with it may tell the cause
        told += [finding for finding in ordered[1:] if finding.severity != "note" and finding.remedy][:1]
    sentences = [f"{happened}.", *(finding.sentence for finding in told)]
    if told[-1].remedy:
        sentences.append(f"Try {' '.join(told[-1].remedy)}.")
    return " ".join(sentences)


@dataclass(frozen=True)
class Diagnosis:
    """All that can be said of a network before training.

    Attributes:
        probe: What was measured.
        predictions: What theory expects of each hidden layer, in order.
        depth_scale: How deep signals reach; None with fewer than two hidden layers or with a norm.
        born_dead_probability: Share of networks of this shape without norm that are born dead; None unless relu.
        findings: The judgement, the severest first.
    """

    probe: Probe
    predictions: list[LayerPrediction]
    depth_scale: DepthScale | None
    born_dead_probability: float | None
    findings: list[Finding]


def diagnose(
    mlp: MLP,
    inputs: Tensor,
    targets: Tensor,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    settings: Mapping[str, Any],
    chance_loss: float | None = None,
) -> Diagnosis:
    """Probe a network before training, hold it against theory, and judge it.

    Args:
        mlp: The network as it was initialized.
        inputs: Normalized validation examples, (examples, …), on the network's device.
        targets: What `loss_fn` expects beside the logits.
        loss_fn: (logits, targets) → scalar, the mean over examples.
        settings: The run's settings by their flags' names, such as `model.activation`.
        chance_loss: `theory.initial_loss(num_classes)` for cross-entropy, None for other losses.
    """
    measured = probe(mlp, inputs, targets, loss_fn)
    blocks = [cast(HiddenLayer, block) for block in mlp.hidden]
    normed = any(not isinstance(block.norm, nn.Identity) for block in blocks)
    predictions = predict(mlp, measured.input_second_moment)
    plain = predict(mlp, measured.input_second_moment, ignore_norm=True) if normed else []
    scale = None
    if len(blocks) > 1 and not normed:
        scale = depth_scale(blocks[-1].activation, *variances(blocks[-1].linear))
    born_dead = None
    if blocks and all(isinstance(block.activation, nn.ReLU) for block in blocks):
        widths = [block.linear.out_features for block in blocks]
        born_dead = born_dead_bound(widths)
        if born_dead > BORN_DEAD_PROBABILITY.value / 5:  # else even the bound is not worth a word
            born_dead = born_dead_fraction(inputs[:_BORN_DEAD_EXAMPLES], widths)
    findings = judge_network(
        measured,
        settings,
        chance_loss=chance_loss,
        born_dead_probability=born_dead,
        ratio_without_norm=plain[0].gradient_ratio if plain else None,
    )
    return Diagnosis(measured, predictions, scale, born_dead, findings)


def _changes(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Flags for those of the wanted settings that are not so already."""
    missing = object()
    return [
        f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"
        for name, value in wanted.items()
        if settings.get(name, missing) != value
    ]


def _scaled_learning_rate(settings: Mapping[str, Any], factor: float) -> list[str]:
    rate = settings.get("model.learning_rate")
    return [f"--model.learning_rate {(rate if isinstance(rate, int | float) else 1e-3) * factor:.3g}"]


def _usual_init(settings: Mapping[str, Any]) -> dict[str, Any]:
    usual: dict[str, Any] = {"model.init": "auto"}
    if settings.get("model.activation") == "relu" and settings.get("model.init") == "kaiming_normal":
        usual = {}  # auto is the same
    return usual | {name: value for name, value in _USUAL_SCALES.items() if name in settings}


def _norm(settings: Mapping[str, Any]) -> dict[str, str]:
    return {} if settings.get("model.norm", "none") != "none" else {"model.norm": "batch"}


def _norm_name(settings: Mapping[str, Any]) -> str:
    return f"{settings.get('model.norm', 'the')} norm"


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
