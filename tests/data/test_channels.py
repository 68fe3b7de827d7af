"""Pictures of several channels: each channel is treated as a gray picture would be, and gray ones are as before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from project.data import augmentation
from project.data.augmentation import MIXES, ON_IMAGES, Batch, build_augmentation, rotate
from project.data.channels import drawable, gray
from project.data.datamodule import ImageDataModule
from project.data.normalization import fit_normalization
from project.data.settings import DataSettings
from project.task import DataSpec


def pictures(channels: int, num: int = 6, height: int = 9, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, height, width, channels), dtype=torch.uint8, generator=generator)


def test_gray_levels_are_pillows() -> None:
    images = pictures(3)
    expected = np.stack([np.asarray(Image.fromarray(image.numpy()).convert("L")) for image in images])
    assert np.abs(gray(images).numpy().astype(int) - expected).max() <= 1  # Pillow rounds in 16 bits
    assert torch.equal(gray(images.float()).round(), gray(images).float())


def test_gray_of_other_numbers_of_channels_is_their_mean() -> None:
    images = pictures(4)
    torch.testing.assert_close(gray(images.float()), images.float().mean(3))
    one = images[..., 0]
    assert gray(one) is one
    assert drawable(one) is one
    assert drawable(pictures(3)).shape == (6, 9, 7, 3)
    assert drawable(pictures(2)).shape == (6, 9, 7)
    assert gray(images[:0]).shape == (0, 9, 7)


@pytest.mark.parametrize("name", [*ON_IMAGES, *MIXES])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_augmentation_does_the_same_to_every_channel(name: Any, channels: int) -> None:
    images, targets = pictures(channels), torch.arange(6)
    augment = build_augmentation([name])
    torch.manual_seed(3)
    found = augment(Batch(images, targets))
    for channel in range(channels):
        torch.manual_seed(3)
        alone = augment(Batch(images[..., channel], targets))
        torch.testing.assert_close(found.images[..., channel], alone.images)
        assert found.weight == alone.weight
    assert found.images.shape == images.shape


def test_rotation_does_the_same_to_every_channel() -> None:
    images, degrees = pictures(3), torch.linspace(-45, 45, 6)
    found = rotate(images, degrees)
    for channel in range(3):
        torch.testing.assert_close(found[..., channel], rotate(images[..., channel], degrees))


def test_shifting_moves_whole_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(3, num=1)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor([[[1]], [[4]]]))
    moved = augmentation.shift(images)[0]  # offsets from 0 to 4 stand for −2 to 2
    expected = np.zeros((9, 7, 3), np.uint8)
    expected[1:, :-2] = images[0, :-1, 2:].numpy()
    np.testing.assert_array_equal(moved.numpy(), expected)


@pytest.mark.parametrize("mode", ["standardize", "feature_standardize"])
def test_normalization_is_numpys_with_the_channel_last(mode: Any) -> None:
    images, indices = pictures(3, num=20), torch.arange(0, 20, 2)
    flat = images.numpy()[::2].reshape(10, -1).astype(np.float64)
    axis = None if mode == "standardize" else 0
    expected = (flat - flat.mean(axis)) / flat.std(axis)
    found = fit_normalization(mode, images, indices)(images[indices])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_spec_of_a_picture() -> None:
    one, three = DataSpec(4, 5, 2, "multiclass", ("a", "b")), DataSpec(4, 5, 2, "multiclass", ("a", "b"), channels=3)
    assert (one.shape, one.num_features) == ((4, 5), 20)
    assert (three.shape, three.num_features) == ((4, 5, 3), 60)


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("flags", [{}, {"augmentation": ["shift", "erase", "cutmix"]}])
def test_batches_keep_their_channels(channels: int, flags: dict[str, Any], tmp_path: Path) -> None:
    images = pictures(channels, num=40).numpy()
    np.savez(tmp_path / "data.npz", x_train=images, y_train=np.arange(40) % 2)
    datamodule = ImageDataModule(DataSettings(dataset="arrays", root=str(tmp_path), batch_size=8, **flags))
    assert datamodule.spec.channels == channels
    assert datamodule.normalization(next(iter(datamodule.train_dataloader())).images).shape == (8, 63 * channels)
    (batch, _), *_ = datamodule.evaluation_loader("test")
    assert batch.images.shape[1:] == (9, 7, channels)
