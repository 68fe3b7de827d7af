"""Files that are written completely or not at all, and refused with a clear reason if they cannot be read."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from project.errors import InputError
from project.runs.saving.platform_differences import flush_file, flush_folder
from project.settings import finite


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain data completely or not at all; NaN and infinity, which JSON does not have, become null."""
    text = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # a list of numbers, such as a row of the confusion matrix, goes on one line
    text = re.sub(
        r"\[[\s\d.,eE+-]*\]", lambda match: re.sub(r"\s+", " ", match[0]).replace("[ ", "[").replace(" ]", "]"), text
    )
    write_text(path, text)


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write a run's epochs, each as one row of a CSV file, completely or not at all; epochs count from 1."""
    rows: list[dict[str, Any]] = [
        {**record, "epoch": int(record["epoch"]) + 1, "steps": int(record["steps"])} for record in history
    ]
    names = dict.fromkeys(name for row in rows for name in row) or ("epoch", "steps")
    text = io.StringIO()
    table = csv.DictWriter(text, list(names), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text completely or not at all."""
    part = part_of(path)
    try:
        part.write_text(text, encoding="utf-8")
        replace_durably(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def part_of(path: Path) -> Path:
    """Where a file is written before it gets its name: in the same folder, as no rename leaves its file system."""
    return path.with_name(path.name + ".part")


def replace_durably(part: Path, path: Path) -> None:
    """Replace a file by a finished one, so that after a crash one of the two is there and complete."""
    flush_file(part)
    part.replace(path)
    flush_folder(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """Read the mapping in a JSON file; it is empty if there is no such file.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", "restore the file, or delete it") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no mapping", "restore the file, or delete it")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file, as plain data.

    Raises:
        InputError: If the file is missing, is not YAML, or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "name a YAML file of settings") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path} is not YAML: {why[:300]}", "fix the file, or name another one") from None
    if not isinstance(content, dict):
        kinds = {list: "a list", str: "a text", type(None): "nothing"}
        found = kinds.get(type(content), f"the value {content}")
        raise InputError(
            f"{path} holds {found}, but settings are expected", "write one setting per line, such as model.depth: 3"
        )
    return content
