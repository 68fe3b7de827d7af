"""The search on a made-up surface: it finds the known best, keeps to its time, and promises nothing that is noise."""

import pytest
from response import Surface, settings_with

from project.settings import Settings
from project.studies.explain.bench import Bench, Budget
from project.studies.explain.report import explanation
from project.studies.explain.search import Search


def losses(settings: Settings) -> float:
    """Each cause costs some points; the two of them at once hide each other."""
    decayed, clipped = settings["model.weight_decay"] > 0.3, (settings["trainer.gradient_clip_val"] or 1) < 1
    if decayed and clipped:
        return 0.1
    return 0.86 - 0.3 * decayed - 0.5 * clipped - 0.02 * (settings["model.dropout"] > 0.6)


def test_one_cause_is_found_with_its_effect() -> None:
    found = Surface(losses).search(settings_with("--model.weight_decay=0.5"))
    assert found.chosen is not None
    assert set(found.chosen) == {"model.weight_decay"}
    effect = found.bench.effect(found.chosen, found.size, found.fresh_seeds)
    assert effect.seeds >= 3
    assert effect.low is not None
    assert effect.low < 30 < effect.high
    assert effect.helps


def test_two_causes_that_hide_each_other_are_found_without_the_rest() -> None:
    flags = ["--model.weight_decay=0.5", "--trainer.gradient_clip_val=0.001", "--model.width=256", "--patience=3"]
    flags += ["--model.schedule=cosine", "--model.init_bias=0.1"]
    found = Surface(losses).search(settings_with(*flags))
    assert set(found.chosen) == {"model.weight_decay", "trainer.gradient_clip_val"}


def test_a_remedy_is_tried_first_even_in_no_time() -> None:
    surface = Surface(losses)
    surface.search(settings_with("--model.dropout=0.7"), [["--model.dropout 0.2"]], seconds=3)
    first = [settings for settings in surface.asked if not isinstance(settings["trainer.limit_train_batches"], int)]
    assert first[1]["model.dropout"] == 0.2


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_is_promised_nothing(seed: int) -> None:
    settings = settings_with("--model.width=256", f"--seed_everything={100 * seed}")
    surface = Surface(lambda settings: 0.86 - 0.1 * (settings["model.learning_rate"] > 0.03), noise=0.004)
    explained = explanation(surface.search(settings), 60, "python scripts/train.py")
    assert explained["flags"] == []
    assert explained["command"] == ""


def test_more_epochs_bury_no_other_cause() -> None:
    def accuracy(settings: Settings) -> float:
        return 0.5 + 0.02 * settings["trainer.max_epochs"] - 0.1 * (settings["model.dropout"] > 0.6)

    explained = explanation(Surface(accuracy).search(settings_with("--model.dropout=0.7")), 60, "")
    assert not explained["only_longer_helps"]
    assert [flag.split()[0] for flag in explained["flags"]] == ["--model.dropout"]
    longer = next(advice for advice in explained["longer"] if "trainer.max_epochs" in advice["changes"])
    assert longer["points"] == pytest.approx(10, abs=1)
    alone = explanation(Surface(accuracy).search(settings_with()), 60, "")
    assert alone["only_longer_helps"]
    assert alone["flags"] == ["--trainer.max_epochs 10"]


def test_the_advice_was_tried_on_seeds_that_did_not_choose_it() -> None:
    found = Surface(losses).search(settings_with("--model.weight_decay=0.5", "--model.dropout=0.7"))
    chosen = [t for t in found.bench.trials if t.changes == found.chosen and t.seed in found.fresh_seeds]
    own = {t.seed for t in found.bench.trials if not t.changes and t.seed in found.fresh_seeds}
    assert len(chosen) >= 3
    assert {trial.seed for trial in chosen} <= own
    choosing = {t.seed for t in found.bench.trials if t.changes and t.changes not in (found.chosen, found.keeping)}
    longer = {seed for c in found.longer for seed in found.bench.scores(c, found.size)}
    assert not (choosing - longer) & set(found.fresh_seeds)


def test_whoever_keeps_the_network_gets_advice_too() -> None:
    def accuracy(settings: Settings) -> float:
        return 0.5 + 0.3 * (settings["model.norm"] == "batch") + 0.2 * (settings["model.learning_rate"] < 0.002)

    found = Surface(lambda settings: min(accuracy(settings), 0.8)).search(settings_with("--model.norm=none"))
    assert found.chosen == {"model.norm": "batch"}
    assert set(found.keeping) == {"model.learning_rate"}


@pytest.mark.parametrize(("seconds", "workers"), [(10, 1), (60, 2), (60, 8), (600, 2)])
@pytest.mark.parametrize("epochs", [1, 5, 100])
def test_the_time_is_kept(seconds: float, workers: int, epochs: int) -> None:
    surface = Surface(losses, workers)
    surface.search(settings_with("--model.weight_decay=0.5", f"--trainer.max_epochs={epochs}"), seconds=seconds)
    assert surface.now - 100 <= seconds + 3


def test_a_run_that_can_be_replayed_is_replayed_as_it_is() -> None:
    found = Surface(losses).search(settings_with("--model.weight_decay=0.5"))
    assert {t.settings["data.num_train"] for t in found.bench.trials if t.seed in found.fresh_seeds} <= {10_000, None}


def test_nothing_is_found_where_every_trial_fails() -> None:
    budget = Budget(60, 2)
    failing = Bench(settings_with(), lambda trials, _: [(n, {"status": "failed"}) for n in range(len(trials))], budget)
    found = Search(failing, [])
    found.search()
    explained = explanation(found, 1, "")
    assert (explained["flags"], explained["trials"]) == ([], [])


def test_the_trials_that_are_running_are_named() -> None:
    surface, shown = Surface(lambda _: 0.8), list[str]()
    budget = Budget(1000.0, 2, lambda: surface.now)
    bench = Bench(settings_with(), surface.run, budget, shown.append)
    assert bench.measure()
    shown.clear()
    changes = [{"model.dropout": 0.5}, {"model.optimizer": "sgd", "model.momentum": 0.9}]
    bench.evaluate("trying", changes, bench.longest(1000.0), [1], 1.0)
    assert shown == [
        "trying, 0 of 3 trials done: the run as it is; dropout 0.5",
        "trying, 1 of 3 trials done: dropout 0.5; optimizer sgd, momentum 0.9",
        "trying, 2 of 3 trials done: optimizer sgd, momentum 0.9",
        "trying, 3 of 3 trials done: ended",
    ]
