"""Imports go one way: what a module may know of is fixed by its level."""

import ast
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {path.stem: path for path in (ROOT / "project").glob("*.py")}
SCRIPTS = {path.stem: path for path in (ROOT / "scripts").glob("*.py")}
ORDER: tuple[set[str], ...] = (
    {"errors"},
    {"activations", "initializers"},
    {"mlp", "diagnostics", "optimizers", "losses", "datasets", "transforms", "metrics"},
    {"datamodule"},
    {"module"},
    {"callbacks"},
    {"cli"},
    {"restore", "training"},
    {"predict", "export", "demo"},
)
"""The architecture, lowest first. A module imports only from levels below its own."""
WITHOUT_LIGHTNING = {
    "errors",
    "activations",
    "initializers",
    "mlp",
    "losses",
    "optimizers",
    "transforms",
    "metrics",
    "diagnostics",
    "datasets",
    "image_files",
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


@lru_cache
def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or within a function, by its full name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def of_project(path: Path) -> set[str]:
    """The project's own modules among them."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("project.")} & set(MODULES)


@lru_cache
def level(module: str, above: tuple[str, ...] = ()) -> int:
    """Longest way from a module down to one that imports none of the others."""
    assert module not in above, f"imports go round in a circle: {' → '.join([*above[above.index(module) :], module])}"
    return max((1 + level(other, (*above, module)) for other in of_project(MODULES[module])), default=0)


def test_there_is_something_to_test() -> None:
    assert {"mlp", "cli", "module", "datamodule"} <= set(MODULES)
    assert {"losses", "metrics", "transforms"} <= of_project(MODULES["module"])
    assert "train" in SCRIPTS


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_is_imported_by_one_that_it_imports(module: str) -> None:
    level(module)


def test_the_order_is_the_architectures() -> None:
    places = {name: place for place, names in enumerate(ORDER) for name in names}
    assert set(places) <= set(MODULES), "a module of the architecture is missing"

    def reached(module: str) -> set[str]:
        below = of_project(MODULES[module])
        return below.union(*map(reached, below))

    for name, place in places.items():
        for other in reached(name) & set(places):
            assert places[other] <= place, f"{name} reaches {other}, which is above it"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_project_knows_nothing_of_what_uses_it(module: str) -> None:
    above = {"scripts", "tests", "benchmarks", "conftest"}
    assert not {name.split(".")[0] for name in imported(MODULES[module])} & above


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_scripts_stand_alone(script: str) -> None:
    assert not {name.split(".")[0] for name in imported(SCRIPTS[script])} & {"scripts", "tests", "benchmarks"}
    assert of_project(SCRIPTS[script])


@pytest.mark.parametrize("module", sorted(WITHOUT_LIGHTNING))
def test_the_network_and_its_parts_know_nothing_of_lightning(module: str) -> None:
    todo, seen = {module}, set()
    while todo:
        name = todo.pop()
        seen.add(name)
        roots = {full.split(".")[0] for full in imported(MODULES[name])}
        assert not roots & {"pytorch_lightning", "lightning", "lightning_fabric"}, f"{module}, through {name}"
        todo |= of_project(MODULES[name]) - seen


def test_there_is_no_drawer_for_everything() -> None:
    for folder in ("project", "scripts", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not set(path.stem.split("_")) & DRAWERS, path


@pytest.mark.parametrize(
    "command",
    ["train.py --help", "evaluate.py --help", "report.py --help", "diagnose.py --data.dataset=idx --data.root={}"],
)
def test_a_command_imports_only_what_it_needs(command: str, idx_folder: Path) -> None:
    """Beside what pytorch_lightning imports by itself."""
    script, *flags = command.format(idx_folder).split()
    flags += ["--data.num_validation=40"] if script == "diagnose.py" else []
    code = f"""
import contextlib, io, runpy, sys
sys.argv = {[script, *flags]!r}
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as printed:
    runpy.run_path({str(ROOT / "scripts" / script)!r}, run_name="__main__")
assert printed.getvalue()
print(sorted({{"captum", "gradio", "onnx", "optuna", "sqlalchemy", "tensorboard"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert result.stdout == "[]\n"
