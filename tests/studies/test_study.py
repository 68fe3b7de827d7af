"""Study files: what they mean, and what is wrong with wrong ones."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from project.errors import InputError
from project.settings import flatten, nest
from project.studies.claims import parse_claim
from project.studies.read_study import KEYS, parse_study, read_study, stored_study, write_study
from project.studies.running.study_run import check_settings
from project.studies.study import FIRST_TUNING_SEED, STUDY_DEFAULTS, Range, RunRecord, larger_is_better

STUDIES = sorted((ROOT / "configs" / "studies").glob("*.yaml"))
ARMS = ["relu", "sigmoid", "relu,depth=8", "zeros"]
SMALL: dict[str, Any] = {"question": "Why?", "vary": {"model.depth": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "region", "signs", "metric"),
    [
        ("relu > sigmoid by 0.02", (0.02, math.inf), {"relu": 1, "sigmoid": -1}, "test/accuracy"),
        ("relu > sigmoid", (0.0, math.inf), {"relu": 1, "sigmoid": -1}, "test/accuracy"),
        ("relu,depth=8 < relu by 1e-3", (-math.inf, -0.001), {"relu,depth=8": 1, "relu": -1}, "test/accuracy"),
        ("zeros == chance within 0.01", (-0.01, 0.01), {"zeros": 1, "chance": -1}, "test/accuracy"),
        ("relu ~ sigmoid within 0.5 on test/loss", (-0.5, 0.5), {"relu": 1, "sigmoid": -1}, "test/loss"),
        ("  relu   >  0.85 ", (0.0, math.inf), {"relu": 1, "": -0.85}, "test/accuracy"),
        (
            "relu - sigmoid > relu,depth=8 - zeros by 0.1",
            (0.1, math.inf),
            {"relu": 1, "sigmoid": -1, "relu,depth=8": -1, "zeros": 1},
            "test/accuracy",
        ),
    ],
)
def test_claims(text: str, region: tuple[float, float], signs: dict[str, float], metric: str) -> None:
    claim = parse_claim(text, ARMS, "test/accuracy")
    assert claim.region == region
    assert {term.arm: term.sign * (term.number or 1) for term in claim.terms} == signs
    assert claim.metric == metric


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("relu > sigmoyd", "no arm 'sigmoyd'", "did you mean sigmoid?"),
        ("relu sigmoid", "does not compare", "relu > sigmoid by 0.02"),
        ("relu > sigmoid > zeros", "does not compare", "write for example"),
        ("relu > ", "lacks an arm", "write for example"),
        ("relu > sigmoid by much", "'much' is no margin", "0.02"),
        ("relu > sigmoid by -0.1", "'-0.1' is no margin", "0 or more"),
        ("relu == sigmoid", "exactly equal", "within 0.01"),
        ("relu ~ sigmoid by 0.1", "exactly equal", "within 0.01"),
        ("relu ~ sigmoid within 0", "exactly equal", "within 0.01"),
        ("relu > sigmoid within 0.1", "within belongs to ~", "by"),
        ("relu sigmoid > zeros", "where + or - should be", "write for example"),
        ("0.1 < 0.2", "about no arm", "write for example"),
        ("", "does not compare", "write for example"),
    ],
)
def test_what_is_no_claim_is_refused(text: str, cause: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_claim(text, ARMS, "test/accuracy")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


@settings(derandomize=True, deadline=None)
@given(st.text("relu sigmod>by0.1~=-+ within on", max_size=40))
def test_no_text_makes_the_claim_parser_stumble(text: str) -> None:
    try:
        claim = parse_claim(text, ARMS, "test/accuracy")
    except InputError:
        return
    assert claim.arms
    assert claim.region[0] < claim.region[1]


def test_a_grid_makes_arms_by_their_values() -> None:
    vary = {"model.activation": ["relu", "tanh"], "model.width": [[16, 8], 32], "model.norm": ["none", "batch"]}
    study = parse_study("s", {"question": "?", "vary": vary, "seeds": 2})
    assert len(study.arms) == 8
    assert study.arms["tanh,width=[16,8],norm=none"] == {
        "model.activation": "tanh",
        "model.width": [16, 8],
        "model.norm": "none",
    }
    assert study.factors["norm"] == ["norm=none", "batch"]
    assert study.levels["relu,width=32,batch"] == {"activation": "relu", "width": "width=32", "norm": "batch"}
    assert study.reference == "relu,width=[16,8],norm=none"
    assert len(study.final_cells()) == 16


def test_named_arms_multiply_with_a_grid() -> None:
    study = parse_study(
        "s",
        {
            "question": "?",
            "arms": {"plain": None, "drop": {"model": {"dropout": 0.5}}},
            "vary": {"data.num_train": [100, 1000]},
            "reference": "plain,num_train=100",
        },
    )
    assert study.arms["drop,num_train=1000"] == {"model.dropout": 0.5, "data.num_train": 1000}
    assert study.factors == {"arm": ["plain", "drop"], "num_train": ["num_train=100", "num_train=1000"]}


def test_what_a_run_is_given() -> None:
    study = parse_study("s", {**SMALL, "base": {"model": {"width": 8}, "patience": 3}, "resample": True})
    assert study.settings("depth=2", 4) == STUDY_DEFAULTS | {
        "patience": 3,
        "model.width": 8,
        "data.split_seed": 4,
        "model.depth": 2,
        "seed_everything": 4,
    }


def test_a_key_changes_with_what_decides_the_run_and_with_nothing_else() -> None:
    def keys(**changes: Any) -> dict[tuple[str, int], str]:
        content = {"question": "?", "base": {"model.width": 8}, "vary": {"model.depth": [1, 2]}, "seeds": 2, **changes}
        return {(cell.arm, cell.seed): cell.key for cell in parse_study("s", content).final_cells()}

    first = keys()
    assert len(set(first.values())) == 4
    assert keys(question="Else?", expect=["depth=1 > depth=2"], reference="depth=2") == first
    assert first.items() <= keys(seeds=3).items()
    assert first.items() <= keys(vary={"model.depth": [1, 2, 3]}).items()
    assert not set(first.values()) & set(keys(base={"model.width": 9}).values())
    tuned = keys(tune={"settings": {"model.learning_rate": [0.1, 0.2]}})
    assert not set(first.values()) & set(tuned.values())
    assert not set(tuned.values()) & set(keys(tune={"settings": {"model.learning_rate": [0.1, 0.3]}}).values())


def test_tuning_gives_every_arm_the_same_budget_on_seeds_of_its_own() -> None:
    tune = {"settings": {"model.learning_rate": {"low": 1e-4, "high": 1.0, "log": True}}, "trials": 8, "seeds": 2}
    study = parse_study("s", {**SMALL, "tune": tune})
    cells = study.tuning_cells()
    by_arm = {arm: [cell.settings["model.learning_rate"] for cell in cells if cell.arm == arm] for arm in study.arms}
    assert by_arm["depth=1"] == by_arm["depth=2"]
    assert len(by_arm["depth=1"]) == 16
    # a Latin hypercube has one point in each eighth of the range
    eighths = sorted(int((math.log10(rate) + 4) / 4 * 8) for rate in set(by_arm["depth=1"]))
    assert eighths == list(range(8))
    assert {cell.seed for cell in cells} == {FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1}
    assert not {cell.seed for cell in cells} & set(study.seeds)
    assert study.selection_metric == "validation/accuracy"


def test_tuning_over_lists_tries_their_whole_grid() -> None:
    tune = {"settings": {"model.learning_rate": [0.1, 0.2], "model.dropout": [0.0, 0.2, 0.5]}}
    assert len(parse_study("s", {**SMALL, "tune": tune}).tuning.points) == 6


@settings(derandomize=True)
@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_range_stays_inside_and_reaches_its_ends(low: int, size: int, share: float, log: bool) -> None:
    whole = Range(low, low + size, log)
    assert low <= whole.at(share) <= low + size
    assert (whole.at(0.0), whole.at(math.nextafter(1.0, 0.0))) == (low, low + size)
    real = Range(float(low), float(low + size), log)
    assert low * 0.9995 <= real.at(share) <= (low + size) * 1.0005


@pytest.mark.parametrize(
    ("changes", "cause", "remedy"),
    [
        ({"vari": {}}, "no key 'vari'", "did you mean vary?"),
        ({"question": None}, "no question", "question:"),
        ({"vary": None}, "compares nothing", "vary:"),
        ({"vary": {"model.depth": 3}}, "must be a list", "[first, second]"),
        ({"vary": {"model.depth": [1, 1]}}, "twice", "once"),
        ({"vary": None, "arms": {"a b": {}}}, "'a b' cannot be", "word without blanks"),
        ({"vary": None, "arms": {"by": {}}}, "'by' cannot be", "word"),
        ({"vary": None, "arms": {3: {}}}, "'3' cannot be", "no number"),
        ({"seeds": 0}, "seeds is 0", "seeds: 5"),
        ({"seeds": [1, 1]}, "seeds is [1, 1]", "seeds: 5"),
        ({"seeds": [FIRST_TUNING_SEED]}, "for tuning", "seeds: 5"),
        ({"reference": "depth=3"}, "no arm 'depth=3'", "did you mean depth="),
        ({"base": {"seed_everything": 3}}, "decides itself", "leave it out"),
        ({"base": 3}, "holds no settings", "model.depth: 3"),
        ({"expect": "depth=1 > depth=2"}, "must be a list", "dash"),
        ({"tune": {"settings": {"model.learning_rate": 0.1}}}, "must be a list of values", "low"),
        ({"tune": {"settings": {"model.learning_rate": {"low": 1, "high": 1}}, "trials": 3}}, "goes from", "below"),
        ({"tune": {"settings": {"model.learning_rate": {"low": 0, "high": 1, "log": True}}, "trials": 3}}, "from", "0"),
        ({"tune": {"settings": {"model.learning_rate": {"low": 0.1, "high": 1}}}}, "needs 2 or more", "trials: 8"),
        ({"tune": {"settings": {"model.learning_rate": [1, 2]}, "trials": 3}}, "make 2 settings", "leave trials out"),
        ({"search": {"settings": {"model.learning_rate": [1, 2]}}}, "search beside", "keep the one"),
    ],
)
def test_what_is_no_study_is_refused(changes: dict[str, Any], cause: str, remedy: str) -> None:
    content = {key: value for key, value in (SMALL | changes).items() if value is not None}
    with pytest.raises(InputError) as caught:
        parse_study("s", content)
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


def test_a_wrong_setting_is_found_before_anything_runs() -> None:
    study = parse_study("s", {"question": "?", "arms": {"a": {}, "b": {"model.depht": 3}}})
    with pytest.raises(InputError, match=r"arm b: there is no setting 'model\.depht'\n.*model\.depth"):
        check_settings(study)
    search = parse_study("s", {"question": "?", "search": {"settings": {"model.activation": ["relu", "rely"]}}})
    with pytest.raises(InputError, match="relu"):
        check_settings(search)


def test_a_quick_look_has_a_name_of_its_own_two_seeds_and_a_fifth_of_the_epochs(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"base": {"trainer.max_epochs": 20}, "seeds": 7}))
    quick = read_study(path, quick=True)
    assert (quick.name, quick.seeds, quick.base["trainer.max_epochs"]) == ("s-quick", (0, 1), 4)
    path.write_text(yaml.safe_dump(SMALL | {"quick": {"seeds": 3, "data.num_train": 100}}))
    quick = read_study(path, quick=True)
    assert (quick.seeds, quick.base) == ((0, 1, 2), {"data.num_train": 100})
    assert read_study(path, seeds=4).seeds == (0, 1, 2, 3)
    with pytest.raises(InputError, match="--seeds is 0"):
        read_study(path, seeds=0)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_that_is_shipped_is_sound_and_survives_being_kept(path: Path, quick: bool, tmp_path: Path) -> None:
    study = read_study(path, quick=quick)
    check_settings(study)
    assert study.claims, "a lesson makes claims"
    assert study.notes
    text = path.read_text(encoding="utf-8")
    assert f"python scripts/study.py configs/studies/{path.name}" in text.splitlines()[1]
    write_study(study, tmp_path / study.name)
    kept = stored_study(tmp_path / study.name)
    assert [cell.key for cell in kept.final_cells()] == [cell.key for cell in study.final_cells()]
    assert [cell.key for cell in kept.tuning_cells()] == [cell.key for cell in study.tuning_cells()]
    assert kept.claims == study.claims


def test_settings_flatten_and_nest() -> None:
    nested = {"model": {"depth": 2, "width": [3, 4]}, "patience": 0, "trainer": {"max_epochs": 1}}
    flat = {"model.depth": 2, "model.width": [3, 4], "patience": 0, "trainer.max_epochs": 1}
    assert flatten(nested) == flat
    assert nest(flat) == nested


def test_which_metrics_are_to_be_large() -> None:
    assert all(larger_is_better(name) for name in ("test/accuracy", "test/macro_f1", "test/r2", "test/roc_auc"))
    small = ("test/loss", "test/rmse", "test/mae", "test/calibration_error", "train_seconds", "accuracy_gap")
    assert not any(larger_is_better(name) for name in small)


def test_a_diverged_training_counts_as_guessing() -> None:
    assert RunRecord("a", 0, status="diverged", num_classes=4).value("test/accuracy") == 0.25
    assert RunRecord("a", 0, status="diverged", num_classes=4).value("test/loss") is None
    assert RunRecord("a", 0, status="failed", num_classes=4).value("test/accuracy") is None
    assert RunRecord("a", 0, metrics={"test/accuracy": 0.5}).value("test/accuracy") == 0.5


def test_the_guides_examples_are_studies() -> None:
    guide = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block.partition("```")[0]) for block in guide.split("```yaml\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        check_settings(parse_study("guide", {"question": "?", **block}))
    for key in KEYS:
        assert f"`{key}`" in guide
