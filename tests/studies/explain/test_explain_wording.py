"""How measured effects are put into words; what is found is tested elsewhere."""

from response import Surface, settings_with

from project.studies.explain.effects import paired_effect
from project.studies.explain.report import change_words, effect_words, effects_table, explanation, flag_words


def test_effects() -> None:
    assert effect_words(paired_effect([83.1], [80.0])) == "+3.1 points"
    assert effect_words(paired_effect([80.0, 80.0], [80.5, 80.5])) == "−0.5 points"  # two equal ones tell no spread
    assert effect_words(paired_effect([80.0] * 4, [80.5] * 4)) == "−0.5 points (−0.5 to −0.5)"
    assert effect_words(paired_effect([], [])) == "not tried in time"


def test_changes_and_flags() -> None:
    settings = settings_with("--model.weight_decay=0.5", "--trainer.gradient_clip_val=0.1", "--data.augmentation=erase")
    changes = {"model.weight_decay": 0.0, "trainer.gradient_clip_val": None}
    words = "weight decay 0 instead of 0.5, gradient clipping off instead of 0.1"
    assert change_words(settings, changes) == words
    assert flag_words({"trainer.gradient_clip_val": None, "model.width": [8, 4], "model.depth": 2}) == [
        "--trainer.gradient_clip_val null",
        "--model.width '[8, 4]'",
        "--model.depth 2",
    ]


def test_the_advice_names_effect_interval_seeds_epochs_and_examples() -> None:
    surface = Surface(lambda settings: 0.8 - 0.3 * (settings["model.weight_decay"] > 0.3), noise=0.0)
    explained = explanation(surface.search(settings_with("--model.weight_decay=0.5")), 60, "python scripts/train.py")
    start = "What helps: weight decay 0.05 instead of 0.5: +30.0 points (30.0 to 30.0; "
    assert explained["sentence"].startswith(start)
    assert "seeds, 5 epochs on 10,000 examples)" in explained["sentence"]
    assert explained["command"] == "python scripts/train.py --model.weight_decay 0.05"
    assert effects_table(explained).row_count == min(len(explained["effects"]), 14)


def test_nothing_helps() -> None:
    explained = explanation(Surface(lambda _: 0.8, noise=0.0).search(settings_with()), 60, "python scripts/train.py")
    number = len({str(trial["changes"]) for trial in explained["trials"] if trial["changes"]})
    assert explained["sentence"].startswith(f"None of the {number} changes that were tried helps beyond noise.")
