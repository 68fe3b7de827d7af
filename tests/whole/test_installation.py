"""A wheel: everything is in it, and it trains where there is no checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")
WHERE = """
import importlib, json, pkgutil, project
names = [module.name for module in pkgutil.walk_packages(project.__path__, "project.")]
print(json.dumps([importlib.import_module("project.runs.train").__file__, project.__file__, names]))
"""


def pip(*arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def python(*arguments: str, site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the installed wheel, and without what the tests' own process finds on its path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLP_")}
    environment["PYTHONPATH"] = str(site)
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of these sources, built from a copy of them so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "project", copy / "project", ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", ".", cwd=copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel was installed; it lies in a repository that has nothing to do with it."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", str(folder), str(wheel), cwd=folder)
    if shutil.which("git"):
        identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
        for arguments in (("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "--message", "another project")):
            subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    return folder


def test_every_file_is_in_the_wheel(wheel: Path) -> None:
    """Modules and what belongs to them, such as py.typed, in all folders; and nothing besides."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "project").rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert len(files) >= 80
    assert "project/py.typed" in files
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == files


def test_it_trains_from_another_folder(site: Path, idx_folder: Path, small_run: list[str], tmp_path: Path) -> None:
    shutil.copy(ROOT / "scripts" / "train.py", tmp_path)
    said = python("-c", WHERE, site=site, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    module, package, names = json.loads(said.stdout)
    assert Path(module).is_relative_to(site)
    assert Path(package).is_relative_to(site)
    expected = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "project").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert expected <= set(names)

    result = python("train.py", *small_run, "--run_name=x", site=site, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "idx" / "x"

    def read(name: str) -> dict[str, Any]:
        return dict(json.loads((folder / name).read_text(encoding="utf-8")))

    assert read("metrics.json")["status"] == "completed"
    origin = read("provenance.json")
    assert origin["git_commit"] is None
    assert origin["git_diff"] == ""
