"""A network judged before it trains: what is measured beside what theory expects, and remedies tried out."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from project.cli import CLI
from project.datamodule import ImageDataModule
from project.errors import InputError
from project.inspection import flat_settings, probe_examples
from project.judgement import (
    DEAD_FRACTION,
    EXPLODING_RATIO,
    SATURATED_FRACTION,
    VANISHING_RATIO,
    Diagnosis,
    Finding,
    combined_remedy,
    diagnose,
)
from project.module import MLPModule
from project.theory import initial_loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRIAL_EXAMPLES = 10_000
"""Most training examples of a remedy's trial."""
TRIAL_EPOCHS = 3


@dataclass(frozen=True)
class Examined:
    """A network and its diagnosis.

    Args:
        module: The network as it was initialized.
        diagnosis: What was measured and expected, and the findings.
        chance_loss: Loss of uniform guesses, for cross-entropies; else None.
    """

    module: MLPModule
    diagnosis: Diagnosis
    chance_loss: float | None


def examine(config: Any) -> Examined:
    """Build the network that the settings describe, push validation examples through it, and judge it.

    Args:
        config: Settings as the command line gives them, by their names: seed_everything, model and data.
    """
    model, data = dict(config["model"]), dict(config["data"])
    datamodule = ImageDataModule(**data, task=model["task"], seed=config["seed_everything"])
    module = MLPModule(datamodule.spec, datamodule.normalization, **model)
    inputs, targets = probe_examples(module, datamodule)
    # what uniform guesses cost is known for the loss of one decision, not for one loss per class
    usual_loss = "binary_cross_entropy" if model["task"] == "binary" else "cross_entropy"
    with_chance = model["task"] != "regression" and model["loss"] in ("auto", "cross_entropy", usual_loss)
    chance_loss = initial_loss(len(module.spec.class_names)) if with_chance else None
    settings = flat_settings({"model": model, "data": data})
    found = diagnose(module.mlp, inputs, targets, module.loss, settings, chance_loss)
    return Examined(module, found, chance_loss)


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


@dataclass(frozen=True)
class Trial:
    """A remedy that was tried.

    Args:
        flags: What was added to the settings; empty for the network as it is.
        accuracy: On validation after the trial's last epoch, in [0, 1]; None if the run failed.
        error: Why it failed.
    """

    flags: list[str]
    accuracy: float | None
    error: str = ""


def try_remedies(arguments: Sequence[str], findings: Sequence[Finding]) -> list[Trial]:
    """Train the network as it is and with each remedy for a few epochs; the best first.

    Args:
        arguments: The command line's settings.
        findings: Whose remedies are tried, one at a time and all together.
    """
    remedies: list[list[str]] = [[]]
    for flags in [*([flag] for finding in findings for flag in finding.remedy), combined_remedy(findings)]:
        if flags not in remedies:
            remedies.append(flags)
    trials = [_trial(arguments, flags) for flags in remedies]
    return sorted(trials, key=lambda trial: -1.0 if trial.accuracy is None else -trial.accuracy)


def _trial(arguments: Sequence[str], flags: list[str]) -> Trial:
    # imported late: only --suggest trains
    from project.training import train

    folder = tempfile.mkdtemp()
    words = [word for flag in flags for word in flag.split(maxsplit=1)]
    short = [
        f"--trainer.max_epochs={TRIAL_EPOCHS}",
        f"--run_root={folder}",
        "--run_name=trial",
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        "--diagnostics.enabled=false",
        "--patience=0",
    ]
    try:
        cli = CLI([*arguments, *words, *short])
        if cli.datamodule.num_train is None and len(cli.datamodule.splits["train"]) > TRIAL_EXAMPLES:
            cli = CLI([*arguments, *words, *short, "--run_name=short", f"--data.num_train={TRIAL_EXAMPLES}"])
        metrics = train(cli)
        return Trial(flags, metrics.get("validation/accuracy", metrics["test/accuracy"]))
    except InputError as error:
        return Trial(flags, None, error.cause)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trial_table(trials: Sequence[Trial]) -> Table:
    """Remedies by what they reached."""
    title = f"Remedies tried for {TRIAL_EPOCHS} epochs on up to {TRIAL_EXAMPLES:,} examples"
    table = Table("validation accuracy", "settings added", title=title, title_justify="left")
    for trial in trials:
        reached = f"{trial.accuracy:.1%}" if trial.accuracy is not None else f"failed: {trial.error}"
        table.add_row(reached, " ".join(trial.flags) or "(as it is)")
    return table


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
