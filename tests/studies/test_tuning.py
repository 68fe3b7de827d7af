"""What tuning tries and chooses: points beyond an edge, a choice for each seed, an edge that stays open."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from project.studies.read_study import parse_study
from project.studies.running.plan import Plan
from project.studies.study import RunRecord, Study
from project.studies.tuning import MAX_EXTENSIONS, open_edges


def study_of(settings: dict[str, Any], **content: Any) -> Study:
    tune = {"settings": settings} | ({"trials": content.pop("trials")} if "trials" in content else {})
    return parse_study("s", {"question": "?", "vary": {"model.depth": [1, 2]}, "seeds": 3, "tune": tune, **content})


def play(study: Study, score: Callable[[RunRecord], float | None]) -> Plan:
    """Run a study whose trainings are a function: the validation accuracy of each run."""
    plan = Plan(study)
    while due := plan.due():
        for cell in due:
            record = RunRecord(cell.arm, cell.seed, cell.phase, point=cell.point, settings=cell.settings)
            value = score(record)
            status = "failed" if value is None else "completed"
            metrics = {} if value is None else {"validation/accuracy": value, "test/accuracy": value}
            values = {**vars(record), "status": status, "metrics": metrics}
            plan.note(cell.key, RunRecord(**values))
    return plan


def rate(record: RunRecord) -> float:
    return float(record.settings["model.learning_rate"])


def chosen(plan: Plan) -> dict[tuple[str, int], float]:
    return {(r.arm, r.seed): rate(r) for r in plan.records() if r.phase == "final"}


def test_each_seed_has_a_choice_of_its_own() -> None:
    best = {0: 0.01, 1: 0.1, 2: 0.01}
    study = study_of({"model.learning_rate": [0.001, 0.01, 0.1, 1.0]})
    plan = play(study, lambda r: 0.9 - abs(np.log10(rate(r) / best[r.seed])))
    assert chosen(plan) == {(arm, seed): best[seed] for arm in study.arms for seed in study.seeds}
    assert not open_edges(study, plan.records())
    tuning = [r for r in plan.records() if r.phase == "tune"]
    assert len(tuning) == 2 * 3 * 4
    assert {r.settings["seed_everything"] for r in tuning} == {1000, 1001, 1002}


@pytest.mark.parametrize(("peak", "further"), [(3.0, [1.0, 10.0]), (0.0001, [0.0001, 1e-05])])
def test_an_edge_that_is_best_is_gone_beyond(peak: float, further: list[float]) -> None:
    study = study_of({"model.learning_rate": [0.001, 0.01, 0.1]})
    plan = play(study, lambda r: 0.9 - abs(np.log10(rate(r) / peak)) - 0.5 * (r.arm == "depth=2"))
    for arm in study.arms:
        tried = sorted({rate(r) for r in plan.records() if r.arm == arm and r.phase == "tune"})
        assert tried == sorted([0.001, 0.01, 0.1, *further])
    assert set(chosen(plan).values()) == {min(further, key=lambda x: abs(np.log10(x / peak)))}
    assert not open_edges(study, plan.records())


def test_an_edge_that_never_ends_stays_open_for_its_arm_alone() -> None:
    study = study_of({"model.learning_rate": [0.001, 0.01, 0.1]})
    plan = play(study, lambda r: rate(r) if r.arm == "depth=1" else 0.9 - abs(rate(r) - 0.01))
    assert list(open_edges(study, plan.records())) == ["depth=1"]
    assert max(chosen(plan).values()) == pytest.approx(0.1 * 10**MAX_EXTENSIONS)


def test_a_value_that_cannot_be_used_bounds_the_grid() -> None:
    study = study_of({"model.momentum": [0.5, 0.7, 0.9]})
    plan = play(study, lambda r: None if r.settings["model.momentum"] >= 1 else r.settings["model.momentum"])
    assert not open_edges(study, plan.records())
    assert {r.settings["model.momentum"] for r in plan.records() if r.phase == "final"} == {0.9}


@pytest.mark.parametrize(
    ("settings", "options", "beyond"),
    [
        ({"model.dropout": [0.0, 0.1, 0.2]}, {}, []),  # 0 is best, and there is nothing below
        ({"model.activation": ["relu", "tanh"]}, {}, []),
        ({"model.depth": [4, 2, 1]}, {}, [0]),
        ({"model.width": [64, 32, 16]}, {}, [2, 4, 8]),
        ({"model.learning_rate": [0.001, 0.003]}, {}, [3.7e-5, 1.11e-4, 3.33e-4]),
        ({"model.dropout": [0.25, 0.35]}, {}, [0.025, 0.05, 0.15]),
        ({"model.learning_rate": {"low": 0.01, "high": 1.0, "log": True}}, {"trials": 3}, [0.000215, 0.001, 0.00464]),
    ],
)
def test_how_far_beyond(settings: dict[str, Any], options: dict[str, Any], beyond: list[float]) -> None:
    study = study_of(settings, **options)
    (key,) = settings

    def score(record: RunRecord) -> float:
        value = record.settings[key]
        return 0.5 if isinstance(value, str) else 1.0 - value / 1000  # the smaller the better

    known = [point[key] for point in study.tuning.points]
    new = {r.settings[key] for r in play(study, score).records()}.difference(known)
    assert sorted(new) == pytest.approx(beyond, rel=0.01)


def test_an_arm_in_which_nothing_works_fails_without_a_run() -> None:
    study = study_of({"model.learning_rate": [0.001, 0.01]})
    plan = play(study, lambda r: None if r.arm == "depth=2" else 1 - rate(r) / 100)
    failed = [r for r in plan.records() if r.arm == "depth=2" and r.phase == "final"]
    assert [r.status for r in failed] == ["failed"] * 3
    assert "depth=2" in failed[0].error
