"""What runs of one process share of their data: all that is the same, and nothing that is not."""

from pathlib import Path
from typing import Any

import pytest
from conftest import make_picture_folder

from project.runs.parser import settings_of
from project.studies.running import study_run
from project.studies.running.study_run import shared_datamodule


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_run, "_loaded", {})


def shared(root: Path, **data: Any) -> Any:
    return shared_datamodule(settings_of({"data": {"root": str(root), "batch_size": 4} | data}))


def test_label_noise_is_not_shared_with_runs_that_have_none(idx_folder: Path) -> None:
    clean = shared(idx_folder, dataset="idx")
    next(iter(clean.train_dataloader()))
    noisy = shared(idx_folder, dataset="idx", label_noise=1.0)
    assert noisy.data is clean.data
    assert noisy.resident is not clean.resident
    next(iter(noisy.train_dataloader()))
    other_split = shared(idx_folder, dataset="idx", label_noise=1.0, split_seed=1)
    assert other_split.resident is not noisy.resident
    again = shared(idx_folder, dataset="idx", label_noise=1.0, split_seed=1)
    assert again.resident is other_split.resident


def test_pictures_of_another_size_or_cut_are_loaded_anew(tmp_path: Path) -> None:
    photos = make_picture_folder(tmp_path, 30)
    first = shared(photos, dataset="folder", size=8)
    assert first.spec.shape == (8, 8, 3)
    assert shared(photos, dataset="folder", size=9).spec.shape == (9, 9, 3)
    assert shared(photos, dataset="folder", size=8).data is first.data
    assert shared(photos, dataset="folder", size=8, split_seed=1).data is not first.data
