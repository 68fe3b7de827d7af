"""Data made sick here are named, and healthy ones cause no alarm."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, RealSet, write_idx
from scipy.ndimage import gaussian_filter, shift

from project.data.datamodule import ImageDataModule
from project.data.settings import DataSettings
from project.data.sources.load import ImageDataset, ImageSplit
from project.diagnosis.data_examination.examination import examine_data, explain_shift
from project.diagnosis.data_examination.figure import contact_sheet

CLASSES, SIDE, NUM, NUM_TEST = 6, 14, 900, 300
Arrays = dict[str, "np.ndarray[Any, Any]"]


def healthy(seed: int = 0) -> Arrays:
    """Each class is a shape of soft blobs, a little moved and deformed in each picture, on black."""
    rng = np.random.default_rng(seed)
    shapes = np.zeros((CLASSES, SIDE, SIDE))
    for one in shapes:
        for row, column in rng.integers(3, SIDE - 3, (5, 2)):
            one[row, column] += 1
    shapes = gaussian_filter(shapes, (0, 1.2, 1.2))
    shapes *= 190 / shapes.max((1, 2), keepdims=True)
    found: Arrays = {}
    for name, num in (("train", NUM), ("test", NUM_TEST)):
        labels = rng.permutation(np.arange(num) % CLASSES)
        fields = gaussian_filter(rng.normal(size=(num, SIDE, SIDE)), (0, 1.5, 1.5)) * 5
        images = np.stack([shift(shapes[label], rng.normal(0, 0.5, 2), order=1) for label in labels])
        images = images * (1 + 0.5 * fields) - 8
        found[f"{name}_images"] = np.clip(np.rint(images), 0, 255).astype(np.uint8)
        found[f"{name}_labels"] = labels
    return found


def module_of(data: Arrays, num_validation: int = 90) -> ImageDataModule:
    train, test = (
        ImageSplit(torch.from_numpy(data[f"{name}_images"]), torch.from_numpy(data[f"{name}_labels"]).long())
        for name in ("train", "test")
    )
    module = ImageDataModule(DataSettings(dataset="idx", num_validation=num_validation))
    names = tuple("abcdef")
    module.__dict__["data"] = ImageDataset("idx", train, test, names, "made in a test", {})
    return module


def alarms(data: Arrays) -> set[str]:
    findings = [shown.finding for shown in examine_data(module_of(data)).findings]
    return {finding.code for finding in findings if finding.severity != "note"}


def coloured(data: Arrays) -> Arrays:
    """The same pictures in a soft tint."""
    tint = np.array([1.0, 0.8, 0.6])
    for name in ("train_images", "test_images"):
        data[name] = np.rint(data[name][..., None] * tint).astype(np.uint8)
    return data


in_both = pytest.mark.parametrize("tint", [lambda data: data, coloured], ids=["gray", "colour"])


@in_both
@pytest.mark.parametrize("seed", range(4))
def test_healthy_data_cause_no_alarm(seed: int, tint: Callable[[Arrays], Arrays]) -> None:
    assert alarms(tint(healthy(seed))) == set()


def leak(d: Arrays) -> None:
    d["test_images"][:30], d["test_labels"][:30] = d["train_images"][:30], d["train_labels"][:30]


def leak_moved(d: Arrays) -> None:
    d["test_images"][:30] = np.roll(d["train_images"][:30], 1, axis=2)
    d["test_labels"][:30] = d["train_labels"][:30]


def conflict(d: Arrays) -> None:
    d["train_images"][-30:] = d["train_images"][:30]
    d["train_labels"][-30:] = (d["train_labels"][:30] + 1) % CLASSES


def noise(d: Arrays) -> None:
    rng = np.random.default_rng(1)
    wrong = rng.random(NUM) < 0.25
    d["train_labels"][wrong] = (d["train_labels"][wrong] + rng.integers(1, CLASSES, wrong.sum())) % CLASSES


def pair(d: Arrays) -> None:
    d["train_labels"][(d["train_labels"] == 2) & (np.random.default_rng(1).random(NUM) < 0.45)] = 5


def shuffle(d: Arrays) -> None:
    d["train_labels"] = np.random.default_rng(1).permutation(d["train_labels"])


def shuffle_test(d: Arrays) -> None:
    d["test_labels"] = np.random.default_rng(1).permutation(d["test_labels"])


def mark(d: Arrays) -> None:
    d["train_images"][:, 0, 0] = d["train_labels"] * 40


def missing(d: Arrays) -> None:
    kept = d["test_labels"] != 3
    d["test_images"], d["test_labels"] = d["test_images"][kept], d["test_labels"][kept]


def imbalance(d: Arrays) -> None:
    kept = (d["train_labels"] != 3) | (np.random.default_rng(1).random(NUM) < 0.1)
    d["train_images"], d["train_labels"] = d["train_images"][kept], d["train_labels"][kept]


def blank(d: Arrays) -> None:
    d["train_images"][:20] = 0


def invert(d: Arrays) -> None:
    d["test_images"] = 255 - d["test_images"]


def turn(d: Arrays) -> None:
    d["test_images"] = np.rot90(d["test_images"], 1, (1, 2)).copy()


def roughen(d: Arrays) -> None:
    values = d["test_images"] + np.random.default_rng(1).normal(0, 25, d["test_images"].shape)
    d["test_images"] = np.clip(values, 0, 255).astype(np.uint8)


def rename(d: Arrays) -> None:
    d["test_labels"] = (d["test_labels"] + 1) % CLASSES


def erase(d: Arrays) -> None:
    d["test_images"][:, 5:8] = 0


def halve(d: Arrays) -> None:
    d["train_images"][:, :, :6] = d["test_images"][:, :, :6] = 0


def coarsen(d: Arrays) -> None:
    d["train_images"], d["test_images"] = d["train_images"] // 64 * 64, d["test_images"] // 64 * 64


def clip(d: Arrays) -> None:
    d["train_images"], d["test_images"] = np.minimum(d["train_images"], 60), np.minimum(d["test_images"], 60)


@in_both
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (leak, "copies_across_splits"),
        (leak_moved, "copies_across_splits"),
        (conflict, "conflicting_labels"),
        (noise, "label_noise"),
        (pair, "pair_noise"),
        (shuffle, "unrelated_labels"),
        (shuffle_test, "unrelated_labels"),
        (mark, "shortcut"),
        (missing, "missing_class"),
        (imbalance, "class_imbalance"),
        (blank, "blank_pictures"),
        (invert, "shift_inverted"),
        (turn, "shift_rotated"),
        (roughen, "shift_noisy"),
        (rename, "renamed_classes"),
        (erase, "dead_region"),
        (halve, "dead_region"),
        (coarsen, "few_gray_levels"),
        (clip, "clipped"),
    ],
)
def test_sick_data_are_named(change: Callable[[Arrays], None], code: str, tint: Callable[[Arrays], Arrays]) -> None:
    data = healthy()
    change(data)
    assert code in alarms(tint(data))


def test_labels_that_only_the_colours_show_are_related_to_the_pictures() -> None:
    rng = np.random.default_rng(0)
    colours = np.array([[200, 40, 40], [0, 126, 40], [81, 81, 100]])  # of about the same gray level
    data = healthy()
    for name in ("train", "test"):
        labels = data[f"{name}_labels"] = data[f"{name}_labels"] % 3
        noise = rng.normal(0, 15, (len(labels), SIDE, SIDE, 3))
        data[f"{name}_images"] = np.clip(colours[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
    assert not alarms(data) & {"unrelated_labels", "label_noise", "pair_noise", "shift"}


def test_the_sheet_shows_colours() -> None:
    data = healthy()
    leak(data)
    findings = examine_data(module_of(coloured(data))).findings
    shown = contact_sheet(findings).axes[0].images
    assert shown
    assert all(np.asarray(image.get_array()).shape == (SIDE, SIDE, 3) for image in shown)


def test_a_mark_in_training_is_said_to_be_there_only() -> None:
    data = healthy()
    mark(data)
    sentences = {shown.finding.code: shown.finding.sentence for shown in examine_data(module_of(data)).findings}
    assert "in training only" in sentences["shortcut"]
    data["test_images"][:, 0, 0] = data["test_labels"] * 40
    sentences = {shown.finding.code: shown.finding.sentence for shown in examine_data(module_of(data)).findings}
    assert "only" not in sentences["shortcut"]


def test_validation_against_test() -> None:
    data = healthy()
    assert explain_shift(module_of(data, 300)) == []
    invert(data)
    assert [finding.code for finding in explain_shift(module_of(data, 300))] == ["shift_inverted"]
    assert explain_shift(module_of(data, 0)) == []  # no validation, nothing to compare


def test_regression_needs_no_classes() -> None:
    data = healthy()
    leak(data)
    module = module_of(data)
    module.task = "regression"
    assert {shown.finding.code for shown in examine_data(module).findings} >= {"copies_across_splits"}


def test_the_sheet_has_a_row_for_each_finding_with_pictures() -> None:
    data = healthy()
    leak(data)
    findings = examine_data(module_of(data)).findings
    rows = [shown for shown in findings if shown.examples]
    axis = contact_sheet(findings).axes[0]
    assert len(axis.images) == sum(min(len(shown.examples), 5) for shown in rows)
    assert any("copies across splits" in text.get_text() for text in axis.texts)


@pytest.mark.parametrize("flag", ["--data", "--examine_data"])
def test_the_script(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = healthy()
    leak(data)
    for prefix, name in (("train", "train"), ("t10k", "test")):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", data[f"{name}_images"])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", data[f"{name}_labels"])
    monkeypatch.chdir(tmp_path)
    script = str(ROOT / "scripts" / "diagnose.py")
    words = [flag, "--data.dataset", "idx", f"--data.root={tmp_path}", "--data.num_validation=90", "--figure", "a.png"]
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(script, run_name="__main__")
    assert leaving.value.code == 0
    assert "810 train, 90 validation, 300 test" in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("classes", [None, [3, 8]])
def test_the_real_sets_cause_no_alarm(real_set: RealSet, classes: list[int] | None) -> None:
    settings = DataSettings(
        dataset=real_set.name, root=str(real_set.root), download=False, num_train=4000, split_seed=1, classes=classes
    )
    findings = [shown.finding for shown in examine_data(ImageDataModule(settings)).findings]
    assert {finding.code for finding in findings if finding.severity != "note"} == set()
