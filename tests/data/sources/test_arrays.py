"""The arrays source: every way to save arrays gives the same data, and what is wrong with them is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from project.data.datamodule import ImageDataModule
from project.data.settings import DataSettings
from project.data.sources.arrays import NAMES, load_arrays
from project.errors import InputError

Arrays = dict[str, Any]


def made(channels: int | None = 3, num: int = 30, num_test: int = 12) -> Arrays:
    generator = np.random.default_rng(0)
    shape = (5, 4) if channels is None else (5, 4, channels)
    return {
        "x_train": generator.integers(0, 256, (num, *shape), dtype=np.uint8),
        "y_train": np.arange(num) % 3,
        "x_test": generator.integers(0, 256, (num_test, *shape), dtype=np.uint8),
        "y_test": np.arange(num_test) % 3,
    }


def save(folder: Path, arrays: Arrays) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("kind", ["npz", "folder with npz", "npy"])
@pytest.mark.parametrize("channels", [None, 2, 3])
def test_every_way_to_save_gives_the_same(names: tuple[str, ...], kind: str, channels: Any, tmp_path: Path) -> None:
    arrays = made(channels)
    named = dict(zip(names, arrays.values(), strict=True))
    if kind == "npy":
        for name, array in named.items():
            np.save(tmp_path / f"{name}.npy", array)
    else:
        save(tmp_path, named)
    data = load_arrays(tmp_path / "data.npz" if kind == "npz" else tmp_path, 0)
    found = (data.train.images, data.train.labels, data.test.images, data.test.labels)
    for tensor, array in zip(found, arrays.values(), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
    assert (data.train.images.dtype, data.train.labels.dtype) == (torch.uint8, torch.int64)
    assert data.class_names == ("0", "1", "2")
    assert set(data.sha256) == set(names)


def test_a_single_channel_and_a_column_of_targets_lose_that_dimension(tmp_path: Path) -> None:
    arrays = made(1)
    arrays |= {name: arrays[name][:, None].astype(np.uint8) for name in ("y_train", "y_test")}
    data = load_arrays(save(tmp_path, arrays), 0)
    assert data.train.images.shape == (30, 5, 4)
    assert data.train.labels.shape == (30,)


def test_names_of_the_classes(tmp_path: Path) -> None:
    data = load_arrays(save(tmp_path, made() | {"class_names": ["cat", "dog", "owl"]}), 0)
    assert data.class_names == ("cat", "dog", "owl")


def test_a_test_set_is_cut_from_a_pool(tmp_path: Path) -> None:
    arrays = {name: array for name, array in made().items() if "train" in name}
    data, other = (load_arrays(save(tmp_path, arrays), seed) for seed in (0, 1))
    assert data.train.labels.bincount().tolist() == [8, 8, 8]
    assert data.test.labels.bincount().tolist() == [2, 2, 2]
    both = sorted(image.numpy().tobytes() for image in torch.cat([data.train.images, data.test.images]))
    assert both == sorted(image.tobytes() for image in arrays["x_train"])
    assert not torch.equal(data.test.images, other.test.images)


def real_valued(**settings: Any) -> Arrays:
    arrays = made(**settings)
    return arrays | {name: arrays[name] * 0.5 - 3 for name in ("y_train", "y_test")}


def test_real_numbers_are_a_regression_in_their_own_unit(tmp_path: Path) -> None:
    settings = DataSettings(dataset="arrays", root=str(save(tmp_path, real_valued())), batch_size=4)
    datamodule = ImageDataModule(settings, task="regression")
    train = datamodule.splits["train"].numpy()
    numbers = (np.arange(30) % 3 * 0.5 - 3)[train]
    assert datamodule.spec.target_mean == pytest.approx(numbers.mean())
    assert datamodule.spec.target_sd == pytest.approx(numbers.std())
    assert datamodule.spec.class_names == ()
    batch = next(iter(datamodule.evaluation_loader("validation")))[0]
    assert set(batch.targets.tolist()) <= {-3.0, -2.5, -2.0}
    with pytest.raises(InputError, match="regression"):
        _ = ImageDataModule(settings).spec


def test_a_pool_of_real_numbers_is_cut_at_random(tmp_path: Path) -> None:
    arrays = {name: array for name, array in real_valued().items() if "train" in name}
    arrays["y_train"] = np.linspace(0, 1, 30)  # every number is its own: no class to stratify by
    settings = DataSettings(dataset="arrays", root=str(save(tmp_path, arrays)), batch_size=4, num_validation=8)
    datamodule = ImageDataModule(settings, task="regression")
    assert len(datamodule.data.test.labels) == 5
    validation = datamodule.targets("validation")[datamodule.splits["validation"]]
    assert 0.2 < float(validation.mean()) < 0.8  # not the smallest ones


NAN = np.where(np.arange(30) == 7, np.nan, 1.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x_train": np.zeros((30, 5, 4, 3))}, ["x_train", "float64", "uint8"]),
        ({"x_train": np.zeros((30, 5, 4, 3), np.int64)}, ["x_train", "int64", "uint8"]),
        ({"x_train": np.zeros((30, 20), np.uint8)}, ["x_train", "30 × 20"]),
        ({"x_train": np.zeros((30, 3, 32, 32), np.uint8)}, ["x_train", "before"]),
        ({"x_train": np.zeros((30, 5, 5, 3), np.uint8)}, ["one size", "5 × 5 × 3", "5 × 4 × 3"]),
        ({"y_train": np.arange(29)}, ["y_train", "29", "30"]),
        ({"y_train": np.zeros((30, 2), int)}, ["y_train", "30 × 2"]),
        ({"y_train": np.array(["a", "b"] * 15)}, ["y_train", "<U1"]),
        ({"y_train": np.arange(30) - 1}, ["y_train", "-1"]),
        ({"y_train": np.arange(30) * 100_000}, ["y_train", "2900000"]),
        ({"y_test": np.full(12, 7)}, ["class 7"]),
        ({"y_test": np.zeros(12)}, ["whole", "real"]),
        ({"y_train": NAN, "y_test": np.zeros(12)}, ["y_train", "1 missing", "position 7"]),
        ({"y_train": np.full(30, np.inf), "y_test": np.zeros(12)}, ["y_train", "infinite"]),
        ({"y_train": np.full(30, 1e300), "y_test": np.zeros(12)}, ["infinite"]),  # too large for 32 bits
        ({"y_train": np.array([{}] * 30, dtype=object)}, ["y_train", "objects"]),
        ({"y_test": None}, ["no y_test"]),
        ({"x_train": None}, ["x_test", "x_train, y_train"]),
        ({"class_names": ["only one"]}, ["class_names"]),
    ],
)
def test_what_is_refused(changed: Arrays, words: list[str], tmp_path: Path) -> None:
    arrays = {name: array for name, array in (made() | changed).items() if array is not None}
    with pytest.raises(InputError) as caught:
        load_arrays(save(tmp_path, arrays), 0)
    assert "\n" not in caught.value.cause + caught.value.remedy
    for word in words:
        assert word in caught.value.cause


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> Any:
            return (tmp_path / "this must never be made").mkdir, ()

    np.save(tmp_path / "x_train.npy", np.array([Exploit()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="objects"):
        load_arrays(tmp_path, 0)
    assert not (tmp_path / "this must never be made").exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut short", b"\x93NUMPY\1\0", b"something else"])
@pytest.mark.parametrize("name", ["data.npz", "x_train.npy"])
def test_damaged_files(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError):
        load_arrays(tmp_path, 0)


@pytest.mark.parametrize("num", [0, 2])
def test_a_folder_without_one_file(num: int, tmp_path: Path) -> None:
    for number in range(num):
        (tmp_path / f"{number}.npz").touch()
    with pytest.raises(InputError, match=f"{num} .npz files"):
        load_arrays(tmp_path, 0)
    with pytest.raises(InputError, match="does not exist"):
        load_arrays(tmp_path / "nowhere", 0)
