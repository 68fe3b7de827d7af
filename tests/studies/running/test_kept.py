"""When claims were written: what stood there before the first run, and what came later."""

import json
from pathlib import Path
from typing import Any

from project.studies.read_study import parse_study
from project.studies.running.kept import freeze, frozen, read_results, write_result
from project.studies.running.plan import Plan
from project.studies.study import Study

FIRST, SECOND = "depth=1 > depth=2", "depth=1 < depth=2"


def study_with(claims: list[str], **content: Any) -> Study:
    return parse_study("s", {"question": "?", "vary": {"model.depth": [1, 2]}, "expect": claims, "seeds": 2, **content})


def end_a_run(study: Study, folder: Path) -> None:
    write_result(folder, Plan(study).cells()[0], {"metrics": {"test/accuracy": 0.5}})


def test_claims_that_stood_there_before_the_first_run_are_not_late(tmp_path: Path) -> None:
    freeze(study_with([FIRST]), tmp_path)
    study = freeze(study_with([FIRST, SECOND]), tmp_path)  # nothing has run yet
    assert [claim.late for claim in study.claims] == ["", ""]
    end_a_run(study, tmp_path)
    again = freeze(study, tmp_path)
    assert [claim.late for claim in again.claims] == ["", ""]
    assert again.content["frozen"].startswith("2 before the first run")
    assert not again.content["remarks"]


def test_a_claim_that_came_or_went_later_is_marked_for_ever(tmp_path: Path) -> None:
    first = study_with([FIRST])
    freeze(first, tmp_path)
    end_a_run(first, tmp_path)
    later = freeze(study_with([SECOND]), tmp_path)
    assert "after 1 runs" in later.claims[0].late
    assert FIRST in later.content["remarks"][0]
    for _ in range(2):  # taking it out and writing it again does not make it early
        freeze(first, tmp_path)
        assert "after 1 runs" in freeze(study_with([FIRST, SECOND]), tmp_path).claims[1].late
    # and another metric makes another claim
    assert freeze(study_with([FIRST], metric="test/loss"), tmp_path).claims[0].late
    (tmp_path / "claims.json").unlink()
    assert frozen(first, tmp_path).claims[0].late


def test_more_seeds_than_were_planned_are_remarked_on(tmp_path: Path) -> None:
    study = study_with([FIRST])
    freeze(study, tmp_path)
    assert not freeze(study_with([FIRST], seeds=3), tmp_path).content["remarks"]  # nothing has run yet
    end_a_run(study, tmp_path)
    (remark,) = freeze(study_with([FIRST], seeds=4), tmp_path).content["remarks"]
    assert " 4 " in remark


def test_a_result_is_kept_whole_and_with_what_json_lacks(tmp_path: Path) -> None:
    study = study_with([FIRST])
    cell = Plan(study).cells()[0]
    found = {"status": "diverged", "history": [{"epoch": 0.0, "train/loss": float("nan")}], "correct": "ff"}
    record = write_result(tmp_path, cell, found)
    (path,) = (tmp_path / "results").iterdir()
    assert path.name == f"{cell.key}.json"
    (read,) = read_results(Plan(study), tmp_path).records()
    assert repr(read) == repr(record)
    assert (read.arm, read.seed, read.settings) == (cell.arm, cell.seed, cell.settings)
    json.loads(path.read_text(encoding="utf-8"))
