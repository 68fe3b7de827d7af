"""Every source of data, every kind of bad file, and the reader compared with torchvision's and with struct."""

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import io
import math
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, RealSet
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import datasets as published

from project.data.sources import download, known_sets, load
from project.data.sources import idx as idx_files
from project.data.sources.idx import read_idx, write_idx
from project.data.sources.known_sets import KnownSet
from project.data.sources.load import load_dataset
from project.errors import InputError

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = STEMS
# As published for the uncompressed files, and repeated by many other readers of these sets.
# fmt: off
MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
    "fashion_mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965"),
}
# fmt: on
FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


def idx(*sizes: int, content: bytes, element_type: int = 8) -> bytes:
    """An IDX file by hand, from the format's description."""
    return bytes((0, 0, element_type, len(sizes))) + b"".join(struct.pack(">I", size) for size in sizes) + content


def small_files(
    num_train: int = 30, num_test: int = 12, height: int = 5, width: int = 4, num_classes: int = 10
) -> dict[str, bytes]:
    """The four files of a small set, by name; every class occurs in it."""
    rng = np.random.default_rng(0)
    files = {}
    for images, labels, n in ((TRAIN_IMAGES, TRAIN_LABELS, num_train), (TEST_IMAGES, TEST_LABELS, num_test)):
        files[images] = idx(n, height, width, content=rng.bytes(n * height * width))
        files[labels] = idx(n, content=bytes(i % num_classes for i in range(n)))
    return files


