"""YAML and JSON as plain data, within bounds: whatever a file holds, reading it is quick and takes little memory.

A text of a few lines can stand for billions of values (aliases of aliases), can be nested so deep that a program ends
without a word, and can give one name two values, of which a usual reader silently takes the last.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from project.errors import InputError

MAX_BYTES = 16 * 2**20
MAX_NODES = 100_000
"""Values, with what aliases stand for counted each time. The largest config.yaml of the project has about 200."""
MAX_JSON_NODES = 2_000_000
"""JSON is read faster, and a confusion matrix of a thousand classes has a million numbers."""
MAX_DEPTH = 50
MAX_DIGITS = 30
"""Digits of a whole number: more than any setting has, and few enough for it to become a float."""
_KNOWN_TAGS = ("bool", "float", "int", "map", "null", "seq", "str")
_TAG = "tag:yaml.org,2002:"
_POWER = re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+")


class DataError(yaml.YAMLError):
    """Data that are not read, and why, in words that can follow the name of a file."""


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader within bounds; names, and what looks like a time, as 1:30 or 2001-01-01, are texts."""

    def __init__(self, text: str) -> None:
        _check_events(text)
        super().__init__(text)

    def resolve(self, kind: type, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)
        if kind is not yaml.ScalarNode:
            return tag
        is_time = tag == f"{_TAG}timestamp" or (tag in (f"{_TAG}int", f"{_TAG}float") and ":" in value)
        return f"{_TAG}str" if is_time else tag

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for name, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(name, yaml.ScalarNode) and name.tag.removeprefix(_TAG) in ("bool", "float", "int", "null"):
                name.tag = f"{_TAG}str"  # an arm may be called no
        return super().construct_mapping(node, deep)


def _whole_in_yaml(loader: Any, node: Any) -> int:
    digits = loader.construct_scalar(node)
    if len(digits) > MAX_DIGITS or ":" in digits:
        raise DataError(f"has {digits[:40]!r} for a whole number, in line {node.start_mark.line + 1}")
    return int(loader.construct_yaml_int(node))


_PlainLoader.add_constructor(f"{_TAG}int", _whole_in_yaml)


class ValueLoader(_PlainLoader):
    """The same for a setting's value as it is typed: 1e-4, for YAML a text, is a number."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)
        is_power = tag == f"{_TAG}str" and implicit[0] and _POWER.fullmatch(value)
        return f"{_TAG}float" if is_power else tag


def parse_yaml(text: str) -> Any:
    """Read a YAML text as plain data.

    Raises:
        DataError: If it is not YAML, has a name twice, or stands for more values than a file of settings can have.
    """
    _check_size(len(text))
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except DataError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", in line {mark.line + 1}" if mark else ""
        raise DataError(f"is not YAML: {' '.join(str(error.problem or error.context).split())[:200]}{where}") from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:  # wrong tags, odd characters
        raise DataError(f"is not YAML: {' '.join(str(error).split())[:200]}") from None


def parse_json(text: str) -> Any:
    """Read a JSON text; NaN and infinity are taken too, as Python writes them.

    Raises:
        DataError: If it is not JSON, has a name twice, or has more values than a file of results can have.
    """
    _check_size(len(text))
    if text.count(",") + text.count("[") + text.count("{") > MAX_JSON_NODES:
        raise DataError(f"has more than {MAX_JSON_NODES:,} values")
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error.msg}, in line {error.lineno}") from None
    except RecursionError:
        raise DataError(f"is nested more than {MAX_DEPTH} deep") from None
    except _TwiceError as twice:
        name = str(twice)
        lines = [text.count("\n", 0, m.start()) + 1 for m in re.finditer(re.escape(json.dumps(name)) + r"\s*:", text)]
        raise DataError(f"names {name[:80]!r} twice, see lines {', '.join(map(str, lines[:5]))}") from None
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [item for part in level for item in _parts(part)]
    if level:
        raise DataError(f"is nested more than {MAX_DEPTH} deep")
    return content


def decode(content: bytes) -> str:
    """The text of a file that is about to be parsed.

    Raises:
        DataError: If it is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"is no text in UTF-8: its byte {error.start} is none, in line {line}") from None


def refusal(path: object, error: DataError) -> InputError:
    """The refusal of a file that could not be read as data."""
    return InputError(f"{path} {error}", "fix the file, or name another one")


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"has more than {MAX_BYTES // 2**20} MiB")


def _parts(value: Any) -> Sequence[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


class _TwiceError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _TwiceError(name)
            seen.add(name)
    return found


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise DataError(f"has a whole number of {len(digits):,} digits")
    return int(digits)


class _Open:
    """A list or mapping whose end has not come yet.

    Attributes:
        size: Values in it so far, itself included.
        names: The line of each name; None for a list.
        name_next: Whether what comes next is a name.
    """

    def __init__(self, event: Any) -> None:
        self.anchor, self.size = event.anchor, 1
        self.names: dict[str, int] | None = {} if isinstance(event, yaml.MappingStartEvent) else None
        self.name_next = True


def _check_events(text: str) -> None:
    """Walk through a YAML text without building anything.

    Raises:
        DataError: If it stands for too many values, is nested too deep, or has a name twice or a tag of something else.
    """
    sizes: dict[str, int] = {}  # what each anchor stands for
    open_: list[_Open] = []
    total = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        assert event.start_mark is not None
        line = event.start_mark.line + 1
        size, ended = 0, None
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise DataError(f"has an alias of nothing, or of what it is in itself, in line {line}")
            size = sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            _check_tag(event.tag, line)
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = open_.pop()
            if ended.anchor:
                sizes[ended.anchor] = ended.size
        elif isinstance(event, yaml.CollectionStartEvent):
            _check_tag(event.tag, line)
        total += size or isinstance(event, yaml.CollectionStartEvent)
        if total > MAX_NODES:
            raise DataError(f"stands for more than {MAX_NODES:,} values, in line {line}")
        if open_ and not isinstance(event, yaml.CollectionStartEvent):
            parent = open_[-1]
            parent.size += ended.size if ended else size
            if parent.names is not None:
                if parent.name_next and isinstance(event, yaml.ScalarEvent):
                    if event.value in parent.names:
                        lines = f"{parent.names[event.value]} and {line}"
                        raise DataError(f"names {event.value[:80]!r} twice, in lines {lines}")
                    parent.names[event.value] = line
                parent.name_next = not parent.name_next
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append(_Open(event))
            if len(open_) > MAX_DEPTH:
                raise DataError(f"is nested more than {MAX_DEPTH} deep, in line {line}")


def _check_tag(tag: str | None, line: int) -> None:
    if tag and tag != "!" and tag.removeprefix(_TAG) not in _KNOWN_TAGS:
        raise DataError(f"has {tag[:80]}, which is no plain data, in line {line}")
