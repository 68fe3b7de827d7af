"""constraints.txt has every package that `make train` and `make test` install; `make audit` never passes by mistake."""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

OURS = "mlp-lightning-template"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(extra: str) -> set[str]:
    """What is installed here because of the project, directly or not."""
    seen: set[tuple[str, str]] = set()
    names, left = set(), [(OURS, extra)]
    while left:
        place = name, wanted = left.pop()
        if place in seen:
            continue
        seen.add(place)
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        names.add(name)
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                left += [(normal(requirement.name), extra) for extra in ("", *requirement.extras)]
    return names - {OURS}


@pytest.mark.parametrize(("extra", "least"), [("", 60), ("dev", 120)])
def test_every_installed_package_has_its_line(extra: str, least: int) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    fixed = {normal(line.partition("==")[0]) for line in lines if not line.startswith("#")}
    found = installed(extra)
    assert len(found) >= least
    assert found - fixed == set(), "add them to constraints.txt"


FINE = {"name": "a", "version": "1", "vulns": []}
HOLE = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("printed", "status", "said"),
    [
        (json.dumps({"dependencies": [FINE]}), 0, "nothing is known of 1 packages"),
        (json.dumps({"dependencies": [FINE, HOLE]}), 1, "b 2: CVE-1, fixed in 3"),
        (json.dumps({"dependencies": [FINE, SKIPPED]}), 2, "not audited: 1 of 2"),
        (json.dumps({"dependencies": [HOLE, SKIPPED]}), 1, "not audited: 1 of 2"),
        (json.dumps({"dependencies": []}), 2, "not audited"),
        ("Traceback: no connection", 2, "not audited"),
        ("", 2, "not audited"),
    ],
)
def test_an_audit_that_could_ask_nobody_fails(printed: str, status: int, said: str, tmp_path: Path) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nprint({printed!r})\n")
    program.chmod(0o755)
    command = [sys.executable, str(ROOT / ".ci" / "audit.py"), str(program)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == status
    assert said in ended.stdout