def put(folder: Path, files: dict[str, bytes], gzipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (pack(files) if gzipped else files).items():
        (folder / name).write_bytes(content)
    return folder


def pack(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{stem}.gz": gzip.compress(content, 1) for stem, content in files.items()}


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of a small set that passes for MNIST and for FashionMNIST while the test runs."""
    files = small_files()
    for name, known in list(known_sets.KNOWN_SETS.items()):
        small = KnownSet(
            folder=known.folder,
            class_names=known.class_names,
            shapes=((30, 5, 4), (12, 5, 4)),
            sha256={stem: hashlib.sha256(content).hexdigest() for stem, content in files.items()},
        )
        monkeypatch.setitem(known_sets.KNOWN_SETS, name, small)
    return files


@pytest.fixture(autouse=True)
def no_debian_folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine where Debian's package happens to be installed must not change what the tests see."""
    if request.node.get_closest_marker("real_data") is None:
        monkeypatch.setattr(load, "DEBIAN_FOLDER", tmp_path / "no-debian-package")


def files_of(dataset: load.ImageDataset) -> dict[str, bytes]:
    """The four uncompressed files of a data set, in whatever form it was found."""
    files = {}
    for split, images, labels in ((dataset.train, *STEMS[:2]), (dataset.test, *STEMS[2:])):
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        files[images] = idx(*split.images.shape, content=split.images.numpy().tobytes())
        files[labels] = idx(len(split.labels), content=split.labels.to(torch.uint8).numpy().tobytes())
    return files


@contextlib.contextmanager
def refused(*words: object) -> Iterator[None]:
    """Expect an `InputError` on one line whose cause has all these words, and which has a remedy."""
    with pytest.raises(InputError) as caught:
        yield
    assert [word for word in words if str(word) not in caught.value.cause] == []
    assert caught.value.remedy
    assert "\n" not in caught.value.cause + caught.value.remedy


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Expect that Python and NumPy need little memory; a table of the interpreter may grow just then."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


class TestRealFiles:
    def test_same_as_torchvision_plain_and_gzipped(self, real_set: RealSet, tmp_path: Path) -> None:
        name, folder = real_set.name, Path(FOLDERS[real_set.name]) / "raw"
        files = files_of(real_set.load())
        for stem, md5 in zip(STEMS, MD5[name], strict=True):
            assert hashlib.md5(files[stem], usedforsecurity=False).hexdigest() == md5
        put(tmp_path / "plain" / folder, files)
        put(tmp_path / "gzipped" / folder, files, gzipped=True)
        reference = getattr(published, FOLDERS[name])
        for root in (tmp_path / "plain", tmp_path / "gzipped"):
            dataset = load_dataset(name, root, download=False)
            for split, train in ((dataset.train, True), (dataset.test, False)):
                expected = reference(tmp_path / "plain", train=train)
                assert torch.equal(split.images, expected.data)
                assert torch.equal(split.labels, expected.targets)
            assert str(root) in dataset.source
            assert dataset.name == name
        if name == "fashion_mnist":
            assert list(dataset.class_names) == reference.classes
        else:
            assert list(dataset.class_names) == [words[0] for words in reference.classes]

    def test_one_flipped_bit_is_refused(self, real_data: Path, tmp_path: Path) -> None:
        files = files_of(load_dataset("fashion_mnist", real_data))
        content = bytearray(files[TEST_IMAGES])
        content[5_000_000] ^= 4
        copy = put(tmp_path / "FashionMNIST" / "raw", files | {TEST_IMAGES: bytes(content)})
        with refused("SHA-256", copy / TEST_IMAGES):
            load_dataset("fashion_mnist", tmp_path, download=False)


class TestReader:
    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
        content=st.randoms(use_true_random=False),
        gzipped=st.booleans(),
    )
    def test_round_trip_against_struct(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], content: random.Random, gzipped: bool
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "round-trip"
        values = content.randbytes(int(np.prod(sizes)))
        array = torch.tensor(list(values), dtype=torch.uint8).reshape(sizes)
        write_idx(path, array)
        assert path.read_bytes() == idx(*sizes, content=values)
        if gzipped:
            path.write_bytes(gzip.compress(path.read_bytes()))
        assert torch.equal(read_idx(path, (None,) * len(sizes)), array)
        assert torch.equal(read_idx(path, tuple(sizes)), array)

    def test_several_gzip_members_are_one_file(self, tmp_path: Path) -> None:
        content = idx(3, content=b"\1\2\3")
        (tmp_path / "x").write_bytes(gzip.compress(content[:9]) + gzip.compress(content[9:]))
        assert read_idx(tmp_path / "x", (None,)).tolist() == [1, 2, 3]

    def test_plain_files_are_mapped_and_never_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "images"
        content = idx(40_000, 28, 28, content=bytes(40_000 * 784))
        path.write_bytes(content)
        path.chmod(stat.S_IRUSR)
        with little_memory():  # the file has 31 million bytes
            images = read_idx(path, (None, None, None))
        images[0] = 7
        assert images[0, 0, 0] == 7
        assert path.read_bytes() == content

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "labels"
        write_idx(path, torch.arange(3, dtype=torch.uint8))

        def fail(descriptor: int) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            write_idx(path, torch.arange(5, dtype=torch.uint8))
        assert read_idx(path, (None,)).tolist() == [0, 1, 2]
        assert list(tmp_path.iterdir()) == [path]

    def test_rewriting_a_file_leaves_those_who_have_it_open_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "labels"
        write_idx(path, torch.arange(9, dtype=torch.uint8))
        mapped = read_idx(path, (None,))
        write_idx(path, torch.zeros(3, dtype=torch.uint8))
        assert mapped.tolist() == list(range(9))
        assert read_idx(path, (None,)).tolist() == [0, 0, 0]

    def test_unreadable_path_is_an_input_error(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "absent"):
            with refused(path):
                read_idx(path, (None,))

    @pytest.mark.parametrize("honest_header", [False, True])
    def test_gzip_bomb_takes_no_memory(
        self, honest_header: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """200 MB of zeros behind a header of 100 pixels, or behind one that announces them."""
        monkeypatch.setattr(idx_files, "MAX_GZIP_BYTES", 100_000_000)
        path = tmp_path / "images.gz"
        packer = zlib.compressobj(9, wbits=31)
        packed = packer.compress(idx(200_000 if honest_header else 1, 100, 10, content=b""))
        for _ in range(200):
            packed += packer.compress(bytes(1_000_000))
        path.write_bytes(packed + packer.flush())
        with little_memory(), refused("200000 × 100 × 10 = 200,000,000" if honest_header else "1 × 100 × 10 = 1,000"):
            read_idx(path, (None, None, None))

    @pytest.mark.parametrize("gzipped", [False, True])
    @pytest.mark.parametrize("sizes", [(2**32 - 1,) * 3, (2**32 - 1, 1, 1), (60_000, 28, 28)])
    def test_absurd_sizes_are_refused_before_allocating(
        self, sizes: tuple[int, ...], gzipped: bool, tmp_path: Path
    ) -> None:
        content = idx(*sizes, content=bytes(100))
        path = tmp_path / "images"
        path.write_bytes(gzip.compress(content) if gzipped else content)
        with little_memory(), refused(f"{math.prod(sizes):,} bytes"):
            read_idx(path, (None, None, None))


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes((content[position] ^ 1,)) + content[position + 1 :]


# What is done to which file, and the numbers that the cause must name. Sizes of the small set: 30 × 5 × 4.
BAD_FILES: dict[str, tuple[str, Callable[[bytes], bytes], list[str]]] = {
    "truncated": (TRAIN_IMAGES, lambda b: b[:-7], ["600", "593"]),
    "one byte too many": (TEST_LABELS, lambda b: b + b"\0", ["12 = 12"]),
    "empty": (TRAIN_LABELS, lambda b: b"", ["8"]),
    "header cut": (TRAIN_IMAGES, lambda b: b[:11], ["16", "11"]),
    "magic cut": (TRAIN_IMAGES, lambda b: b[:3], ["00 00 08 03"]),
    "web page": (TRAIN_IMAGES, lambda b: b"\n<!DOCTYPE html><html>404", ["DOCTYPE"]),
    "text": (TRAIN_IMAGES, lambda b: b"not found", ["6e 6f 74 20", "00 00 08 03"]),
    "unknown element type": (TRAIN_IMAGES, lambda b: b"\0\0\7" + b[3:], ["00 00 07 03"]),
    "floats": (TRAIN_IMAGES, lambda b: b"\0\0\x0d" + b[3:], ["32-bit floats", "0x0d"]),
    "labels for images": (TRAIN_IMAGES, lambda b: idx(30, content=bytes(30)), ["1 dimension", "3"]),
    "images for labels": (TRAIN_LABELS, lambda b: idx(30, 1, 1, content=bytes(30)), ["3 dimension", "1"]),
    "no images": (TRAIN_IMAGES, lambda b: idx(0, 5, 4, content=b""), ["0 × 5 × 4"]),
    "no width": (TRAIN_IMAGES, lambda b: idx(30, 5, 0, content=b""), ["30 × 5 × 0"]),
}
# Sound files, but not of the known set.
BAD_KNOWN: dict[str, tuple[str, Callable[[bytes], bytes], list[str]]] = {
    "wrong width": (TRAIN_IMAGES, lambda b: idx(30, 5, 5, content=bytes(750)), ["30 × 5 × 5", "30 × 5 × 4"]),
    "one label less": (TRAIN_LABELS, lambda b: idx(29, content=b[8:-1]), ["29", "30"]),
    "label 200": (TRAIN_LABELS, lambda b: b[:-1] + b"\xc8", ["200", "position 29", "0 to 9"]),
    "flipped pixel": (TEST_IMAGES, lambda b: flip(b, 99), ["SHA-256"]),
    "flipped label": (TEST_LABELS, lambda b: flip(b, 12), ["SHA-256"]),
}
# Sound files of a user's own set that do not fit together.
BAD_OWN: dict[str, tuple[str, Callable[[bytes], bytes], list[str]]] = {
    "counts": (TRAIN_LABELS, lambda b: idx(29, content=bytes(29)), ["30 images", "29 labels"]),
    "test images of another size": (TEST_IMAGES, lambda b: idx(12, 4, 5, content=bytes(240)), ["5 × 4", "4 × 5"]),
    "a label unknown in training": (TEST_LABELS, lambda b: b[:13] + b"\x0a" + b[14:], ["10", "position 5", "0 to 9"]),
}


class TestBadFiles:
    @pytest.mark.parametrize("gzipped", [False, True])
    @pytest.mark.parametrize("case", [*BAD_FILES, *BAD_KNOWN])
    def test_known_set(self, case: str, gzipped: bool, files: dict[str, bytes], tmp_path: Path) -> None:
        stem, spoil, words = (BAD_FILES | BAD_KNOWN)[case]
        folder = put(tmp_path / "MNIST" / "raw", files | {stem: spoil(files[stem])}, gzipped)
        with refused(folder / stem, *words):
            load_dataset("mnist", tmp_path)

    @pytest.mark.parametrize("case", [*BAD_FILES, *BAD_OWN])
    def test_own_set(self, case: str, tmp_path: Path) -> None:
        files = small_files()
        stem, spoil, words = (BAD_FILES | BAD_OWN)[case]
        put(tmp_path, files | {stem: spoil(files[stem])})
        with refused(tmp_path / stem, *words):
            load_dataset("idx", tmp_path)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda b: b[:-90],
            lambda b: b[:-8],  # checksum and length missing
            lambda b: b[:-5] + bytes((b[-5] ^ 1,)) + b[-4:],  # another checksum
            lambda b: b[:-1] + b"\7",  # another length
            lambda b: b + b"tail",
            lambda b: b[:300] + bytes(200) + b[500:],
            lambda b: b[:2] + b"\7" + b[3:],  # an unknown compression method
            lambda b: b[:2],
        ],
    )
    def test_broken_gzip(self, spoil: Callable[[bytes], bytes], files: dict[str, bytes], tmp_path: Path) -> None:
        path = put(tmp_path / "MNIST" / "raw", files, gzipped=True) / f"{TRAIN_IMAGES}.gz"
        path.write_bytes(spoil(path.read_bytes()))
        with refused(path):
            load_dataset("mnist", tmp_path)

    def test_plain_file_is_preferred_and_names_do_not_decide(self, files: dict[str, bytes], tmp_path: Path) -> None:
        """A server or browser may unpack a file and keep its name, or the other way round."""
        folder = put(tmp_path / "MNIST" / "raw", files)
        (folder / TEST_IMAGES).write_bytes(gzip.compress(files[TEST_IMAGES]))
        (folder / TEST_LABELS).rename(folder / f"{TEST_LABELS}.gz")
        (folder / f"{TRAIN_IMAGES}.gz").write_bytes(b"never opened")
        assert files_of(load_dataset("mnist", tmp_path, download=False)) == files


