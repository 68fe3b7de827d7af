"""What is tried: never what is learned, never the run's own settings, and every setting that differs goes back."""

import pytest
from response import settings_with

from project.runs.settings import settings_from
from project.settings import nest
from project.studies.explain.candidates import (
    BACK_SETTINGS,
    LONGER_SETTINGS,
    candidates,
    defaults_for,
    key,
    learning_rates,
    merge,
    num_changes,
    suited_numbers,
)

LEARNED = {"data.dataset", "data.root", "data.classes", "data.target", "data.split_seed", "data.num_validation"}
LEARNED |= {"model.task", "seed_everything"}
SICK = {
    "model.optimizer": "sgd",
    "model.learning_rate": 0.5,
    "model.momentum": 0.5,
    "model.weight_decay": 0.5,
    "model.schedule": "constant",
    "model.warmup_fraction": 0.9,
    "model.dropout": 0.8,
    "model.label_smoothing": 0.5,
    "model.init": "zeros",
    "model.init_scale": 3.0,
    "model.init_bias": 1.0,
    "model.norm": "none",
    "model.activation": "sigmoid",
    "model.depth": 7,
    "model.width": 3,
    "data.normalization": "none",
    "data.batch_size": 4096,
    "data.augmentation": "erase",
    "trainer.gradient_clip_val": 0.001,
    "trainer.max_steps": 50,
    "trainer.limit_train_batches": 0.5,
    "trainer.accumulate_grad_batches": 2,
    "trainer.precision": "bf16-mixed",
    "patience": 1,
}
FLAGS = [f"--{name}={value}" for name, value in SICK.items()]
REMEDIES = [["--model.norm batch", "--model.activation relu"], ["--trainer.max_epochs 10"], ["--data.classes [0, 1]"]]


def test_what_is_learned_is_never_changed() -> None:
    settings = settings_with(*FLAGS, "--data.num_validation=4000", "--data.split_seed=3")
    for candidate in candidates(settings, REMEDIES, 100):
        assert not set(candidate.changes) & LEARNED
        settings_from(nest(settings | candidate.changes))  # each can be run


def test_no_candidate_is_the_run_itself_and_none_comes_twice() -> None:
    for flags in ([], FLAGS, ["--model.dropout=0", "--model.weight_decay=0"]):
        settings = settings_with(*flags)
        found = candidates(settings, [["--model.dropout 0", "--model.norm batch"]], 100)
        assert all(settings[name] != value for c in found for name, value in c.changes.items())
        assert len({key(c.changes) for c in found}) == len(found)


@pytest.mark.parametrize("name", SICK)
def test_every_setting_that_differs_goes_back_alone(name: str) -> None:
    settings = settings_with(*FLAGS)
    default = (defaults_for(settings) | suited_numbers(settings))[name]
    along = {"model.optimizer", "model.activation", "model.depth"}
    found = [c.changes for c in candidates(settings, [], 100) if c.kind in ("back", "other") and name in c.changes]
    assert any(change[name] == default and (len(change) == 1 or name in along) for change in found)


def test_all_that_differ_go_back_at_once() -> None:
    settings = settings_with(*FLAGS)
    together = next(c.changes for c in candidates(settings, [], 100) if c.kind == "together")
    defaults = defaults_for(settings)
    assert {name: (settings | together)[name] for name in BACK_SETTINGS} == {n: defaults[n] for n in BACK_SETTINGS}


def test_a_run_on_defaults_has_nothing_to_put_back() -> None:
    assert not [c for c in candidates(settings_with(), [], 10_000) if c.kind in ("back", "together")]


def test_suspects_come_first_and_together() -> None:
    settings = settings_with("--model.norm=none", "--model.activation=sigmoid")
    found = candidates(settings, REMEDIES, 10_000)
    assert [c.changes for c in found[:3]] == [
        {"model.norm": "batch"},
        {"model.activation": "relu"},
        {"model.norm": "batch", "model.activation": "relu"},
    ]
    assert found[3].changes == {"trainer.max_epochs": 10}
    assert found[3].kind == "longer"


def test_more_epochs_and_examples_are_another_kind() -> None:
    for candidate in candidates(settings_with(*FLAGS), REMEDIES, 100):
        assert (candidate.kind == "longer") == bool(set(candidate.changes) & set(LONGER_SETTINGS))


def test_learning_rates_are_factors_of_the_current_one() -> None:
    rates = [c.changes["model.learning_rate"] for c in learning_rates(settings_with("--model.learning_rate=0.02"))]
    assert rates == pytest.approx([0.002, 0.0067, 0.06, 0.2])


def test_smaller_batches_only_where_steps_are_few() -> None:
    def batches(num_steps: int) -> list[int]:
        found = candidates(settings_with(), [], num_steps)
        return [c.changes["data.batch_size"] for c in found if "data.batch_size" in c.changes]

    assert batches(195) == [64]
    assert batches(3210) == []


def test_merged_changes_leave_out_what_the_run_has() -> None:
    settings = settings_with("--model.dropout=0.5")
    assert merge(settings, {"model.dropout": 0.0}, {"model.dropout": 0.5, "model.depth": 3}) == {"model.depth": 3}


def test_another_network_asks_for_more_than_another_number() -> None:
    assert num_changes({"model.optimizer": "adamw", "model.learning_rate": 0.1}) == 1
    assert num_changes({"model.norm": "batch"}) > num_changes({"model.dropout": 0.0})


def test_the_loss_of_another_task_is_never_a_candidate() -> None:
    settings = settings_with("--model.task=regression", "--model.loss=huber", "--model.huber_delta=0.01")
    found = [c.changes for c in candidates(settings, [], 100)]
    assert {"model.huber_delta": 1.0} in found
    assert {"model.loss": "auto"} in found


def test_the_same_number_is_the_same_change() -> None:
    assert key({"model.weight_decay": 0, "model.norm": "batch"}) == key(
        {"model.norm": "batch", "model.weight_decay": 0.0}
    )
    assert key({"model.compile": True}) != key({"model.compile": 1})


@pytest.mark.parametrize("name", ["trainer.callbacks", "trainer.profiler", "trainer.precision", "trainer.max_epochs"])
@pytest.mark.parametrize("value", ["antigravity.Callback", "{class_path: os.system}", "[{class_path: os.system}]"])
def test_a_remedy_that_names_a_class_is_never_tried(name: str, value: str) -> None:
    """A run's remedies may be a stranger's, and the parser of a trial would import the class."""
    settings = settings_with(*FLAGS)
    found = candidates(settings, [["--model.norm batch", f"--{name} {value}"]], 100)
    assert {"model.norm": "batch"} in [candidate.changes for candidate in found]
    assert not [candidate for candidate in found if "os.system" in str(candidate) or "antigravity" in str(candidate)]
