"""What would help: settings that differ from the run's own."""

from collections.abc import Mapping
from typing import Any

from project.network.activations import ACTIVATIONS, Activation
from project.network.norms import NORMS, Norm
from project.network.optimization.schedules import SCHEDULES, Schedule

RELU = {"model.activation": "relu", "model.init": "kaiming_normal"}
NORMALIZED_INPUTS = ["--data.normalization standardize"]
_USUAL_SCALES = {"model.init_scale": 1.0, "model.init_bias": 0.0}


def changes(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Flags for those of the wanted settings that the run does not have already."""
    missing = object()
    return [
        f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"
        for name, value in wanted.items()
        if settings.get(name, missing) != value
    ]


def scaled_learning_rate(settings: Mapping[str, Any], factor: float) -> list[str]:
    rate = settings.get("model.learning_rate")
    return [f"--model.learning_rate {(rate if isinstance(rate, int | float) else 1e-3) * factor:.3g}"]


def activation_of(settings: Mapping[str, Any]) -> Activation | None:
    """The row of the run's activation; None where the settings do not name it."""
    return ACTIVATIONS.get(settings.get("model.activation", ""))


def norm_of(settings: Mapping[str, Any]) -> Norm:
    """The row of the run's norm, that of `none` where the settings do not name it."""
    return NORMS[settings.get("model.norm", "none")]


def schedule_of(settings: Mapping[str, Any]) -> Schedule:
    """The row of the run's schedule, that of `constant` where the settings do not name it."""
    return SCHEDULES[settings.get("model.schedule", "constant")]


def usual_init(settings: Mapping[str, Any]) -> dict[str, Any]:
    activation = activation_of(settings)
    same = activation is not None and settings.get("model.init") == activation.init  # auto would change nothing
    scales = {name: value for name, value in _USUAL_SCALES.items() if name in settings}
    return scales if same else {"model.init": "auto"} | scales


def norm_remedy(settings: Mapping[str, Any]) -> dict[str, str]:
    return {"model.norm": "batch"} if norm_of(settings).over is None else {}


def norm_remedy_flags(settings: Mapping[str, Any]) -> list[str]:
    """The flag that gives the network a norm; none where it has one."""
    return changes(settings, norm_remedy(settings))