class TestOwnFiles:
    @pytest.mark.parametrize("gzipped", [False, True])
    @pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (300, 256, 3, 17, 256), (9, 40, 30, 2, 3)])
    def test_any_size_and_number_of_classes(
        self, shape: tuple[int, int, int, int, int], gzipped: bool, tmp_path: Path
    ) -> None:
        files = small_files(*shape)
        put(tmp_path, files, gzipped)
        dataset = load_dataset("idx", tmp_path, download=False)
        assert files_of(dataset) == files
        assert dataset.train.images.shape == (shape[0], shape[2], shape[3])
        assert dataset.class_names == tuple(str(i) for i in range(shape[4]))
        assert dataset.source == f"files in {tmp_path}"
        assert dataset.sha256 == {stem: hashlib.sha256(content).hexdigest() for stem, content in files.items()}

    def test_labels_from_1_are_warned_of(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        labels = {
            stem: idx(n, content=bytes(1 + i % 5 for i in range(n)))
            for stem, n in ((TRAIN_LABELS, 30), (TEST_LABELS, 12))
        }
        put(tmp_path, small_files() | labels)
        assert len(load_dataset("idx", tmp_path).class_names) == 6
        assert caplog.records[0].args[1:] == (1, 6, 0)

    def test_absent_files_are_named(self, tmp_path: Path) -> None:
        files = small_files()
        del files[TEST_LABELS]
        put(tmp_path, files)
        with refused(TEST_LABELS):
            load_dataset("idx", tmp_path)
        for name in ("nowhere", TRAIN_IMAGES):
            with refused(tmp_path / name):
                load_dataset("idx", tmp_path / name)

    def test_large_files_are_hashed_in_part_and_say_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(load, "MAX_HASHED_BYTES", 500)
        monkeypatch.setattr(load, "HASHED_END_BYTES", 100)
        files = small_files()
        put(tmp_path, files)
        sha256 = load_dataset("idx", tmp_path).sha256
        large = files[TRAIN_IMAGES]
        partly = [name for name in sha256 if name not in STEMS]
        assert [name.split()[0] for name in partly] == [TRAIN_IMAGES]
        assert sha256[partly[0]] == hashlib.sha256(large[:116] + large[-100:]).hexdigest()


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A local web server with these files; its address, and the paths that were asked for with GET."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            if self.command == "GET":
                asked.append(name)
            if name not in files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[name])))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(files[name])

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            server.shutdown()
            thread.join()


