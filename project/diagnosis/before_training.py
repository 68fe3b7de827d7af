"""Judge a network before it trains: what is measured and what theory expects, layer by layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from project.data.datamodule import ImageDataModule
from project.data.settings import DataSettings
from project.diagnosis import theory
from project.diagnosis.judgement import thresholds
from project.diagnosis.judgement.findings import Finding, by_severity
from project.diagnosis.judgement.network import judge_network
from project.diagnosis.judgement.remedies import norm_remedy_flags
from project.diagnosis.measurement.examples import chance_loss, probe_examples
from project.diagnosis.measurement.probe import LayerProbe, Probe, probe
from project.diagnosis.measurement.range_test import RateRange, range_test
from project.network.layers import Network
from project.network.norms import is_normed
from project.network.optimization.optimizers import suited_learning_rate
from project.pages import FittingTable
from project.settings import flatten
from project.training.module import ImageModule
from project.training.settings import ModelSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BORN_DEAD_EXAMPLES = 128  # enough for the odds of a born-dead network, which hardly depend on the inputs


@dataclass(frozen=True)
class Diagnosis:
    """All that can be said of a network before training.

    Attributes:
        probe: What was measured.
        predictions: What theory expects of each hidden layer, in order; empty for a network that is not plain.
        depth_scale: How deep signals reach; None with fewer than two hidden layers, with a norm, or for a network that
            is not plain.
        born_dead_probability: Share of networks of this shape without norm that are born dead; None for
            an activation whose units cannot die, or for a network that is not plain.
        findings: The findings, the most severe first.
    """

    probe: Probe
    predictions: list[theory.LayerPrediction]
    depth_scale: theory.DepthScale | None
    born_dead_probability: float | None
    findings: list[Finding]

    @property
    def gradient_ratios(self) -> list[float]:
        """Each layer's pre-activation gradient norm over the last hidden layer's; 0 where there is none."""
        last = self.probe.hidden[-1].pre_activation_gradient_norm if self.probe.hidden else 0.0
        return [layer.pre_activation_gradient_norm / last if last > 0 else 0.0 for layer in self.probe.layers]


@dataclass(frozen=True)
class Examined:
    """A network's diagnosis beside the loss of guessing, and which learning rates move it.

    Args:
        diagnosis: What was measured and expected.
        chance_loss: The loss that uniform guesses have, for cross-entropies; else None.
        rates: Which learning rates move the network, and which break it.
        findings: All findings, about network and learning rate, the most severe first.
        with_places: The names of the layers of channels, whose outputs have places too.
    """

    diagnosis: Diagnosis
    chance_loss: float | None
    rates: RateRange
    findings: list[Finding]
    with_places: frozenset[str] = frozenset()


def examine(model: ModelSettings, data: DataSettings, seed: int) -> Examined:
    """Build the network that the settings describe, push validation examples through it, and judge it.

    Args:
        model: The settings that describe the network and its loss.
        data: The settings that describe its data.
        seed: The seed that decides the order of the data.
    """
    datamodule = ImageDataModule(data, task=model.task, seed=seed)
    module = ImageModule(datamodule.spec, datamodule.normalization, model)
    inputs, targets = probe_examples(module, datamodule)
    settings = flatten({"model": asdict(model), "data": asdict(data)})
    loss_of_guessing = chance_loss(settings, module.spec)
    found = diagnose(module.network, inputs, targets, module.loss, settings, loss_of_guessing)
    rates = range_test(module, datamodule.train_dataloader())
    about_rate = [] if found.findings and found.findings[0].severity == "severe" else judge_rate(rates, model)
    findings = by_severity([*found.findings, *about_rate])
    with_places = frozenset(layer.name for layer in module.network.layers() if layer.weight.ndim > 2)
    return Examined(found, loss_of_guessing, rates, findings, with_places)


def judge_rate(rates: RateRange, model: ModelSettings) -> list[Finding]:
    """Judge the learning rate by what a range test found."""
    rate = float(model.learning_rate)
    usual = suited_learning_rate(model.optimizer, model.loss, model.task, is_normed(model.norm, model.depth))
    if rates.slowest is None:
        sentence = "No learning rate makes this network's loss fall in the first steps."
        return [Finding("no_rate_works", "severe", sentence)]
    if rates.breaking is not None and rate >= rates.breaking:
        fitting = usual if usual < rates.breaking / 3 else rates.breaking / 5
        sentence = f"The learning rate {rate:g} is too high: from {rates.breaking:.2g} on, the loss rises again."
        return [Finding("learning_rate_high", "warning", sentence, [f"--model.learning_rate {fitting:.2g}"])]
    if rate < thresholds.SLOW_RATE * rates.slowest:
        fitting = max(usual, 10 * rates.slowest)
        sentence = f"The learning rate {rate:g} is too low: the loss begins to fall at about {rates.slowest:.2g}."
        return [Finding("learning_rate_low", "warning", sentence, [f"--model.learning_rate {fitting:.2g}"])]
    return []


def diagnose(
    network: Network,
    inputs: Tensor,
    targets: Tensor,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    settings: Mapping[str, Any],
    chance_loss: float | None = None,
) -> Diagnosis:
    """Probe a network before training, compare it with theory, and judge it.

    Args:
        network: The network as it was initialized.
        inputs: The examples that `probe` takes.
        targets: The targets that `probe` takes.
        loss_fn: The loss that `probe` takes.
        settings: The run's settings by their flags' names, such as `model.activation`.
        chance_loss: The loss that uniform guesses have, for cross-entropies; else None.
    """
    measured = probe(network, inputs, targets, loss_fn)
    predictions: list[theory.LayerPrediction] = []
    ratio_without_norm = scale = born_dead = None
    # theory knows nothing of the layers of any other network
    hidden = network.layers()[:-1] if network.is_plain else []
    if hidden:
        predictions = theory.predict(network, measured.input_second_moment)
    if any(layer.norm_row.over is not None for layer in hidden):
        ratio_without_norm = theory.predict(network, measured.input_second_moment, ignore_norm=True)[0].gradient_ratio
    elif len(hidden) > 1:
        scale = theory.depth_scale(cast(nn.Module, hidden[-1].activation), *theory.variances(hidden[-1]))
    if hidden and all(layer.activation_row.can_die for layer in hidden):
        widths = [layer.num_units for layer in hidden]
        born_dead = theory.born_dead_bound(widths)
        if born_dead > thresholds.BORN_DEAD_PROBABILITY / 5:  # else even the bound is too small to be reported
            born_dead = theory.born_dead_fraction(inputs[:_BORN_DEAD_EXAMPLES], widths)
    findings = judge_network(
        measured,
        settings,
        chance_loss=chance_loss,
        born_dead_probability=born_dead,
        ratio_without_norm=ratio_without_norm,
    )
    reach = scale.trainable_depth if scale is not None else None
    if reach is not None and reach < len(hidden) and all(finding.severity != "severe" for finding in findings):
        sentence = (
            f"Theory expects signals to reach through about {reach:.0f} hidden layers, and this network has "
            f"{len(hidden)}: it may train slowly."
        )
        findings = [*findings, Finding("deeper_than_reach", "note", sentence, norm_remedy_flags(settings))]
    return Diagnosis(measured, predictions, scale, born_dead, findings)


def layer_diagnosis_table(examined: Examined) -> Table:
    """Every layer: size, signal z → a and gradient, measured and expected by theory; out of bounds is red."""
    diagnosis = examined.diagnosis
    known = bool(diagnosis.predictions)
    theory_of_z, theory_of_gradient = ["theory\nof z sd"] * known, ["theory of\ngradient"] * known
    headings = ("layer", "units", "parameters", "z sd", *theory_of_z, "a mean", "a sd", "saturated", "dead", "gradient")
    table = FittingTable(
        *headings,
        *theory_of_gradient,
        least=("parameters", "a mean", "units", *theory_of_z),
        title="z: before the activation, a: after it; gradient: at z, over the last hidden layer's",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.right(*headings[1:], *theory_of_gradient)

    def size(layer: LayerProbe) -> list[str]:
        name, parameters = layer.name.removeprefix("hidden "), layer.n_in * layer.n_out + layer.n_out
        places = " × …" if layer.name in examined.with_places else ""
        return [name, f"{layer.n_out:,}{places}", f"{parameters:,}", f"{layer.pre_activation_sd:.2g}"]

    *ratios, of_output = diagnosis.gradient_ratios
    expectations: Sequence[theory.LayerPrediction | None] = diagnosis.predictions or [None] * len(ratios)
    for layer, expected, ratio in zip(diagnosis.probe.hidden, expectations, ratios, strict=True):
        table.add_row(
            *size(layer),
            *([Text(f"{expected.pre_activation_sd:.2g}", style="dim")] if expected else []),
            f"{layer.activation_mean:.2f}",
            f"{layer.activation_sd:.2g}",
            _coloured(f"{layer.saturated_fraction:.0%}", layer.saturated_fraction >= thresholds.SATURATED_FRACTION),
            _coloured(f"{layer.dead_fraction:.0%}", layer.dead_fraction >= thresholds.DEAD_FRACTION),
            _coloured(f"{ratio:.1g}", not thresholds.VANISHING_RATIO < ratio < thresholds.EXPLODING_RATIO),
            *([Text(f"{expected.gradient_ratio:.1g}", style="dim")] if expected else []),
        )
    empty = [""] * (4 + known)
    table.add_row(*size(diagnosis.probe.output), *empty, f"{of_output:.1g}" if of_output > 0 else "")
    return table


def _coloured(text: str, bad: bool) -> Text:
    return Text(text, style="red" if bad else "green")


def theory_lines(examined: Examined) -> list[str]:
    """What theory says of the network as a whole, in sentences."""
    found, lines = examined.diagnosis, []
    if examined.chance_loss is not None:
        lines.append(f"The loss is {found.probe.loss:.3f}; uniform guesses have {examined.chance_loss:.3f}.")
    if not found.predictions and found.probe.hidden:
        lines.append("Theory has no formula for this network: what it would expect is left out.")
    if found.depth_scale is not None:
        chi, reach = found.depth_scale.chi, found.depth_scale.trainable_depth
        depth = "any depth" if reach is None else f"about {reach:.0f} hidden layers"
        lines.append(f"Depth scale (Schoenholz et al. 2017): χ is {chi:.3f}; trainable up to {depth}.")
    if found.born_dead_probability is not None:
        share = f"{found.born_dead_probability:.2%}"
        lines.append(f"Born dead (Lu et al. 2019): {share} of networks of this shape are, when they have no norm.")
    if (slowest := examined.rates.slowest) is not None:
        breaking = examined.rates.breaking
        upper = f"above {examined.rates.rates[-1]:.2g}" if breaking is None else f"at {breaking:.2g}"
        lines.append(f"Range test (Smith 2017): the loss falls from learning rate {slowest:.2g} on and breaks {upper}.")
    return lines


def diagnosis_figure(examined: Examined) -> "Figure":
    """Signal and gradient by layer, measured and expected, one panel each."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    diagnosis, hidden = examined.diagnosis, examined.diagnosis.probe.hidden
    figure = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, 3)
    numbers = range(1, len(hidden) + 1)
    panels = {
        "activation sd": ([p.activation_sd for p in hidden], [p.activation_sd for p in diagnosis.predictions]),
        "gradient ÷ last layer's": (diagnosis.gradient_ratios[:-1], [p.gradient_ratio for p in diagnosis.predictions]),
    }
    for axis, (name, (measured, expected)) in zip(axes, panels.items(), strict=False):
        axis.plot(numbers, measured, "o-", label="measured")
        if expected:
            axis.plot(numbers, expected, "--", color="gray", label="theory")
        if min(measured, default=0) > 0:
            axis.set_yscale("log")
            if max(measured) < 10 * min(measured):  # a log axis needs some room to be readable
                axis.set_ylim(min(measured) / 5, max(measured) * 5)
        axis.set(title=name)
    axes[2].plot(numbers, [p.saturated_fraction for p in hidden], "s-", label="saturated share")
    axes[2].plot(numbers, [p.dead_fraction for p in hidden], "x-", label="dead share")
    axes[2].set(title="units that pass no gradient", ylim=(-0.03, 1.03))
    for axis in axes:
        axis.set(xlabel="hidden layer")
        axis.legend()
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    return figure
