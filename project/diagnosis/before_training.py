"""Judge a network before it trains: what is measured and what theory expects, layer by layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich import box
from rich.table import Table
from torch import Tensor

from project.data.datamodule import ImageDataModule
from project.data.settings import DataSettings
from project.diagnosis.examples import chance_loss, probe_examples
from project.diagnosis.judgement.findings import Finding
from project.diagnosis.judgement.network import judge_network
from project.diagnosis.judgement.thresholds import (
    BORN_DEAD_PROBABILITY,
    DEAD_FRACTION,
    EXPLODING_RATIO,
    SATURATED_FRACTION,
    VANISHING_RATIO,
)
from project.diagnosis.probe import Probe, probe
from project.diagnosis.theory import (
    DepthScale,
    LayerPrediction,
    born_dead_bound,
    born_dead_fraction,
    depth_scale,
    predict,
    variances,
)
from project.errors import InputError
from project.network.mlp import MLP, HiddenLayer
from project.settings import flatten
from project.training.module import ImageModule
from project.training.settings import ModelSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Diagnosis:
    """All that can be said of a network before training.

    Attributes:
        probe: What was measured.
        predictions: What theory expects of each hidden layer, in order.
        depth_scale: How deep signals reach; None with fewer than two hidden layers or with a norm.
        born_dead_probability: Share of networks of this shape without norm that are born dead; None for
            an activation whose units cannot die.
        findings: The judgement, the severest first.
    """

    probe: Probe
    predictions: list[LayerPrediction]
    depth_scale: DepthScale | None
    born_dead_probability: float | None
    findings: list[Finding]


@dataclass(frozen=True)
class Examined:
    """A network and its diagnosis.

    Args:
        module: The network as it was initialized.
        diagnosis: What was measured and expected, and the findings.
        chance_loss: Loss of uniform guesses, for cross-entropies; else None.
    """

    module: ImageModule
    diagnosis: Diagnosis
    chance_loss: float | None


def examine(model: ModelSettings, data: DataSettings, seed: int) -> Examined:
    """Build the network that the settings describe, push validation examples through it, and judge it.

    Args:
        model: The network and its loss.
        data: The data that it looks at.
        seed: Decides the order of the data.
    """
    datamodule = ImageDataModule(data, task=model.task, seed=seed)
    module = ImageModule(datamodule.spec, datamodule.normalization, model)
    inputs, targets = probe_examples(module, datamodule)
    settings = flatten({"model": asdict(model), "data": asdict(data)})
    loss_of_guessing = chance_loss(settings, module.spec)
    found = diagnose(module.mlp, inputs, targets, module.loss, settings, loss_of_guessing)
    return Examined(module, found, loss_of_guessing)


def layer_diagnosis_table(examined: Examined) -> Table:
    """Every layer: size, signal z → a and gradient, measured beside what theory expects; out of bounds is red."""
    probe, predictions = examined.diagnosis.probe, examined.diagnosis.predictions
    table = Table(
        title="Layer by layer: pre-activation z, activation a, and the gradient at z against the last hidden layer's",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    headings = ("layer", "shape", "parameters", "z sd", "theory", "a mean", "a sd")
    for heading in (*headings, "saturated", "dead", "gradient", "theory"):
        table.add_column(heading, justify="left" if heading in ("layer", "shape") else "right", no_wrap=True)
    last = probe.hidden[-1].pre_activation_gradient_norm if probe.hidden else 0.0
    for layer, expected in zip(probe.hidden, predictions, strict=True):
        ratio = layer.pre_activation_gradient_norm / last if last > 0 else 0.0
        bad_ratio = not VANISHING_RATIO.value < ratio < EXPLODING_RATIO.value
        table.add_row(
            layer.name.removeprefix("hidden "),
            f"(B, {layer.n_out})",
            f"{layer.n_in * layer.n_out + layer.n_out:,}",
            f"{layer.pre_activation_sd:.2g}",
            f"[dim]{expected.pre_activation_sd:.2g}[/dim]",
            f"{layer.activation_mean:.2g}",
            f"{layer.activation_sd:.2g}",
            _coloured(f"{layer.saturated_fraction:.0%}", layer.saturated_fraction >= SATURATED_FRACTION.value),
            _coloured(f"{layer.dead_fraction:.0%}", layer.dead_fraction >= DEAD_FRACTION.value),
            _coloured(f"{ratio:.1g}", bad_ratio),
            f"[dim]{expected.gradient_ratio:.1g}[/dim]",
        )
    output = probe.output
    table.add_row(
        "output",
        f"(B, {output.n_out})",
        f"{output.n_in * output.n_out + output.n_out:,}",
        f"{output.pre_activation_sd:.2g}",
        *[""] * 5,
        f"{output.pre_activation_gradient_norm / last:.1g}" if last > 0 else "",
    )
    return table


def _coloured(text: str, bad: bool) -> str:
    return f"[red]{text}[/red]" if bad else f"[green]{text}[/green]"


def theory_lines(examined: Examined) -> list[str]:
    """What theory says of the network as a whole, in sentences."""
    found, lines = examined.diagnosis, []
    if examined.chance_loss is not None:
        lines.append(f"Loss {found.probe.loss:.3f}; uniform guesses have {examined.chance_loss:.3f}.")
    scale = found.depth_scale
    if scale is not None:
        reach = scale.trainable_depth
        depth = "without limit" if reach is None else f"to about {reach:.0f} hidden layers"
        lines.append(f"Depth scale (Schoenholz et al. 2017): χ = {scale.chi:.3f}; trainable {depth}.")
    if found.born_dead_probability is not None:
        share = found.born_dead_probability
        lines.append(f"Born dead (Lu et al. 2019): {share:.2%} of networks of this shape, norm left out.")
    return lines


def diagnosis_figure(examined: Examined) -> "Figure":
    """Signal and gradient by layer, measured and expected, one panel each."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    probe, predictions = examined.diagnosis.probe, examined.diagnosis.predictions
    figure = Figure(figsize=(11, 3.6), dpi=110, layout="constrained")
    numbers = range(1, len(probe.hidden) + 1)
    last = probe.hidden[-1].pre_activation_gradient_norm if probe.hidden else 0.0
    panels: list[tuple[str, Sequence[float], Sequence[float] | None]] = [
        ("activation sd", [p.activation_sd for p in probe.hidden], [p.activation_sd for p in predictions]),
        (
            "gradient ÷ last layer's",
            [p.pre_activation_gradient_norm / last if last > 0 else 0.0 for p in probe.hidden],
            [p.gradient_ratio for p in predictions],
        ),
    ]
    axes = figure.subplots(1, 3)
    for axis, (name, measured, expected) in zip(axes, panels, strict=False):
        axis.plot(numbers, measured, "o-", label="measured")
        if expected is not None:
            axis.plot(numbers, expected, "--", color="gray", label="theory")
        if min(measured, default=0) > 0:
            axis.set_yscale("log")
        if min(measured, default=0) > 0 and max(measured) < 10 * min(
            measured
        ):  # a log axis needs some room to be readable
            axis.set_ylim(min(measured) / 5, max(measured) * 5)
        axis.set(title=name, xlabel="hidden layer")
        axis.legend()
    axes[2].plot(numbers, [p.saturated_fraction for p in probe.hidden], "s-", label="saturated share")
    axes[2].plot(numbers, [p.dead_fraction for p in probe.hidden], "x-", label="dead share")
    axes[2].set(title="units that pass no gradient", xlabel="hidden layer", ylim=(-0.03, 1.03))
    axes[2].legend()
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    return figure


def save_figure(examined: Examined, path: Path) -> None:
    """Write the figure as PNG.

    Raises:
        InputError: If it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        diagnosis_figure(examined).savefig(path, format="png")
    except OSError as error:
        raise InputError(
            f"the figure cannot be written to {path}: {error.strerror}", "type --figure FILE.png"
        ) from None


_BORN_DEAD_EXAMPLES = 128  # enough for the odds of a born-dead network, which hardly depend on the inputs


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
    normed = any(block.norm_row.over is not None for block in blocks)
    predictions = predict(mlp, measured.input_second_moment)
    plain = predict(mlp, measured.input_second_moment, ignore_norm=True) if normed else []
    scale = None
    if len(blocks) > 1 and not normed:
        scale = depth_scale(blocks[-1].activation, *variances(blocks[-1].linear))
    born_dead = None
    if blocks and all(block.activation_row.can_die for block in blocks):
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