Publish = Callable[[str, dict[str, bytes], list[str]], None]


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """A function that makes torchvision expect these gzipped files at these addresses."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)

    def publish(name: str, packed: dict[str, bytes], mirrors: list[str]) -> None:
        digests = [(name, hashlib.md5(content, usedforsecurity=False).hexdigest()) for name, content in packed.items()]
        monkeypatch.setattr(getattr(published, FOLDERS[name]), "resources", digests)
        monkeypatch.setattr(getattr(published, FOLDERS[name]), "mirrors", mirrors)

    return publish


@pytest.fixture
def no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **rest: None if name == "apt-get" else real(name, **rest))


@pytest.fixture
def no_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOLDERS.values():
        monkeypatch.setattr(getattr(published, name), "mirrors", ["http://127.0.0.1:9/"])


class TestSources:
    @pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
    @pytest.mark.parametrize("gzipped", [False, True])
    def test_root_is_only_read(self, name: str, gzipped: bool, files: dict[str, bytes], tmp_path: Path) -> None:
        folder = put(tmp_path / FOLDERS[name] / "raw", files, gzipped)
        before = sorted(tmp_path.rglob("*"))
        assert files_of(dataset := load_dataset(name, tmp_path)) == files
        assert dataset.source == f"files in {folder}"
        assert dataset.sha256 == known_sets.KNOWN_SETS[name].sha256
        assert sorted(tmp_path.rglob("*")) == before

    def test_home_is_expanded(self, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        put(tmp_path / "data" / "MNIST" / "raw", files)
        assert files_of(load_dataset("mnist", Path("~/data"), download=False)) == files

    def test_debian_folder(self, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(load, "DEBIAN_FOLDER", put(tmp_path / "share", files, gzipped=True))
        root = tmp_path / "data"
        assert files_of(dataset := load_dataset("fashion_mnist", root)) == files
        assert "dataset-fashion-mnist" in dataset.source
        assert str(tmp_path / "share") in dataset.source
        assert not root.exists()
        with refused("MNIST"):
            load_dataset("mnist", root, download=False)

    def test_no_download_means_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(load, "_fetch", lambda *args: pytest.fail("fetched"))
        with refused(f"(1) {tmp_path}/data/FashionMNIST/raw", f"{tmp_path}/no-debian-package", "(3)"):
            load_dataset("fashion_mnist", tmp_path / "data", download=False)
        assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
    def test_download(self, name: str, files: dict[str, bytes], tmp_path: Path, publish: Publish) -> None:
        folder = tmp_path / FOLDERS[name] / "raw"
        with serving(packed := pack(files)) as (address, asked):
            publish(name, packed, [address])
            assert files_of(dataset := load_dataset(name, tmp_path)) == files
            assert dataset.source.startswith("torchvision")
            assert dataset.source.endswith(str(folder))
            assert set(asked) == set(packed)
            num_requests = len(asked)
            assert files_of(again := load_dataset(name, tmp_path)) == files
            assert again.source == f"files in {folder}"
            assert len(asked) == num_requests
        assert {path.name for path in folder.iterdir()} - {".fetch.lock"} == set(STEMS)  # plain: to be mapped
        assert socket.getdefaulttimeout() is None

    def test_next_mirror_after_a_silent_one_and_one_with_damaged_files(
        self, files: dict[str, bytes], tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(download, "STALL_TIMEOUT_S", 0.2)
        packed = pack(files)
        bad = {f"damaged/{name}": content[:-3] for name, content in packed.items()}
        with socket.create_server(("127.0.0.1", 0)) as silent, serving(packed | bad) as (address, asked):
            quiet = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            publish("mnist", packed, [quiet, f"{address}damaged/", address])
            started = time.monotonic()
            assert files_of(load_dataset("mnist", tmp_path)) == files
            assert time.monotonic() - started < 3.0
            assert set(asked) == {*packed, f"damaged/{TRAIN_IMAGES}.gz"}

    def test_only_what_is_missing_is_added(self, files: dict[str, bytes], tmp_path: Path, publish: Publish) -> None:
        folder = put(tmp_path / "MNIST" / "raw", {TRAIN_IMAGES: flip(files[TRAIN_IMAGES], 50)})
        (folder / ".fetch" / "MNIST").mkdir(parents=True)  # left behind by a process that was killed
        with serving(packed := pack(files)) as (address, _):
            publish("mnist", packed, [address])
            with refused("SHA-256", folder / TRAIN_IMAGES):
                load_dataset("mnist", tmp_path)
        assert (folder / TRAIN_IMAGES).read_bytes() == flip(files[TRAIN_IMAGES], 50)
        (folder / TRAIN_IMAGES).write_bytes(files[TRAIN_IMAGES])
        assert files_of(load_dataset("mnist", tmp_path, download=False)) == files
        assert not (folder / ".fetch").exists()

    def test_served_files_that_are_not_the_known_set(
        self, files: dict[str, bytes], tmp_path: Path, publish: Publish
    ) -> None:
        packed = pack(files | {TEST_IMAGES: flip(files[TEST_IMAGES], 50)})
        with serving(packed) as (address, _):
            publish("mnist", packed, [address])
            with refused("torchvision's download: ", "SHA-256"):
                load_dataset("mnist", tmp_path)
        assert not list(tmp_path.rglob("*ubyte*"))

    def test_nothing_reached(self, tmp_path: Path, no_torchvision: None, no_apt: None) -> None:
        with refused(
            "(3) torchvision's download: http://127.0.0.1:9/ (<urlopen error", "(4) Debian's package", "apt-get"
        ):
            load_dataset("fashion_mnist", tmp_path)
        with pytest.raises(InputError) as caught:
            load_dataset("mnist", tmp_path)
        assert "apt" not in caught.value.cause

    def test_root_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("a file where a folder should be")
        with refused("(2)", "data/MNIST/raw"):
            load_dataset("mnist", tmp_path / "data")

    def test_importing_is_cheap(self) -> None:
        """torchvision takes longer to import than the data to load; most runs need none of it."""
        code = "import sys, project.data.sources.load; sys.exit('torchvision' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0

    def test_processes_that_start_at_once_fetch_once(self, files: dict[str, bytes], tmp_path: Path) -> None:
        origin = put(tmp_path / "origin", files)
        code = f"""
