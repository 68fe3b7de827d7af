"""Settings as plain data: nested by section, or flat by their flags' names."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their flags' names: {"model": {"depth": 2}} gives {"model.depth": 2}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


Settings = dict[str, Any]
"""Settings by their flags' names, such as `model.depth`."""


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """`did you mean …? ` with the nearest of some names, or nothing."""
    nearest = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}? " if nearest else ""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings by their flags' names: {"model": {"depth": 2}} gives {"model.depth": 2}."""
    flat: Settings = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def nest(settings: Settings) -> dict[str, Any]:
    """The reverse of `flatten`, as the command line's parser takes it."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, last = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return nested


def settings_yaml(settings: Settings) -> str:
    """Settings as YAML that `train.py --config` accepts."""
    return str(yaml.safe_dump(nest(settings), sort_keys=False))
