"""Thousands of damaged files: each is refused with an `InputError`, or reads as exactly the bytes that were written.

The mutations are drawn from fixed seeds. For a set with known digests, nothing but the original content may pass.
For a user's own files, which have no known digest, whatever passes must be well formed.
"""

import gzip
import hashlib
import random
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from project.data.sources import known_sets
from project.data.sources.known_sets import KnownSet
from project.data.sources.load import ImageDataset, load_dataset
from project.errors import InputError

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SIZES = (0, 1, 2, 3, 8, 27, 28, 255, 256, 65_535, 65_536, 60_000, 2**31 - 1, 2**31, 2**32 - 1)
NUM_MUTATIONS = 1_300  # for each of 4 files, plain and gzipped: 10,400 with digests
NUM_MUTATIONS_OWN = 300
MAX_MEMORY_BYTES = 16_000_000  # a table of the interpreter that grows just then takes half of it


def small_files() -> dict[str, bytes]:
    draw = random.Random(0)  # noqa: S311
    files = {}
    for (images, labels), n in zip((STEMS[:2], STEMS[2:]), (12, 7), strict=True):
        files[images] = struct.pack(">4B3I", 0, 0, 8, 3, n, 4, 3) + draw.randbytes(n * 12)
        files[labels] = struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(draw.randrange(10) for _ in range(n))
    files[STEMS[1]] = files[STEMS[1]][:-1] + b"\t"  # the training labels reach 9
    return files


def mutate(content: bytes, draw: random.Random) -> bytes:
    """One to three random edits: of bits, of runs of bytes, of the header's fields, of the length."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        position = draw.randrange(len(data) + 1)
        length = draw.choice((1, 1, 2, 7, 40))
        match draw.randrange(9):
            case 0 | 1 if data:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            case 2:
                del data[position:]
            case 3:
                data[position:position] = draw.randbytes(length)
            case 4:
                del data[position : position + length]
            case 5:
                data += draw.choice((b"\0" * length, draw.randbytes(length), content))
            case 6:  # a size, or in a gzipped file its flags, time and name
                at = 4 * draw.randrange(4)
                data[at : at + 4] = struct.pack(">I", draw.choice(SIZES))
            case 7:
                data[position : position + length] = bytes(length)
            case 8 if len(data) > 8:
                data[draw.randrange(5)] = draw.randrange(256)
    return bytes(data)


def damaged(content: bytes, gzipped: bool, draw: random.Random) -> bytes:
    """A damaged file; of a gzipped one either the packed bytes are damaged or what is inside."""
    if not gzipped:
        return mutate(content, draw)
    if draw.random() < 0.5:
        return mutate(gzip.compress(content, mtime=0), draw)
    return gzip.compress(mutate(content, draw), mtime=0)


def outcomes(
    name: str, folder: Path, root: Path, stem: str, gzipped: bool, num: int
) -> Iterator[tuple[bytes, ImageDataset | None]]:
    """Damage one file of a set again and again: its content, and the data set or None where it was refused."""
    files = small_files()
    folder.mkdir(parents=True)
    for other in set(STEMS) - {stem}:
        (folder / other).write_bytes(files[other])
    path = folder / (f"{stem}.gz" if gzipped else stem)
    draw = random.Random(f"{name} {stem} {gzipped}")  # noqa: S311
    peak = 0
    for _ in range(num):
        content = damaged(files[stem], gzipped, draw)
        path.unlink(missing_ok=True)  # never change a file that is still mapped
        path.write_bytes(content)
        tracemalloc.start()
        dataset, error = None, None
        try:
            dataset = load_dataset(name, root, download=False)
        except InputError as caught:
            error = caught
        peak = max(peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        if error:
            assert error.remedy
            assert name == "idx" or str(path) in error.cause
        yield content, dataset
    assert peak < MAX_MEMORY_BYTES


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("stem", STEMS)
def test_only_the_original_content_of_a_known_set_passes(
    stem: str, gzipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small_files()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    known = KnownSet("MNIST", tuple("0123456789"), ((12, 4, 3), (7, 4, 3)), digests)
    monkeypatch.setitem(known_sets.KNOWN_SETS, "mnist", known)
    num_refused = 0
    for content, dataset in outcomes("mnist", tmp_path / "MNIST" / "raw", tmp_path, stem, gzipped, NUM_MUTATIONS):
        if dataset is None:
            num_refused += 1
            continue
        assert gzipped or content == files[stem]
        for split, images, labels in ((dataset.train, *STEMS[:2]), (dataset.test, *STEMS[2:])):
            assert split.images.numpy().tobytes() == files[images][16:]
            assert split.labels.tolist() == list(files[labels][8:])
    # Some edits undo each other, write what was there, or touch only gzip's time and name.
    assert num_refused > 0.8 * NUM_MUTATIONS


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("stem", STEMS)
def test_what_passes_of_own_files_is_well_formed(stem: str, gzipped: bool, tmp_path: Path) -> None:
    num_accepted = 0
    for _, dataset in outcomes("idx", tmp_path / "own", tmp_path / "own", stem, gzipped, NUM_MUTATIONS_OWN):
        if dataset is None:
            continue
        num_accepted += 1
        assert dataset.train.images.shape[1:] == dataset.test.images.shape[1:]
        assert len(dataset.class_names) == int(dataset.train.labels.max()) + 1
        for split, images, labels in ((dataset.train, *STEMS[:2]), (dataset.test, *STEMS[2:])):
            assert split.images.dtype == torch.uint8
            assert min(split.images.shape) > 0
            assert split.labels.shape == split.images.shape[:1]
            assert 0 <= int(split.labels.min()) <= int(split.labels.max()) < len(dataset.class_names)
            # The digest is of what is in the tensors, under the header that their shape implies.
            for name, array in ((images, split.images), (labels, split.labels.to(torch.uint8))):
                header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
                assert dataset.sha256[name] == hashlib.sha256(header + array.numpy().tobytes()).hexdigest()
    assert num_accepted > 0  # a flipped pixel or label is sound, so the checks above did run
