"""Every file under configs/ is accepted, and changes what it says."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from project.runs.parser import parse_settings

CONFIGS = ROOT / "configs"


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(CONFIGS.rglob("*.yaml")) if not {"studies", "notes", "cluster"} & set(p.parts)],
    ids=lambda p: str(p.relative_to(CONFIGS)),
)
def test_every_config_is_accepted(path: Path) -> None:
    settings = parse_settings([f"--config={path}"]).as_dict()
    written = yaml.safe_load(path.read_text())
    for section, values in written.items():
        if not isinstance(values, dict):
            assert settings[section] == values
            continue
        for name, value in values.items():
            assert holds(settings[section][name], value)


def holds(settings: Any, written: Any) -> bool:
    """Whether settings are what is written; a class's arguments that are not written have defaults."""
    if isinstance(written, dict) and "class_path" in written:
        return settings["class_path"] == written["class_path"] and all(
            settings["init_args"][name] == value for name, value in written["init_args"].items()
        )
    if isinstance(written, list) and isinstance(settings, list):
        return len(settings) == len(written) and all(map(holds, settings, written))
    return bool(settings == written)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONFIGS)))
def test_every_config_has_a_header(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_every_record_is_on_its_page() -> None:
    """A row for each recipe, whose name says data set and goal; the goal is reached by 20 seeds or more."""
    page = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) ([\d.]+) % \| \[(\S+)\]\S+ \| (\d+) \| ([\d.]+) ±", page, re.MULTILINE)
    assert {name for _, _, name, _, _ in rows} == {path.name for path in (CONFIGS / "fast").glob("*.yaml")}
    for dataset, goal, name, seeds, reached in rows:
        assert name == f"{dataset}_{goal.replace('.', '_')}.yaml"
        settings = parse_settings([f"--config={CONFIGS / 'fast' / name}"])
        assert (settings.data.dataset, settings.data.num_validation) == (dataset, 0)
        assert float(reached) >= float(goal)
        assert int(seeds) >= 20


def test_the_slurm_script_is_valid_shell() -> None:
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "-n", str(CONFIGS / "trainer" / "slurm.sh")], check=True)
