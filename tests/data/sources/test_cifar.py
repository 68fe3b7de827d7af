"""CIFAR-10 as published, in small: fetched from a local server and checked; what fails the check is never opened."""

import hashlib
import io
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_load import serving  # type: ignore[import-not-found]
from torchvision.datasets import CIFAR10

from project.data.settings import DataSettings
from project.data.sources.cifar import CLASS_NAMES, load_cifar10
from project.data.sources.table import SOURCES
from project.errors import InputError

FOLDER = "cifar-10-batches-py"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of a small CIFAR-10: 20 pictures in each batch, in the published format."""
    generator = np.random.default_rng(0)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    files = {
        name: pickle.dumps(
            {
                "data": generator.integers(0, 256, (20, 3072), dtype=np.uint8),
                "labels": [number % 10 for number in range(20)],
            }
        )
        for name in names
    }
    files["batches.meta"] = pickle.dumps({"label_names": list(CLASS_NAMES)})
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(files[name])] for name in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(files["test_batch"])]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(files["batches.meta"])})
    return files


def put(root: Path, files: dict[str, bytes]) -> Path:
    (root / FOLDER).mkdir(parents=True)
    for name, content in files.items():
        (root / FOLDER / name).write_bytes(content)
    return root


def archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_pictures_are_red_green_and_blue_planes_put_together(files: dict[str, bytes], tmp_path: Path) -> None:
    data = load_cifar10(put(tmp_path, files), download=False)
    assert (data.train.images.shape, data.test.images.shape) == ((100, 32, 32, 3), (20, 32, 32, 3))
    rows: Any = pickle.loads(files["data_batch_1"])["data"]  # noqa: S301 - made above
    for channel in range(3):  # a row has 1,024 red values, then green, then blue, each row by row
        plane = rows[3][1024 * channel : 1024 * (channel + 1)].reshape(32, 32)
        np.testing.assert_array_equal(data.train.images[3, :, :, channel].numpy(), plane)
    assert data.train.labels[:12].tolist() == [*range(10), 0, 1]
    assert data.train.images.is_contiguous()
    assert set(data.sha256) == {"train-images", "train-labels", "test-images", "test-labels"}


def test_download(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    packed = archive(files)
    with serving({"cifar-10-python.tar.gz": packed}) as (address, asked):
        monkeypatch.setattr(CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed + b"changed"))
        with pytest.raises(InputError, match=r"cifar-10-python\.tar\.gz"):
            load_cifar10(tmp_path)
        assert not [path for path in tmp_path.rglob("*") if path.suffix != ".lock"]
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed))
        num_requests = len(asked)
        first = load_cifar10(tmp_path)
        assert len(asked) > num_requests
        num_requests = len(asked)
        assert load_cifar10(tmp_path).sha256 == first.sha256
        assert len(asked) == num_requests
    names = {path.name for path in tmp_path.iterdir() if path.suffix != ".lock"}
    assert names == {FOLDER}


def test_a_file_that_fails_its_check_is_not_opened(files: dict[str, bytes], tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> Any:
            return (tmp_path / "this must never be made").mkdir, ()

    put(tmp_path, files | {"data_batch_2": pickle.dumps(Exploit())})
    for download in (False, True):
        with pytest.raises(InputError, match="MD5"):
            load_cifar10(tmp_path, download)
    assert not (tmp_path / "this must never be made").exists()
    assert (tmp_path / FOLDER / "data_batch_1").exists()


def test_no_download_means_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="switched off"):
        load_cifar10(tmp_path / "data", download=False)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["cifar10", "kmnist"])
def test_a_torchvision_that_cannot_be_imported(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(InputError, match=r"torchvision cannot be imported \(.*torchvision"):
        SOURCES[name].load(DataSettings(dataset=name, root=str(tmp_path)))
