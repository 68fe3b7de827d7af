"""The cases by which the verdicts are measured: all can be trained, and the two halves have nothing in common."""

import json
import re

import pytest
from conftest import ROOT

from benchmarks.verdict_cases import CAUSES, Case, development, report
from project.runs.parser import settings_of
from project.settings import nest

ALL = [*development.SICK, *development.HEALTHY, *report.SICK, *report.HEALTHY]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_a_case_can_be_trained_and_its_fix_too(case: Case) -> None:
    sick = settings_of(nest(case.around | case.sick))
    assert sick.as_dict() != settings_of(nest(case.around)).as_dict() or not case.sick
    assert bool(case.sick) == bool(case.causes)
    assert set(case.causes) <= set(CAUSES)


def test_there_are_enough_and_the_halves_are_apart() -> None:
    assert len(development.SICK) + len(report.SICK) >= 80
    assert len(development.HEALTHY) + len(report.HEALTHY) >= 40
    keys = [
        {json.dumps(case.around | case.sick, sort_keys=True) for case in (*half.SICK, *half.HEALTHY)}
        for half in (development, report)
    ]
    assert not keys[0] & keys[1]
    for half in (development, report):
        names = [case.name for case in (*half.SICK, *half.HEALTHY)]
        assert len(set(names)) == len(names)


def test_every_code_that_names_a_cause_exists() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "project" / "diagnosis").rglob("*.py"))
    known = set(re.findall(r'Finding\(\s*"(\w+)"', source))
    assert set().union(*CAUSES.values()) <= known | {"vanishing_gradient"}
