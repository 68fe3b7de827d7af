"""Settings as plain data: nested by section, or flat by their flags' names."""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import NoneType
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from project.errors import InputError

Made = TypeVar("Made")
Settings = dict[str, Any]
"""Settings by their flags' names, such as `model.depth`."""
MIN_LIKENESS = 0.4
"""How alike two names must be, from 0 to 1, for one to be suggested in place of the other."""
_SHARE = ("at least 0 and less than 1", lambda x: 0 <= x < 1)
MAX_FACTOR = 1e6
"""The largest factor, rate or distance with which a network is tried."""
_POSITIVE = (f"positive and at most {MAX_FACTOR:g}", lambda x: 0 < x <= MAX_FACTOR)
# every comparison with NaN is false, so NaN is refused everywhere
RANGES: dict[str, tuple[tuple[str, Callable[[float], bool]], str]] = {
    "depth": (("0 or more hidden layers", lambda x: x >= 0), "2"),
    "init_scale": (_POSITIVE, "1.0, or --model.init zeros for weights of 0"),
    "init_bias": ((f"from -{MAX_FACTOR:g} to {MAX_FACTOR:g}", lambda x: abs(x) <= MAX_FACTOR), "0.1"),
    "dropout": (_SHARE, "0.2"),
    "label_smoothing": (_SHARE, "0.1"),
    "huber_delta": (_POSITIVE, "1.0"),
    "learning_rate": (_POSITIVE, "0.001"),
    "momentum": (_SHARE, "0.9"),
    "weight_decay": ((f"0 or more, and at most {MAX_FACTOR:g}", lambda x: 0 <= x <= MAX_FACTOR), "0.01"),
    "warmup_fraction": (_SHARE, "0.1"),
}
"""For each setting the range, in words and as a test, and the value that a refusal shows as an example."""


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
        settings: The dataclass; a field's type lists its choices, or a table in `CHOICES` does, which may grow.

    Raises:
        InputError: With the nearest of the choices.
    """
    check_given(f"{section}.", settings)
    tables: Mapping[str, Mapping[str, Any]] = getattr(settings, "CHOICES", {})
    for name, hint in get_type_hints(type(settings)).items():
        if get_origin(hint) is ClassVar:
            continue
        choices, value = list(tables.get(name, ())) or choices_of(hint), getattr(settings, name)
        for word in value if isinstance(value, list) else [value]:
            if choices and isinstance(word, str) and word not in choices:
                raise not_a_choice(f"{section}.{name}", word, choices)


def check_given(prefix: str, settings: object) -> None:
    """Raise an `InputError` if a dataclass of settings has None, YAML's null, where that is no value.

    Args:
        prefix: What stands before the settings' names, such as `model.`.
        settings: The dataclass.
    """
    for name, hint in get_type_hints(type(settings)).items():
        if get_origin(hint) is not ClassVar and getattr(settings, name) is None and NoneType not in get_args(hint):
            raise InputError(f"{prefix}{name} is null, but must have a value", f"leave {prefix}{name} out")


def check_numbers(**numbers: float) -> None:
    """Check some of the model's settings, given by their names, and raise an `InputError` for one out of range."""
    for name, value in numbers.items():
        (words, holds), example = RANGES[name]
        if not holds(value):
            what = f"model.{name} is {value:g}, but must be {words}"
            raise InputError(what, f"type for example --model.{name} {example}")


def check_width(width: int | Sequence[int], depth: int) -> None:
    """Raise an `InputError` if a hidden layer has no unit, or a list does not have one number for each layer."""
    if not isinstance(width, int) and len(width) != depth:
        example = f"--model.depth {len(width)}" if width else "--model.width 512"
        raise InputError(
            f"model.width lists {len(width)} layers, but model.depth is {depth}",
            f"type {example}, or one width per hidden layer",
        )
    if any(units < 1 for units in ([width] if isinstance(width, int) else width)):
        raise InputError(
            f"model.width is {width}, but every hidden layer needs at least 1 unit",
            "type for example --model.width 512",
        )


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


def with_keywords_of(settings: type) -> Callable[[type[Made]], type[Made]]:
    """Let a class that takes a dataclass's fields as keyword arguments list them in the signature that tools show."""

    def listed(cls: type[Made]) -> type[Made]:
        own = [p for p in inspect.signature(cls).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        known = {parameter.name for parameter in own}
        taken = [p for name, p in inspect.signature(settings).parameters.items() if name not in known]
        cls.__signature__ = inspect.Signature([*own, *taken])  # type: ignore[attr-defined]
        return cls

    return listed


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
