"""Files that are written whole or not at all, and read with a clear refusal."""

import json
import math
import re
from pathlib import Path
from typing import Any

import yaml

from project.errors import InputError
from project.runs.saving.platform_differences import flush_file, flush_folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain data whole or not at all; NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # a list of numbers, such as a row of the confusion matrix, goes on one line
    text = re.sub(
        r"\[[\s\d.,eE+-]*\]", lambda match: re.sub(r"\s+", " ", match[0]).replace("[ ", "[").replace(" ]", "]"), text
    )
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    part = part_of(path)
    try:
        part.write_text(text, encoding="utf-8")
        replace_durably(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def part_of(path: Path) -> Path:
    """Where a file is written before it takes its place: beside it, as a rename works within one file system alone."""
    return path.with_name(path.name + ".part")


def replace_durably(part: Path, path: Path) -> None:
    """Put a finished file in the place of another, so that after a crash there is one or the other, and whole."""
    flush_file(part)
    part.replace(path)
    flush_folder(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty if there is no such file.

    Raises:
        InputError: If it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", "restore the file, or delete it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no mapping", "restore the file, or delete it")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping, read as plain data.

    Raises:
        InputError: If it is missing or no such file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "name a YAML file of settings") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path} is not YAML: {why[:300]}", "mend the file, or name another") from None
    if not isinstance(content, dict):
        kinds = {list: "a list", str: "a text", type(None): "nothing"}
        found = kinds.get(type(content), f"the value {content}")
        raise InputError(
            f"{path} holds {found}, but settings are expected", "write one setting per line, such as model.depth: 3"
        )
    return content


def finite(value: Any) -> Any:
    """Nested plain data in which None stands for the NaN and the infinity that JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
