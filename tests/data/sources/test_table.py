"""Every row of the table of sources gives what the project expects of data, or says what is missing."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_idx_folder

from project.data.settings import DataSettings
from project.data.sources.arrays import NAMES
from project.data.sources.load import ImageDataset
from project.data.sources.table import SOURCES
from project.errors import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the sources idx and arrays, and nothing for the others."""
    folder = make_idx_folder(tmp_path_factory.mktemp("data"))
    for name in NAMES[0]:
        np.save(folder / f"{name}.npy", np.zeros((12, 5, 4), np.uint8) if name.startswith("x") else np.arange(12) % 2)
    return folder


def load(name: str, root: Path) -> ImageDataset | None:
    """What a source gives from a folder; None where it says that something is missing."""
    settings = DataSettings(dataset=name, root=str(root), download=False)
    try:
        data: ImageDataset = SOURCES[name].load(settings)
    except InputError:
        return None
    return data


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_source_gives(name: str, root: Path) -> None:
    assert set(SOURCES[name].decided_by) <= {setting.name for setting in fields(DataSettings)}
    data, again = load(name, root), load(name, root)
    assert (data is None) == (again is None)
    assert data is not None or name not in ("idx", "arrays")
    if data is None or again is None:
        return
    assert data.name == name
    for split, same in ((data.train, again.train), (data.test, again.test)):
        assert torch.equal(split.images, same.images)
        assert torch.equal(split.labels, same.labels)
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == data.train.images.shape[1:]
        assert split.images.ndim in (3, 4)  # (n, height, width), and channels
        assert split.labels.shape == split.images.shape[:1]
        assert split.labels.dtype in (torch.int64, torch.float32)
        if data.class_names:
            assert split.labels.min() >= 0
            assert split.labels.max() < len(data.class_names)
