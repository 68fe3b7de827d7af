"""The commit that a run records is its own code's, wherever that code lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

COMMIT = "from project.runs.saving.provenance import _git; print(_git('rev-parse', 'HEAD'))"


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as somebody who has never set it up."""
    named = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
    # a hook that runs these tests would say to git which repository it is in
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *named, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def new_repository(folder: Path) -> str:
    """Make a repository with one commit, of a file of its own."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "--quiet")
    (folder / "notes.txt").write_text("another project's\n")
    git(folder, "add", "notes.txt")
    git(folder, "commit", "--quiet", "--message", "another project")
    return git(folder, "rev-parse", "HEAD")


def recorded_commit(code: Path, **variables: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(code)} | variables
    command = [sys.executable, "-c", COMMIT]
    result = subprocess.run(command, env=environment, cwd=code.parent, capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_only_a_repository_that_holds_the_code_is_recorded(tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copytree(ROOT / "project", copy / "project", ignore=shutil.ignore_patterns("__pycache__"))
    assert recorded_commit(copy) == "None"
    foreign = new_repository(copy)  # around the code, which is no part of it
    assert recorded_commit(copy) == "None"
    git(copy, "add", "project")
    git(copy, "commit", "--quiet", "--message", "with the code")
    own = git(copy, "rev-parse", "HEAD")
    assert own != foreign
    # and a hook of another repository changes nothing
    new_repository(other)
    assert recorded_commit(copy, GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other)) == own
