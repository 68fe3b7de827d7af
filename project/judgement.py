"""What the numbers mean, in words, with a remedy to type: of a network, of a training, of the data.

Each judgement compares numbers with a documented `Threshold` and yields `Finding`s; `verdict` sums them up. The numbers
come from `project.diagnostics` and from a run's history. A finding says what was measured before it says what to do.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from project.diagnostics import DataSummary, LayerProbe, Probe

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
    "Update over weight, from which the learning rate is high: more than ten times the usual 1e-3 (Hinton 2010, section "
    "7, allows a factor of 10 either way), with a margin of 3.",
)
SMALL_UPDATE = Threshold(
    3e-5,
    "Update over weight, below which the learning rate is low: less than a tenth of the usual 1e-3, with a margin of 3.",
)
GENERALIZATION_LOSS = Threshold(
    0.05,
    "Relative rise of the validation loss above its minimum, from which a network overfits: Prechelt 1998, \"Early "
    "Stopping — But When?\", criterion GL_5.",
)
ACCURACY_GAP = Threshold(
    0.05,
    "Training minus validation accuracy, from which the network has learned its examples rather than their kind.",
)
UNDERFIT_GAP = Threshold(
    0.02,
    "Relative gap between validation and training loss, up to which there is nothing but bias: more capacity would pay.",
)
UNDERFIT_ERROR = Threshold(
    0.05,
    "Training error, below which nobody would call it underfitting.",
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
    "\"A systematic study of the class imbalance problem\").",
)
INPUT_SCALE = Threshold(
    10.0,
    "Root mean square of the inputs, above which they are not normalized: initializations reckon with 1 (LeCun et al. "
    "1998, \"Efficient BackProp\", section 4.3).",
)
MIN_EPOCHS = Threshold(
    5,
    "Epochs from which a curve has a shape to judge; with fewer, only what is plain at once is said.",
)

_DEEP_DROPOUT_LAYERS = 5  # hidden layers from which a remedy also takes dropout out


def thresholds() -> dict[str, Threshold]:
    """Every threshold by its name, for the documentation."""
    return {name: value for name, value in globals().items() if isinstance(value, Threshold)}


def judge_network(
    probe: Probe,
    settings: Mapping[str, Any],
    *,
    trained: bool = False,
    expected_loss: float | None = None,
    born_dead_probability: float | None = None,
    ratio_without_norm: float | None = None,
    earlier: Sequence[Probe] = (),
) -> list[Finding]:
    """Judge what a probe saw: before training, in between or after it.

    Args:
        probe: The numbers.
        settings: The `model.` settings, without that prefix; `activation`, `norm`, `init`, `dropout` and `learning_rate`
            are looked at, and may be missing.
        trained: Whether training has begun; before it, the initial loss and the odds of a born-dead network count.
        expected_loss: What an ignorant network's loss should be, `theory.initial_loss(num_classes)` for cross-entropy;
            None for other losses.
        born_dead_probability: From `theory.born_dead_fraction` or `born_dead_bound`, both without norm; None where the
            activation is not relu.
        ratio_without_norm: Gradient ratio that theory predicts for the same network without norm; None if it has none.
        earlier: Probes of the same network on the same examples, the oldest first, for the trend of dead units.

    Returns:
        Findings, the severest first; none for a healthy network.
    """
    if not _is_finite(probe):
        return [
            Finding(
                "not_finite",
                "severe",
                f"The network's numbers are not finite (loss {probe.loss:g}): it has diverged.",
                [_learning_rate_flag(settings, 0.1)],
            )
        ]
    stuck = _judge_symmetry(probe)
    if stuck:
        return stuck
    findings: list[Finding] = []
    dead = _judge_born_dead(probe, settings, trained, born_dead_probability)
    findings += dead
    silent = [layer for layer in probe.hidden if layer.dead_fraction == 1]
    if not silent:
        findings += _judge_gradients(probe, settings, ratio_without_norm)
        findings += _judge_collapse(probe, settings)
    findings += _judge_units(probe, settings, earlier)
    if not trained and expected_loss is not None:
        findings += _judge_initial_loss(probe, settings, expected_loss)
    return by_severity(findings)


def _is_finite(probe: Probe) -> bool:
    layers = [*probe.hidden, probe.output]
    numbers = [probe.loss, *(layer.activation_sd for layer in layers), *(layer.weight_norm for layer in layers)]
    numbers += [layer.weight_gradient_norm for layer in layers]
    return all(math.isfinite(number) for number in numbers)


def _judge_symmetry(probe: Probe) -> list[Finding]:
    """N21: with all weights zero, or all units alike, gradients cannot tell units apart."""
    if not probe.hidden:
        return []
    layers = [*probe.hidden, probe.output]
    only_last_bias = (
        all(layer.weight_gradient_norm == 0 for layer in layers)
        and all(layer.bias_gradient_norm == 0 for layer in probe.hidden)
        and probe.output.bias_gradient_norm > 0
    )
    remedy = ["--model.init auto"]
    if only_last_bias and all(layer.weight_norm == 0 for layer in layers):
        sentence = "All weights are zero: no gradient reaches them, and nothing but the last bias can learn."
        return [Finding("zero_weights", "severe", sentence, remedy)]
    # units that are alike going in are only stuck if they are alike going out as well
    alike = [
        layer
        for layer, above in zip(probe.hidden, layers[1:], strict=True)
        if layer.n_out > 1 and layer.identical_unit_fraction == 1 and above.identical_unit_fraction == 1
    ]
    if not alike or not all(layer.weight_norm == 0 for layer in layers):
        return []
    where = _layers(alike)
    sentence = (
        f"All weights are zero: the units of {where} are identical, get identical gradients and stay identical, "
        "so that each layer is worth one unit."
    )
    return [Finding("symmetric_units", "severe", sentence, remedy)]