import sys, time
from pathlib import Path
from project.data.sources import known_sets, load

def slow_download(known, workspace):
    with Path({str(tmp_path / "calls")!r}).open("a") as calls:
        calls.write("x")
    time.sleep(0.5)
    return Path({str(origin)!r})

load.fetch_with_torchvision = slow_download
known_sets.KNOWN_SETS["mnist"] = known_sets.{known_sets.KNOWN_SETS["mnist"]!r}
print("ready", flush=True)
sys.stdin.readline()
print(load.load_dataset("mnist", Path({str(tmp_path / "data")!r})).source)
"""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) for _ in range(3)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=60)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert sorted("another process" in answer for answer in answers) == [False, True, True]
        assert (tmp_path / "calls").read_text() == "x"


class TestSetsLikeMnist:
    """KMNIST and EMNIST, in small, from a local server that stands for the published one."""

    def test_kmnist(self, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        packed = pack(files)
        digests = [(name, hashlib.md5(content, usedforsecurity=False).hexdigest()) for name, content in packed.items()]
        monkeypatch.setattr(published.KMNIST, "resources", digests)
        with serving(packed) as (address, asked):
            monkeypatch.setattr(published.KMNIST, "mirrors", [address])
            assert files_of(load_dataset("kmnist", tmp_path)) == files
            assert set(asked) == set(packed)
        assert files_of(load_dataset("kmnist", tmp_path, download=False)) == files
        assert {path.name for path in (tmp_path / "KMNIST" / "raw").iterdir()} - {".fetch.lock"} == set(STEMS)

    def test_emnist(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        known = known_sets.KNOWN_SETS["emnist"]
        small = dataclasses.replace(known, shapes=((94, 5, 5), (47, 5, 5)))
        monkeypatch.setitem(known_sets.KNOWN_SETS, "emnist", small)
        contents = small_files(94, 47, 5, 5, 47)
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            for stem, content in zip(known.stems, contents.values(), strict=True):
                archive.writestr(f"gzip/{stem}.gz", gzip.compress(content))
            archive.writestr("gzip/emnist-letters-mapping.txt", "another split's file")
        packed = zipped.getvalue()
        monkeypatch.setattr(published.EMNIST, "md5", hashlib.md5(packed, usedforsecurity=False).hexdigest())
        with serving({"gzip.zip": packed}) as (address, _):
            monkeypatch.setattr(published.EMNIST, "url", f"{address}gzip.zip")
            data = load_dataset("emnist", tmp_path)
        # the published files have rows and columns exchanged
        stored = np.frombuffer(contents[TRAIN_IMAGES][16:], np.uint8).reshape(94, 5, 5)
        np.testing.assert_array_equal(data.train.images.numpy(), stored.swapaxes(1, 2))
        assert data.train.labels.tolist() == [i % 47 for i in range(94)]
        assert data.class_names == tuple(published.EMNIST.classes_split_dict["balanced"])
        assert {path.name for path in (tmp_path / "EMNIST" / "raw").iterdir()} - {".fetch.lock"} == set(known.stems)
        assert torch.equal(load_dataset("emnist", tmp_path, download=False).test.images, data.test.images)

    def test_the_names_are_torchvision_s(self) -> None:
        assert known_sets.KNOWN_SETS["kmnist"].class_names == tuple(published.KMNIST.classes)

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        with refused("EMNIST was not found", "switched off"):
            load_dataset("emnist", tmp_path, download=False)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="there is no dpkg-deb here")
class TestApt:
    """Source 4 with a replacement for apt-get that delivers a small package made here; dpkg-deb is the real one."""

    @pytest.fixture
    def apt(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], no_torchvision: None
    ) -> Path:
        tree = tmp_path / "tree"
        put(tree / "usr/share/datasets/fashion-mnist", files, gzipped=True)
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text(
            "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: small\n"
        )
        tree.chmod(0o755)
        (tree / "DEBIAN").chmod(0o755)
        package = tmp_path / "dataset-fashion-mnist_1_all.deb"
        subprocess.run(["dpkg-deb", "--build", str(tree), str(package)], check=True, capture_output=True)
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "apt-get").write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
            f'case "$*" in *download*) cp {package} . ;; *) echo "E: one source is broken" >&2; exit 100 ;; esac\n'
        )
        (programs / "apt-get").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        return programs / "apt-get"

    def test_package_is_unpacked_into_torchvision_s_layout(
        self, apt: Path, files: dict[str, bytes], tmp_path: Path
    ) -> None:
        root = tmp_path / "a folder"
        assert files_of(dataset := load_dataset("fashion_mnist", root)) == files
        folder = root / "FashionMNIST" / "raw"
        assert "dataset-fashion-mnist" in dataset.source
        assert dataset.source.endswith(str(folder))
        assert {path.name for path in folder.iterdir()} - {".fetch.lock"} == set(STEMS)
        calls = (tmp_path / "calls").read_text().splitlines()
        assert [call.split()[-1] for call in calls] == ["update", "dataset-fashion-mnist"]
        for call in calls:  # nothing of the system's own is touched
            assert f"Dir::State::Lists={folder}/.fetch/lists" in call
            assert f"Dir::Cache={folder}/.fetch" in call

    def test_not_for_mnist(self, apt: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError):
            load_dataset("mnist", tmp_path / "data")
        assert not (tmp_path / "calls").exists()

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            ('echo "E: Unable to locate package" >&2; exit 100', "E: Unable .* E: Unable "),
            ("exit 3", "status 3"),
            ("echo junk > dataset-fashion-mnist_1_all.deb", "dpkg-deb|archive"),
            ("sleep 60", r"\b0\.3\b"),
        ],
    )
    def test_its_failure_is_reported(
        self, script: str, reason: str, apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if "sleep" in script:
            monkeypatch.setattr(download, "APT_TIMEOUT_S", 0.3)
            script = f"exec {script}"
        apt.write_text(f"#!/bin/sh\n{script}\n")
        with pytest.raises(InputError, match=reason):
            load_dataset("fashion_mnist", tmp_path / "data")
        assert not list((tmp_path / "data").rglob("*ubyte*"))


@pytest.mark.slow
def test_apt_for_real(tmp_path: Path, no_torchvision: None) -> None:
    """Fetches some 40 MB from the package sources this machine is set up with, where it has any in reach."""
    if shutil.which("apt-get") is None:
        pytest.skip("there is no apt-get here")
    try:
        dataset = load_dataset("fashion_mnist", tmp_path)
    except InputError as error:
        if "E: " not in error.cause and "timed out" not in error.cause:
            raise
        pytest.skip(f"apt-get does not reach the package: {error.cause}")
    assert "dataset-fashion-mnist" in dataset.source
    assert dataset.train.images.shape == (60_000, 28, 28)
    for stem, md5 in zip(STEMS, MD5["fashion_mnist"], strict=True):
        content = (tmp_path / "FashionMNIST" / "raw" / stem).read_bytes()
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == md5
