"""Fixtures that several test files share: made-up data sets, the real ones, and a clean command line."""

import logging
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from project import extensions
from project.data.sources.load import ImageDataset, load_dataset
from project.errors import InputError

ROOT = Path(__file__).parent.parent

torch.set_num_threads(1)  # several processes test at once: more threads would wait for each other


REAL = {"fashion_mnist": "real_data", "mnist": "real_mnist"}
"""The fixture that gives the folder of each real data set."""


class RealSet(NamedTuple):
    """A real data set, and the folder from which the project loads it."""

    name: str
    root: Path

    def load(self) -> ImageDataset:
        return load_dataset(self.name, self.root, download=False)


def folder_with(name: str) -> Path:
    """The folder from which the project loads a real data set: MLP_TEST_DATA, or `data`, into which it is fetched.

    Raises:
        InputError: If it is not there and cannot be fetched; what MLP_TEST_DATA names must have it.
    """
    named = os.environ.get("MLP_TEST_DATA")
    root = Path(named) if named else ROOT / "data"
    load_dataset(name, root, download=not named)
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder from which the project loads FashionMNIST, fetched as in a user's first run if it is not there yet."""
    try:
        return folder_with("fashion_mnist")
    except InputError as error:
        pytest.fail(f"{error.cause} {error.remedy}")


@pytest.fixture(scope="session")
def real_mnist() -> Path:
    """A folder from which the project loads MNIST, which no package registry has: not every machine can fetch it."""
    try:
        return folder_with("mnist")
    except InputError as error:
        if "MLP_TEST_DATA" in os.environ:
            pytest.fail(f"{error.cause} {error.remedy}")
        pytest.skip(f"this test needs MNIST's files: {error.cause}")


@pytest.fixture(scope="session", params=sorted(REAL))
def real_set(request: pytest.FixtureRequest) -> RealSet:
    """Both real data sets, one after the other."""
    return RealSet(request.param, request.getfixturevalue(REAL[request.param]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use real data: `-m real_data` chooses them."""
    for item in items:
        if {*REAL.values(), "real_set"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("real_data")


def write_idx(path: Path, array: "np.ndarray[tuple[int, ...], np.dtype[Any]]") -> None:
    """Write an IDX file by its definition: two zero bytes, type 8, dimensions, big-endian sizes, bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def make_idx_folder(
    folder: Path, num_train: int = 240, num_test: int = 57, num_classes: int = 3, side: int = 8
) -> Path:
    """Four IDX files of pictures that can be told apart: each class is bright in stripes of its own, plus noise."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, num in (("train", num_train), ("t10k", num_test)):
        labels = np.arange(num) % num_classes
        images = generator.integers(0, 128, (num, side, side + 1))
        for index, label in enumerate(labels):
            images[index, label::num_classes] += 100
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
    return folder


TINTS = {"red": (200, 60, 60), "green": (60, 180, 60), "blue": (60, 60, 200)}


def make_picture_folder(root: Path, num: int) -> Path:
    """JPEG files of mixed sizes: soft noise in three tints."""
    generator = np.random.default_rng(0)
    for number in range(num):
        name = list(TINTS)[number % 3]
        width, height = (int(side) for side in generator.integers(40, 120, 2))
        noise = generator.integers(0, 120, (height // 16 + 1, width // 16 + 1, 3)) + np.array(TINTS[name]) // 2
        picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8)).resize((width, height))
        (root / name).mkdir(parents=True, exist_ok=True)
        picture.save(root / name / f"{number}.jpg")
    return root


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small data set of three classes, 240 training and 57 test pictures of 8 by 9 pixels. No test may change it."""
    folder = make_idx_folder(tmp_path_factory.mktemp("idx"))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    yield folder
    assert before == {path: path.read_bytes() for path in folder.iterdir()}, "a test changed what all tests share"


@pytest.fixture
def small_run(idx_folder: Path, tmp_path: Path) -> list[str]:
    """Flags of a run that takes a second: add to them."""
    return [
        "--data.dataset=idx",
        f"--data.root={idx_folder}",
        "--data.num_validation=40",
        "--data.batch_size=32",
        "--model.width=16",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=2",
        f"--run_root={tmp_path / 'runs'}",
    ]


@pytest.fixture(autouse=True)
def clean_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run folder inherited from another test, and no log handlers left behind."""
    monkeypatch.delenv("MLP_RUN_FOLDER", raising=False)
    logger = logging.getLogger("project")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


@pytest.fixture
def clean_extensions() -> Iterator[None]:
    """Every table, every module and the environment as they were before."""
    before = {name: dict(rows) for name, rows in extensions._tables().items()}
    environment = os.environ.get(extensions._INHERITED)
    yield
    for name, rows in extensions._tables().items():
        rows.clear()
        rows.update(before[name])
    for path in extensions._loaded:
        sys.modules.pop(path.stem, None)
    extensions._loaded.clear()
    os.environ.pop(extensions._INHERITED, None)
    if environment is not None:
        os.environ[extensions._INHERITED] = environment
