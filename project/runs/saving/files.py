"""Files that are written completely or not at all, and refused with a clear reason if they cannot be read."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from project.errors import InputError
from project.inside import open_inside
from project.plain_data import MAX_BYTES, DataError, decode, parse_json, parse_yaml, refusal
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


def write_text(path: Path, text: str, folder: Path | None = None) -> None:
    """Write a text completely or not at all; `folder` is where links begin to matter, see `write_bytes`."""
    # a name that is not UTF-8 has parts that no text can have
    write_bytes(path, text.encode(errors="backslashreplace"), folder)


def write_bytes(path: Path, content: bytes | memoryview, folder: Path | None = None) -> None:
    """Write a file completely or not at all.

    Args:
        path: The file.
        content: Its bytes.
        folder: The run folder or study's folder that the file is in, if it is not the file's own: no link is followed
            inside it. Missing folders between the two are made.
    """
    part = write_part(path, content, folder)
    try:
        replace_durably(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_part(path: Path, content: bytes | memoryview, folder: Path | None = None) -> Path:
    """Write a file's content under another name, without following links; it gets its name by `replace_durably`.

    Args:
        path: The file that it becomes.
        content: Its bytes.
        folder: As for `write_bytes`.
    """
    part = part_of(path)
    folder = folder or path.parent
    with open_inside(folder, part.relative_to(folder).as_posix(), "xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:  # a full disk
            part.unlink(missing_ok=True)
            raise
    return part


def part_of(path: Path) -> Path:
    """Where a file is written before it gets its name: in the same folder, as no rename leaves its file system."""
    return path.with_name(path.name + ".part")


def replace_durably(part: Path, path: Path) -> None:
    """Replace a file by a finished one, so that after a crash one of the two is there and complete."""
    flush_file(part)
    part.replace(path)
    flush_folder(path.parent)


def read_json(path: Path, folder: Path | None = None) -> dict[str, Any]:
    """Read the mapping in a JSON file; it is empty if there is no such file.

    Args:
        path: The file; it may not be a link.
        folder: The run folder or study's folder that it is in, if that is not the file's own.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        with open_inside(folder or path.parent, path.relative_to(folder or path.parent).as_posix()) as file:
            content = parse_json(decode(file.read(MAX_BYTES + 1)))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "restore the file, or delete it") from None
    except DataError as error:
        raise refusal(path, error) from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no mapping", "restore the file, or delete it")
    return content


def read_yaml(path: Path, is_typed: bool = False) -> dict[str, Any]:
    """Read the mapping in a YAML file, as plain data.

    Args:
        path: The file.
        is_typed: Whether somebody has typed its name, so that it may be a link or a pipe. One in a run folder may not.

    Raises:
        InputError: If the file is missing, is not YAML, or holds no mapping.
    """
    try:
        with path.open("rb") if is_typed else open_inside(path.parent, path.name) as file:
            content = parse_yaml(decode(file.read(MAX_BYTES + 1)))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "name a YAML file of settings") from None
    except DataError as error:
        raise refusal(path, error) from None
    if not isinstance(content, dict):
        kinds = {list: "a list", str: "a text", type(None): "nothing"}
        found = kinds.get(type(content), f"the value {content}")
        raise InputError(
            f"{path} holds {found}, but settings are expected", "write one setting per line, such as model.depth: 3"
        )
    return content
