"""Draw the figures of docs/diagnostics.md: each diagnostic of a healthy and of a sick network.

    python -m benchmarks.diagnostics_figures --data.root data

Trains seven networks of ten layers for two epochs on 10,000 pictures of FashionMNIST, half a minute, and
writes docs/images/diagnostics.png and docs/images/gradients_by_layer.png from the numbers that TensorBoard shows.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from project.diagnosis.tensorboard import pictures
from project.runs.build import build_run
from project.runs.command import setup_console
from project.runs.parser import parse_settings
from project.runs.train import train

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COMMON = {
    "model.depth": 10,
    "model.width": 128,
    "model.norm": "none",
    "model.dropout": 0,
    "model.schedule": "constant",
    "model.learning_rate": 0.001,
    "data.num_train": 10_000,
    "data.batch_size": 128,
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
    "patience": 0,
    "diagnostics.every_n_steps": 10,
}
ARMS: dict[str, dict[str, Any]] = {
    "relu": {"model.activation": "relu"},
    "relu, init × 0.5": {"model.activation": "relu", "model.init_scale": 0.5},
    "sigmoid": {"model.activation": "sigmoid"},
    "tanh": {"model.activation": "tanh"},
    "tanh, init × 5": {"model.activation": "tanh", "model.init_scale": 5},
    "relu, rate 0.03": {"model.activation": "relu", "model.learning_rate": 0.03},
    "relu, rate 0.00001": {"model.activation": "relu", "model.learning_rate": 0.00001},
}
HEALTHY, SICK, OTHER = "tab:blue", "tab:red", "tab:orange"


@dataclass(frozen=True)
class Seen:
    """What a run's probes measured.

    Args:
        scalars: Each tag has its steps and its values.
        steps: The gradient norms were measured at these steps.
        gradient_norms: At each step, every layer has one.
    """

    scalars: dict[str, tuple[list[int], list[float]]]
    steps: list[int]
    gradient_norms: list[list[float]]

    def by_layer(self, quantity: str, probe: int) -> list[float]:
        """The value of every layer that has one, in order, at the first (0) or the last (-1) probe."""
        return [self.scalars[tag][1][probe] for tag in self._tags(quantity)]

    def over_steps(self, quantity: str) -> "tuple[list[int], np.ndarray[Any, Any]]":
        """Steps, and values (layers, steps)."""
        tags = self._tags(quantity)
        return self.scalars[tags[0]][0], np.array([self.scalars[tag][1] for tag in tags])

    def _tags(self, quantity: str) -> list[str]:
        return sorted(tag for tag in self.scalars if tag.startswith(f"layer_{quantity}/"))


def run_arm(name: str, settings: dict[str, Any], flags: list[str], folder: Path) -> Seen:
    """Train one network and read the scalars that it wrote for TensorBoard."""
    print(f"{name} …", flush=True)
    arguments = [f"--{key}={value}" for key, value in (COMMON | settings).items()]
    run = build_run(parse_settings([*arguments, f"--run_root={folder}", *flags]))
    train(run)
    assert run.observers is not None
    assert run.folder is not None
    events = EventAccumulator(str(run.folder), size_guidance={"scalars": 0}).Reload()
    scalars = {}
    for tag in events.Tags()["scalars"]:
        found = events.Scalars(tag)
        steps, values = [event.step for event in found], [event.value for event in found]
        quantity, is_log, layer = tag.partition("_log10")
        scalars[quantity + layer] = (steps, [10**value for value in values] if is_log else values)
    return Seen(scalars, run.observers.diagnostics.steps, run.observers.diagnostics.gradient_norms)


def draw_diagnostics(seen: dict[str, Seen]) -> Figure:
    """Draw eight panels, with the healthy network in blue."""
    figure = Figure(figsize=(14, 6.6), dpi=85, layout="constrained")
    axes = figure.subplots(2, 4)

    def by_layer(
        axis: Axes, quantity: str, title: str, arms: tuple[str, str], scale: str = "linear", probe: int = -1
    ) -> None:
        for name, color in zip(arms, (HEALTHY, SICK), strict=True):
            values = seen[name].by_layer(quantity, probe)
            axis.plot(range(1, len(values) + 1), values, "o-", color=color, label=name, markersize=4)
        axis.set(title=title, xlabel="layer", yscale=scale)
        axis.legend(fontsize=8)

    vanishing, saturated, shrinking = ("relu", "sigmoid"), ("tanh", "tanh, init × 5"), ("relu", "relu, init × 0.5")
    by_layer(axes[0, 0], "gradient_norm", "gradient norm (pre-activations)", vanishing, "log")
    by_layer(axes[0, 1], "weight_gradient_norm", "gradient norm (weights)", vanishing, "log")
    by_layer(axes[0, 2], "pre_activation_sd", "pre-activation sd", saturated, "log")
    by_layer(axes[0, 3], "saturated_fraction", "saturated outputs", saturated)
    by_layer(axes[1, 0], "activation_sd", "activation sd, before training", shrinking, "log", probe=0)
    by_layer(axes[1, 1], "effective_rank", "effective rank", vanishing, "log")

    def over_steps(axis: Axes, quantity: str, title: str, arms: dict[str, str]) -> None:
        for name, color in arms.items():
            steps, values = seen[name].over_steps(quantity)
            hidden = values[:10]
            axis.plot(steps, hidden.mean(0), color=color, label=name)
            axis.fill_between(steps, hidden.min(0), hidden.max(0), color=color, alpha=0.15, linewidth=0)
        axis.set(title=f"{title}: mean, range", xlabel="step")
        axis.legend(fontsize=8)

    over_steps(axes[1, 2], "dead_fraction", "silent units", {"relu": HEALTHY, "relu, rate 0.03": SICK})
    rates = {"relu, rate 0.03": SICK, "relu": HEALTHY, "relu, rate 0.00001": OTHER}
    over_steps(axes[1, 3], "update_ratio", "update / weight", rates)
    axes[1, 3].set_yscale("log")
    return figure


def draw_gradients(seen: dict[str, Seen]) -> Figure:
    """The heat maps of the Images tab, of relu and of sigmoid."""
    figure = Figure(figsize=(12, 4.3), dpi=90, layout="constrained")
    for axis, name in zip(figure.subplots(1, 2), ("relu", "sigmoid"), strict=True):
        axis.imshow(pictures.to_picture(pictures.gradient_figure(seen[name].steps, seen[name].gradient_norms)))
        axis.set_title(f"{'healthy' if name == 'relu' else 'sick'}: {name}")
        axis.set_axis_off()
    return figure


def main() -> None:
    setup_console()
    with tempfile.TemporaryDirectory() as folder:
        seen = {name: run_arm(name, settings, sys.argv[1:], Path(folder)) for name, settings in ARMS.items()}
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, figure in (("diagnostics", draw_diagnostics(seen)), ("gradients_by_layer", draw_gradients(seen))):
        figure.savefig(IMAGES / f"{name}.png")
        print(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
