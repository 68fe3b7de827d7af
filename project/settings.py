"""Settings as plain data: nested by section, or flat by their flags' names."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from project.errors import InputError

Settings = dict[str, Any]
"""Settings by their flags' names, such as `model.depth`."""
MIN_LIKENESS = 0.4
"""How alike two names must be, from 0 to 1, for one to be suggested in place of the other."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings by their flags' names: {"model": {"depth": 2}} gives {"model.depth": 2}."""
    flat: Settings = {}
    for name, value in config.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def choices_of(hint: Any) -> list[str]:
    """The names that a type allows, also within a list or beside None; none if it names none."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return [str(part) for part in parts]
    return list(dict.fromkeys(choice for part in parts for choice in choices_of(part)))


def check_choices(section: str, settings: object) -> None:
    """Check that every name in a dataclass of settings is one of its choices, as the command line's parser does.

    Args:
        section: The settings' first name, such as `model`.
        settings: The dataclass; a field's type lists its choices.

    Raises:
        InputError: With the nearest of the choices.
    """
    for name, hint in get_type_hints(type(settings)).items():
        choices, value = choices_of(hint), getattr(settings, name)
        for word in value if isinstance(value, list) else [value]:
            if choices and isinstance(word, str) and word not in choices:
                raise not_a_choice(f"{section}.{name}", word, choices)


def not_a_choice(setting: str, value: str, choices: Sequence[str]) -> InputError:
    """The refusal of a value that is none of a setting's choices, with the one that was probably meant."""
    return InputError(
        f"{setting} is {value}, which is none of its choices",
        f"{did_you_mean(value, choices)}Choices: {', '.join(choices)}",
    )


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """`did you mean …? ` with the nearest of some names, or nothing."""
    nearest = difflib.get_close_matches(str(name), list(names), n=1, cutoff=MIN_LIKENESS)
    return f"did you mean {nearest[0]}? " if nearest else ""


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


def plain(value: Any) -> Any:
    """Copy nested settings as plain data: a mapping becomes a dict, and an object, such as a device, its text."""
    if isinstance(value, Enum):
        return value.name  # what the parser takes
    if isinstance(value, Mapping) or hasattr(value, "as_dict"):
        return {name: plain(item) for name, item in (value if isinstance(value, Mapping) else vars(value)).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def as_list(value: Any) -> list[Any]:
    """A setting that may be one thing, several, or None, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def finite(value: Any) -> Any:
    """Copy nested plain data, with None in the place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
