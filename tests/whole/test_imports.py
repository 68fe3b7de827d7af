"""Imports run one way, from the wings that use to the wings that are used."""

import ast
import json
import shlex
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

WINGS: tuple[set[str], ...] = (
    {"errors", "extensions", "inside", "plain_data", "task", "settings", "pages", "startup", "threads"},
    {"network", "data"},
    {"training"},
    {"diagnosis"},
    {"runs"},
    {"studies", "serving"},
)
"""The house, lowest floor first. A module imports from its own wing, and from floors below."""
SEAM = "project.diagnosis.observers"
"""Where `runs` meets `diagnosis`: it imports no other module of that wing."""
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
LIGHTNING = {"pytorch_lightning", "lightning", "lightning_fabric"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (ROOT / "project").rglob("*.py")}
SCRIPTS = {path.stem: path for path in (ROOT / "scripts").glob("*.py")}
FLOORS = {wing: floor for floor, wings in enumerate(WINGS) for wing in wings}


def imports_of(source: str) -> set[str]:
    """Every module that a source text imports, at its top or within a function, by its full name."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            # what is imported from a package may be a module of it
            names |= whole & set(MODULES) or {str(node.module)}
    return names


@lru_cache
def imported(path: Path) -> set[str]:
    return imports_of(path.read_text(encoding="utf-8"))


def of_project(path: Path) -> set[str]:
    """The project's own modules among them, without the package itself."""
    return {name for name in imported(path) if name.startswith("project.")}


def wing(module: str) -> str:
    return module.split(".")[1]


def mistakes(module: str, others: set[str]) -> list[str]:
    """What is wrong with a module that imports these others."""
    if wing(module) not in FLOORS:
        return [f"{module} is in no wing"]
    found = []
    for other in others:
        if wing(other) not in FLOORS:
            found.append(f"{module} imports {other}, which is in no wing")
        elif wing(other) != wing(module) and FLOORS[wing(other)] >= FLOORS[wing(module)] > 0:
            found.append(f"{module} imports {other}, which is not below it")
        elif FLOORS[wing(other)] > FLOORS[wing(module)]:
            found.append(f"{module} imports {other}, which is above it")
        elif (wing(module), wing(other)) == ("runs", "diagnosis") and other != SEAM:
            found.append(f"{module} imports {other}, not {SEAM}")
    return found


def test_every_module_is_seen() -> None:
    files = sorted((ROOT / "project").rglob("*.py"))
    assert len(MODULES) == len(files) >= 80
    assert {wing(name) for name in MODULES if name != "project"} == set(FLOORS)
    assert "project.data.datamodule" in of_project(MODULES["project.training.module"])
    assert "train" in SCRIPTS


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"project"}))
def test_imports_run_one_way(module: str) -> None:
    assert mistakes(module, of_project(MODULES[module])) == []


def test_a_wrong_import_is_found() -> None:
    assert mistakes("project.data.datamodule", {"project.training.module"})
    assert mistakes("project.data.datamodule", {"project.network.mlp"})
    assert mistakes("project.settings", {"project.network.mlp"})
    assert mistakes("project.runs.build", {"project.diagnosis.monitor"})
    assert not mistakes("project.runs.build", {SEAM, "project.errors", "project.runs.train"})
    assert mistakes("project.garage", set())
    assert mistakes("project.runs.build", {"project.garage"})
    assert imports_of("def f():\n    from project.runs import train") == {"project.runs.train"}


@lru_cache
def level(module: str, above: tuple[str, ...] = ()) -> int:
    """Longest way from a module down to one that imports none of the others."""
    assert module not in above, f"imports go round in a circle: {' → '.join([*above[above.index(module) :], module])}"
    return max((1 + level(other, (*above, module)) for other in of_project(MODULES[module])), default=0)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"project"}))
def test_no_module_is_imported_by_one_that_it_imports(module: str) -> None:
    level(module)


@pytest.mark.parametrize("path", [*MODULES.values(), *SCRIPTS.values()], ids=lambda path: path.stem)
def test_nothing_is_imported_from_what_uses_the_project(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & {"scripts", "tests", "benchmarks", "conftest"}
    assert path in MODULES.values() or of_project(path)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("project.network")))
def test_the_network_is_plain_torch(module: str) -> None:
    names = imported(MODULES[module])
    assert not {name.split(".")[0] for name in names} & LIGHTNING
    assert {wing(name) for name in of_project(MODULES[module])} <= WINGS[0] | {"network"}


def test_there_is_no_drawer_for_everything() -> None:
    seen = 0
    for folder in ("project", "scripts", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            seen += 1
            assert not set(path.stem.split("_")) & DRAWERS, path
    assert seen >= 150


HEAVY = ["captum", "gradio", "onnx", "onnxruntime", "onnxscript", "optuna", "safetensors", "sqlalchemy", "tensorboard"]
"""What only a part of the scripts needs."""


REFUSED = [
    "--model.activation rleu",
    "--model.dropout 1",
    "--model.depth deep",
    "--model.width 0",
    '--model.width "[9, 8, 7]"',
    "--model.learning_rate .nan",
    "--model.optimizer",
    "--model.task regression --model.loss hinge",
    "--data.dataset minst",
    "--data.batch_size 0",
    "--data.num_validation many",
    "--data.target rotation",
    "--model.task binary",
    '--data.augmentation "[mixup, cutmix]"',
    "--config {folder}/misspelt.yaml",
    "--config {folder}/choice.yaml",
    "--config {folder}/gone.yaml",
    "--trainer.max_epoch 3",
]
"""What train.py and diagnose.py refuse by the settings alone."""
ASK = """
import contextlib, io, json, runpy, sys
found = []
script, asked, names = sys.argv[1:]
for words in json.loads(asked):
    said, status = io.StringIO(), None
    sys.argv = [script, *words]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as leaving:
            status = leaving.code
    loaded = sorted(set(json.loads(names)) & set(sys.modules))
    found.append([words, status, loaded, said.getvalue().count("error: "), said.getvalue().count("  fix: ")])
print(json.dumps(found))
"""


def ask(script: str, asked: list[list[str]], names: list[str], folder: Path) -> list[list[Any]]:
    """Call a script with several command lines in one process: status, which modules are loaded then, errors, fixes."""
    command = [sys.executable, "-c", ASK, str(SCRIPTS[script]), json.dumps(asked), json.dumps(names)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=300)
    return list(json.loads(result.stdout))


def test_an_examination_imports_only_what_it_needs(idx_folder: Path, tmp_path: Path) -> None:
    """Beside what pytorch_lightning imports by itself."""
    words = ["--data.dataset=idx", f"--data.root={idx_folder}", "--data.num_validation=40", "--data.batch_size=32"]
    assert ask("diagnose", [words], HEAVY, tmp_path) == [[words, 0, [], 0, 0]]


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_help_and_refusals_come_before_torch_is_loaded(script: str, tmp_path: Path) -> None:
    (tmp_path / "misspelt.yaml").write_text("model: {dpth: 3}\n")
    (tmp_path / "choice.yaml").write_text("model: {norm: bacth}\n")
    lines = ["--helpp", "--no_such_setting 3", "-x"]
    lines += REFUSED if script in ("train", "diagnose") else []
    asked = [["--help"], *(shlex.split(line.format(folder=tmp_path)) for line in lines)]
    expected = [[asked[0], 0, [], 0, 0], *([words, 2, [], 1, 1] for words in asked[1:])]
    assert ask(script, asked, ["torch", "pytorch_lightning", *HEAVY], tmp_path) == expected
