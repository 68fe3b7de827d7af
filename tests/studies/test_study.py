"""Study files and claims: what they mean; what is said of wrong ones is in test_study_wording.py."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from project.errors import InputError
from project.extensions import load_named_extensions
from project.settings import flatten, nest
from project.studies.claims import parse_claim
from project.studies.read_study import KEYS, parse_study, read_study, stored_study, write_study
from project.studies.running.checks import check_settings
from project.studies.running.plan import Plan
from project.studies.study import STUDY_DEFAULTS, Range, RunRecord, larger_is_better

STUDIES = sorted(path for folder in ("studies", "notes") for path in (ROOT / "configs" / folder).glob("*.yaml"))
ARMS = ["relu", "sigmoid", "relu,depth=8", "zeros"]
SMALL: dict[str, Any] = {"question": "Why?", "vary": {"model.depth": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "region", "weights"),
    [
        ("relu > sigmoid by 0.02", (0.02, math.inf), {"relu": 1, "sigmoid": -1}),
        ("relu > sigmoid", (0.0, math.inf), {"relu": 1, "sigmoid": -1}),
        ("relu,depth=8 < relu by 1e-3", (-math.inf, -0.001), {"relu,depth=8": 1, "relu": -1}),
        ("zeros == chance within 0.01", (-0.01, 0.01), {"zeros": 1, "chance": -1}),
        ("relu ~ sigmoid within 0.5 on test/loss", (-0.5, 0.5), {"relu": 1, "sigmoid": -1}),
        ("  relu   >  0.85 ", (0.0, math.inf), {"relu": 1, "": -0.85}),
        ("relu - sigmoid > 0.1 - zeros + 0.2", (0.0, math.inf), {"relu": 1, "sigmoid": -1, "zeros": 1, "": -0.3}),
    ],
)
def test_claims(text: str, region: tuple[float, float], weights: dict[str, float]) -> None:
    claim = parse_claim(text, ARMS, "test/accuracy")
    assert claim.region == region
    assert claim.weights == pytest.approx(weights)
    assert claim.arms == [name for name in weights if name in ARMS]
    assert claim.metric == ("test/loss" if " on " in text else "test/accuracy")


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
    combination = {"model.activation": "tanh", "model.width": [16, 8], "model.norm": "none"}
    assert study.arms["tanh,width=[16,8],norm=none"] == combination
    assert study.factors["norm"] == ["norm=none", "batch"]
    assert study.levels["relu,width=32,batch"] == {"activation": "relu", "width": "width=32", "norm": "batch"}
    assert study.reference == "relu,width=[16,8],norm=none"
    assert len(Plan(study).cells()) == 16
    named = {"plain": None, "drop": {"model": {"dropout": 0.5}}}
    study = parse_study("s", {"question": "?", "arms": named, "vary": {"data.num_train": [None, 1000, "1e3"]}})
    assert study.arms["drop,num_train=1000"] == {"model.dropout": 0.5, "data.num_train": 1000}
    assert study.factors == {"arm": [*named], "num_train": ["num_train=none", "num_train=1000", "num_train=1e3"]}


def test_what_a_run_is_given() -> None:
    study = parse_study("s", {**SMALL, "base": {"model": {"width": 8}, "patience": 3}, "resample": True})
    own = {"patience": 3, "model.width": 8, "data.split_seed": 4, "model.depth": 2, "seed_everything": 4}
    assert study.settings("depth=2", 4) == STUDY_DEFAULTS | own


def test_a_key_changes_with_what_decides_the_run_and_with_nothing_else() -> None:
    def keys(**changes: Any) -> dict[tuple[str, int], str]:
        content = {"question": "?", "base": {"model.width": 8}, "vary": {"model.depth": [1, 2]}, "seeds": 2, **changes}
        return {(cell.arm, cell.seed): cell.key for cell in Plan(parse_study("s", content)).cells()}

    first = keys()
    assert len(set(first.values())) == 4
    assert keys(question="Else?", expect=["depth=1 > depth=2"], reference="depth=2") == first
    assert first.items() <= keys(seeds=3).items()
    assert first.items() <= keys(vary={"model.depth": [1, 2, 3]}).items()
    assert not set(first.values()) & set(keys(base={"model.width": 9}).values())


def test_tuning_gives_every_arm_the_same_points() -> None:
    tune = {"settings": {"model.learning_rate": {"low": 1e-4, "high": 1.0, "log": True}}, "trials": 8}
    study = parse_study("s", {**SMALL, "seeds": 1, "tune": tune})
    cells = Plan(study).cells()
    rates = [[c.settings["model.learning_rate"] for c in cells if c.arm == arm] for arm in study.arms]
    assert rates[0] == rates[1]
    # a Latin hypercube has one point in each eighth of the range
    assert sorted(int((math.log10(rate) + 4) / 4 * 8) for rate in rates[0]) == list(range(8))
    assert study.selection_metric == "validation/accuracy"
    lists = {"settings": {"model.learning_rate": [0.1, 0.2], "model.dropout": [0.0, 0.2, 0.5]}}
    assert len(parse_study("s", {**SMALL, "tune": lists}).tuning.points) == 6


@settings(derandomize=True)
@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_range_stays_inside_and_reaches_its_ends(low: int, size: int, share: float, log: bool) -> None:
    whole = Range(low, low + size, log)
    assert low <= whole.at(share) <= low + size
    assert (whole.at(0.0), whole.at(math.nextafter(1.0, 0.0))) == (low, low + size)
    real = Range(float(low), float(low + size), log)
    assert low * 0.9995 <= real.at(share) <= (low + size) * 1.0005


def test_a_wrong_setting_is_found_before_anything_runs() -> None:
    study = parse_study("s", {"question": "?", "arms": {"a": {}, "b": {"model.depht": 3}}})
    value = parse_study("s", {"question": "?", "vary": {"model.depth": [1, -2]}})
    tuned = parse_study("s", {**SMALL, "tune": {"settings": {"model.dropout": [0.1, 1.5]}}})
    devices = parse_study("s", {**SMALL, "base": {"trainer.devices": 2}})
    search = parse_study("s", {"question": "?", "search": {"settings": {"model.activation": ["relu", "rely"]}}})
    cases = ((study, r"arm b.*model\.depht"), (value, "arm depth=-2"), (tuned, "dropout"), (devices, "devices"))
    for wrong, name in (*cases, (search, "rely")):
        with pytest.raises(InputError, match=name):
            check_settings(wrong)


def test_a_quick_look_has_a_name_of_its_own_two_seeds_and_a_fifth_of_the_epochs(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"base": {"trainer.max_epochs": 20}, "seeds": 7}))
    quick = read_study(path, quick=True)
    assert (quick.name, quick.seeds, quick.base["trainer.max_epochs"]) == ("s-quick", (0, 1), 4)
    path.write_text(
        yaml.safe_dump(SMALL | {"base": {"trainer.max_epochs": 10, "trainer.check_val_every_n_epoch": 5}, "seeds": 7})
    )
    every = "trainer.check_val_every_n_epoch"
    assert (read_study(path, quick=True).base[every], read_study(path).base[every]) == (2, 5)
    path.write_text(yaml.safe_dump(SMALL | {"quick": {"seeds": 3, "data.num_train": 100}}))
    quick = read_study(path, quick=True)
    assert (quick.seeds, quick.base) == ((0, 1, 2), {"data.num_train": 100})
    assert read_study(path, seeds=4).seeds == (0, 1, 2, 3)
    with pytest.raises(InputError, match="--seeds"):
        read_study(path, seeds=0)


@pytest.mark.usefixtures("clean_extensions")
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_that_is_shipped_is_sound_and_survives_being_kept(
    path: Path, quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = path.read_text(encoding="utf-8").splitlines()[1].split()
    name = f"configs/{path.parent.name}/{path.name}"
    monkeypatch.chdir(ROOT)
    assert load_named_extensions(command)[:4] == ["#", "python", "scripts/study.py", name]
    study = read_study(path, quick=quick)
    check_settings(study)
    assert study.claims, "a lesson makes claims"
    assert study.notes
    write_study(study, tmp_path / study.name)
    kept = stored_study(tmp_path / study.name)
    assert (Plan(kept).cells(), kept.claims) == (Plan(study).cells(), study.claims)


def test_settings_flatten_and_nest() -> None:
    flat = {"model.depth": 2, "model.width": [3, 4], "patience": 0}
    assert nest(flat) == {"model": {"depth": 2, "width": [3, 4]}, "patience": 0}
    assert flatten(nest(flat)) == flat


def test_which_metrics_are_to_be_large() -> None:
    assert all(larger_is_better(name) for name in ("test/accuracy", "test/macro_f1", "test/r2", "test/roc_auc"))
    small = ("test/loss", "test/rmse", "test/mae", "test/calibration_error", "train_seconds", "accuracy_gap")
    assert not any(larger_is_better(name) for name in small)


@pytest.mark.parametrize(
    ("status", "metric", "value"),
    [
        ("diverged", "test/accuracy", 0.25),
        ("diverged", "test/loss", None),
        ("failed", "test/accuracy", None),
        ("completed", "train/loss", 0.5),
    ],
)
def test_a_diverged_training_counts_as_guessing(status: str, metric: str, value: float | None) -> None:
    assert RunRecord("a", 0, status=status, metrics={"train/loss": 0.5}, num_classes=4).value(metric) == value


def test_the_guides_examples_are_studies() -> None:
    guide = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block.partition("```")[0]) for block in guide.split("```yaml\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        check_settings(parse_study("guide", {"question": "?", **block}))
    for key in KEYS:
        assert f"`{key}`" in guide
