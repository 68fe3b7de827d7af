"""Your own files that add rows to the project's tables: `--extensions my_file.py`, once for each file.

A file is imported before the settings are read, under its own name without .py, so that a setting that names a class
can say `my_file.MyCallback`. It adds to a table as the project's own modules do:

    from project.network.activations import ACTIVATIONS, Activation
    ACTIVATIONS["snake"] = Activation(build=…)

docs/adapt.md shows a row of every table. A run folder records the files' hashes and never imports them by itself.
"""

import hashlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from project.errors import InputError

log = logging.getLogger("project")

FLAG = "--extensions"
TABLES = {
    "NETWORKS": "project.network.networks",
    "ACTIVATIONS": "project.network.activations",
    "INITIALIZERS": "project.network.initializers",
    "NORMS": "project.network.norms",
    "LOSSES": "project.network.optimization.losses",
    "OPTIMIZERS": "project.network.optimization.optimizers",
    "SCHEDULES": "project.network.optimization.schedules",
    "SOURCES": "project.data.sources.table",
    "DIAGNOSTICS": "project.diagnosis.measurement.quantities",
}
"""Each table's name, and the module that it is in; none of them imports torch."""
_INHERITED = "MLP_TEMPLATE_EXTENSIONS"
"""The environment variable that tells worker processes which files this process has loaded."""
_loaded: dict[Path, str] = {}


def loaded_extensions() -> dict[str, str]:
    """The SHA-256 of each file that was loaded, by its name."""
    return {path.name: digest for path, digest in _loaded.items()}


def extension_flags() -> list[str]:
    """The flags that load, in another command, what was loaded here."""
    return [word for path in _loaded for word in (FLAG, str(path))]


def load_named_extensions(args: Sequence[str]) -> list[str]:
    """Load the files that `--extensions` names, and give the arguments that are left.

    Raises:
        InputError: If a file cannot be read, raises an error, or takes a name that a table has already.
    """
    left: list[str] = []
    words = iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != FLAG:
            left.append(word)
            continue
        file = value if equals else next(words, "")
        if not file or file.startswith("--"):
            raise InputError(f"{FLAG} names no file", f"type for example {FLAG} my_file.py")
        load_extension(Path(file))
    return left


def load_inherited_extensions() -> None:
    """Load, in a worker process, what the process that started it has loaded."""
    for file in filter(None, os.environ.get(_INHERITED, "").split(os.pathsep)):
        load_extension(Path(file))


def load_extension(path: Path) -> None:
    """Import a file that may add rows to the project's tables; one that was loaded already is not imported again.

    Raises:
        InputError: If the file cannot be read, raises an error, or takes a name that a table has already.
    """
    path = path.expanduser().resolve()
    if path in _loaded:
        return
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", f"name a Python file after {FLAG}") from None
    name = path.stem
    if not name.isidentifier() or path.suffix != ".py":
        raise InputError(f"{path.name} is no name of a Python module", f"rename it, for example to my_{name}.py")
    found = None if name in sys.modules else importlib.util.find_spec(name)
    # where the file's own folder is on Python's path, what is found is the file itself
    if name in sys.modules or (found is not None and (not found.origin or Path(found.origin).resolve() != path)):
        raise InputError(f"{path.name} has the name of a module that there is already", f"rename it to my_{name}.py")
    before = {table: dict(rows) for table, rows in _tables().items()}
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        _check_rows(path, before)
    except InputError:
        _undo(name, before)
        raise
    except (Exception, SystemExit) as error:
        _undo(name, before)
        raise _import_error(path, error) from error
    _loaded[path] = digest
    os.environ[_INHERITED] = os.pathsep.join(map(str, _loaded))


def check_extensions(folder: Path, origin: Mapping[str, Any], exactly: bool) -> None:
    """Check that what a run was made with is loaded.

    Args:
        folder: The run folder.
        origin: The content of its provenance.json.
        exactly: Whether the files must be unchanged, as for a resumption; else a change only gets a warning.

    Raises:
        InputError: If a file was not given, or has changed.
    """
    recorded, loaded = origin.get("extensions"), loaded_extensions()
    for file, digest in (recorded if isinstance(recorded, Mapping) else {}).items():
        if file not in loaded:
            # the name is a stranger's, so it is shown and never used
            raise InputError(f"{folder} was made with the extension {file!r}", f"add {FLAG} and the path of that file")
        if loaded[file] != digest:
            what = f"{file!r} has changed since {folder} was made: its SHA-256 was {digest!r}"
            if exactly:
                raise InputError(what, f"give the file as it was after {FLAG}")
            log.warning("%s", what)


def _tables() -> dict[str, MutableMapping[str, Any]]:
    return {name: getattr(import_module(module), name) for name, module in TABLES.items()}


def _check_rows(path: Path, before: Mapping[str, Mapping[str, Any]]) -> None:
    for table, rows in _tables().items():
        taken = [name for name, row in before[table].items() if rows.get(name) is not row]
        if taken:
            raise InputError(
                f"{path.name} replaces {taken[0]} in {table}, which earlier runs have used",
                "give the row a name of its own",
            )


def _undo(name: str, before: Mapping[str, Mapping[str, Any]]) -> None:
    """Leave nothing behind of a file that could not be loaded."""
    sys.modules.pop(name, None)
    for table, rows in _tables().items():
        rows.clear()
        rows.update(before[table])


def _import_error(path: Path, error: BaseException) -> InputError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    where = f" in line {line}" if line else ""
    return InputError(f"{path} cannot be imported: {type(error).__name__}{where}: {error}", "correct the file")
