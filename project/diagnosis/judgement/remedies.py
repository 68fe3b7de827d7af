"""What would help: settings that differ from the run's own."""

from collections.abc import Mapping
from typing import Any

_USUAL_SCALES = {"model.init_scale": 1.0, "model.init_bias": 0.0}


def changes(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Flags for those of the wanted settings that are not so already."""
    missing = object()
    return [
        f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"
        for name, value in wanted.items()
        if settings.get(name, missing) != value
    ]


def scaled_learning_rate(settings: Mapping[str, Any], factor: float) -> list[str]:
    rate = settings.get("model.learning_rate")
    return [f"--model.learning_rate {(rate if isinstance(rate, int | float) else 1e-3) * factor:.3g}"]


def usual_init(settings: Mapping[str, Any]) -> dict[str, Any]:
    usual: dict[str, Any] = {"model.init": "auto"}
    if settings.get("model.activation") == "relu" and settings.get("model.init") == "kaiming_normal":
        usual = {}  # auto is the same
    return usual | {name: value for name, value in _USUAL_SCALES.items() if name in settings}


def norm_remedy(settings: Mapping[str, Any]) -> dict[str, str]:
    return {} if settings.get("model.norm", "none") != "none" else {"model.norm": "batch"}


def norm_name(settings: Mapping[str, Any]) -> str:
    return f"{settings.get('model.norm', 'the')} norm"
