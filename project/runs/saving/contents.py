"""What the files of a run folder contain, and the check that they do: a run folder may be damaged, or a stranger's.

What is documented of a file has the type that the program relies on, or the file is refused with the name of what is
wrong; what is not documented is ignored.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from project.errors import InputError
from project.runs.saving.files import read_json
from project.task import DataSpec

Shape = Any
"""A type, several types, [the shape of each item], or a mapping from names to shapes.

In a mapping, */x is the shape of every name that ends in /x, and * that of every name that is not listed.
"""
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}
_WORDS |= {list: "a list", dict: "a mapping", tuple: "a list"}
NUMBER, SCORE = (int, float), (int, float, type(None))
METRICS: Shape = {
    "status": str,
    "epochs": int,
    "steps": int,
    "train_seconds": NUMBER,
    "examples_per_second": NUMBER,
    "parameters": int,
    "best": {"epoch": int, "*": SCORE},
    "verdict": str,
    "findings": [{"code": str, "severity": str, "sentence": str, "remedy": [str]}],
    "explanation": {},
    "*/class_accuracy": {"*": SCORE},
    "*/confusion_matrix": [[int]],
    "*": SCORE,
}
"""metrics.json; null stands for a number that is not finite."""
MAX_COUNT = 2**53
"""More examples than any test set has; beyond it a float does not count by ones."""
PROVENANCE: Shape = {
    "command": str,
    "started": str,
    "git_commit": (str, type(None)),
    "git_diff": (str, type(None)),
    "versions": {"*": str},
    "hardware": {
        "system": str,
        "processor": str,
        "cores": (int, type(None)),
        "torch_threads": int,
        "gpus": [str],
    },
    "extensions": {"*": str},
    "seeds": {"*": int},
    "data": {"name": str, "source": str, "sha256": {"*": str}, "split_sha256": {"*": str}},
    "resumed": [{}],
}
"""provenance.json."""


def read_metrics(folder: Path) -> dict[str, Any]:
    """The content of a run's metrics.json; empty if there is none.

    Raises:
        InputError: If the file is damaged, or something in it does not have its type.
    """
    path = folder / "metrics.json"
    metrics = read_json(path)
    check_shape(path, metrics, METRICS)
    if "test/loss" in metrics:
        _require(path, metrics, ("status", "epochs", "steps", "train_seconds"))
    if metrics.get("best"):
        _require(path, metrics["best"], ("epoch",))
    for finding in metrics.get("findings", []):
        _require(path, finding, ("code", "severity", "sentence", "remedy"))
    for name, confusion in metrics.items():
        if name.endswith("/confusion_matrix"):
            classes = metrics.get(name.replace("confusion_matrix", "class_accuracy"), {})
            wrong = any(len(row) != len(classes) for row in (confusion, *confusion))
            if wrong or any(not 0 <= count < MAX_COUNT for row in confusion for count in row):
                raise InputError(
                    f"{path}: {name} has not one row and one column for each of the {len(classes)} classes",
                    "restore the file that the run wrote",
                )
    return metrics


def read_provenance(folder: Path) -> dict[str, Any]:
    """The content of a run's provenance.json; empty if there is none.

    Raises:
        InputError: If the file is damaged, or something in it does not have its type.
    """
    path = folder / "provenance.json"
    origin = read_json(path)
    check_shape(path, origin, PROVENANCE)
    return origin


def check_spec(path: Path, spec: Mapping[str, Any]) -> None:
    """Check that a checkpoint's spec can be a `DataSpec`: every field in its range, and a name for each class.

    Raises:
        InputError: If it cannot.
    """
    _require(path, spec, ("height", "width", "num_outputs", "task", "class_names"))
    unknown = spec.keys() - DataSpec.__dataclass_fields__.keys()
    num_classes = {"multiclass": spec["num_outputs"], "binary": 2, "regression": 0}.get(spec["task"])
    sizes = [spec["height"], spec["width"], spec["num_outputs"], spec.get("channels", 1)]
    if unknown or num_classes != len(spec["class_names"]) or min(sizes) < 1:
        raise InputError(f"{path}: its spec describes no data", "use a checkpoint that the run wrote")


def check_shape(path: Path, content: Any, shape: Shape, name: str = "") -> None:
    """Check that plain data have the types that are documented.

    Args:
        path: The file that they are from, for the refusal.
        content: The data.
        shape: What they must be.
        name: Where in the file they are.

    Raises:
        InputError: With the first value that is something else.
    """
    kinds: Any = dict if isinstance(shape, dict) else (list, tuple) if isinstance(shape, list) else shape
    # for Python, true is a whole number
    if not isinstance(content, kinds) or (isinstance(content, bool) and kinds is not bool):
        expected = " or ".join(map(_word, kinds if isinstance(kinds, tuple) else (kinds,)))
        found = _word(type(content))
        raise InputError(
            f"{path}: {name or 'its content'} is {found}, but must be {expected}", "restore the file that the run wrote"
        )
    if isinstance(shape, list):
        for item in content:
            check_shape(path, item, shape[0], f"an item of {name}")
    elif isinstance(shape, dict):
        for key, item in content.items():
            if shape and not isinstance(key, str):
                raise InputError(
                    f"{path}: {name or 'its content'} has {_word(type(key))} as a name",
                    "restore the file that the run wrote",
                )
            last = f"*/{str(key).rpartition('/')[2]}"
            expected_item = next((shape[one] for one in (key, last, "*") if one in shape), None)
            if expected_item is not None:
                check_shape(path, item, expected_item, f"{name}.{key}" if name else str(key))


def _require(path: Path, content: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name not in content:
            raise InputError(f"{path} has no {name}", "restore the file that the run wrote")


def _word(kind: type) -> str:
    return _WORDS.get(kind, f"a {kind.__name__.lower()}")
