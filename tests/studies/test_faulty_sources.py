"""The faults that the study leaks_shift.yaml puts into FashionMNIST."""

from collections.abc import Callable

import pytest
import torch
from conftest import ROOT

from project.data.settings import DataSettings
from project.data.sources.load import ImageDataset, ImageSplit
from project.data.sources.table import SOURCES, Source
from project.extensions import load_extension


@pytest.fixture
def faulty(clean_extensions: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ImageDataset]:
    """Load a faulty set, made of 8 training and 3 test pictures that stand in for FashionMNIST's."""
    images = torch.randint(0, 256, (11, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    train, test = ImageSplit(images[:8], torch.arange(8)), ImageSplit(images[8:], torch.tensor([20, 21, 22]))
    data = ImageDataset("fashion_mnist", train, test, tuple("abc"), "here", {"train": "1"})
    monkeypatch.setitem(SOURCES, "fashion_mnist", Source(lambda settings: data))
    load_extension(ROOT / "configs" / "studies" / "faulty_sources.py")
    return lambda name: SOURCES[name].load(DataSettings(dataset=name))


def test_every_second_training_picture_is_one_of_test(faulty: Callable[[str], ImageDataset]) -> None:
    clean, leak = faulty("fashion_mnist"), faulty("fashion_mnist_leak")
    assert leak.train.labels.tolist() == [20, 1, 21, 3, 22, 5, 20, 7]
    assert torch.equal(leak.train.images[::2], clean.test.images[[0, 1, 2, 0]])
    assert torch.equal(leak.train.images[1::2], clean.train.images[1::2])
    assert torch.equal(leak.test.images, clean.test.images)
    assert leak.sha256 != clean.sha256


def test_a_shift_changes_the_test_pictures_alone(faulty: Callable[[str], ImageDataset]) -> None:
    clean, moved, dark = (faulty(name) for name in ("fashion_mnist", "fashion_mnist_moved", "fashion_mnist_dark"))
    for shifted in (moved, dark):
        assert torch.equal(shifted.train.images, clean.train.images)
        assert torch.equal(shifted.test.labels, clean.test.labels)
    assert torch.equal(moved.test.images[:, 1:, 1:], clean.test.images[:, :-1, :-1])
    assert moved.test.images[:, 0].sum() == moved.test.images[:, :, 0].sum() == 0
    assert torch.equal(dark.test.images, (clean.test.images.double() / 2).floor().to(torch.uint8))
    assert len({value for data in (moved, dark) for value in data.sha256.values()}) == 3  # one training set, two tests
