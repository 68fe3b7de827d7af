"""The folder source: its layout, its decoding against Pillow's, its cache, and its test set."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from project.data.sources import decoded
from project.data.sources.folder import load_folder
from project.data.sources.load import ImageDataset
from project.errors import InputError

CLASSES = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200)}


def paint(root: Path, counts: dict[str, int], size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    """PNG files of noise around a colour of each class's own."""
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            levels = np.array(CLASSES[name]) + generator.integers(0, 40, (size[1], size[0], 3))
            Image.fromarray(levels.astype(np.uint8)).convert(mode).save(root / name / f"{number:03d}.png")
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return paint(tmp_path / "photos", {"cat": 12, "dog": 7, "owl": 3})


def counts(data: ImageDataset) -> tuple[list[int], list[int]]:
    return data.train.labels.bincount().tolist(), data.test.labels.bincount().tolist()


def test_pictures_of_the_size_are_the_files_own_pixels(photos: Path) -> None:
    data = load_folder(photos, 8, 0)
    assert data.class_names == ("cat", "dog", "owl")
    assert counts(data) == ([10, 6, 2], [2, 1, 1])  # a sixth of each, rounded, and at least one
    expected = {name: [np.asarray(Image.open(path)) for path in sorted((photos / name).iterdir())] for name in CLASSES}
    found = torch.cat([data.train.images, data.test.images])
    assert (found.dtype, found.shape) == (torch.uint8, (22, 8, 8, 3))
    as_rows = sorted(image.tobytes() for images in expected.values() for image in images)
    assert sorted(image.numpy().tobytes() for image in found) == as_rows
    for image, label in zip(data.train.images, data.train.labels, strict=True):
        assert int(image.float().mean((0, 1)).argmax()) == int(label)


def test_the_test_set_depends_on_the_split_seed_alone(photos: Path) -> None:
    first, again, other = (load_folder(photos, 8, seed) for seed in (0, 0, 1))
    assert torch.equal(first.test.images, again.test.images)
    assert not torch.equal(first.test.images, other.test.images)
    assert first.sha256 == other.sha256


def test_a_folder_with_both_parts_keeps_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paint(tmp_path / "train", {"cat": 4, "dog": 3})
    paint(tmp_path / "test", {"cat": 2, "dog": 5})
    (tmp_path / "val" / "cat").mkdir(parents=True)
    with caplog.at_level(logging.WARNING, logger="project"):
        data = load_folder(tmp_path, 8, 0)
    assert counts(data) == ([4, 3], [2, 5])
    assert str(tmp_path / "val") in caplog.text


def test_other_files_are_no_pictures_and_folders_within_belong_to_the_class(photos: Path) -> None:
    (photos / "cat" / "notes.txt").write_text("not a picture")
    (photos / "cat" / ".hidden.png").write_text("not a picture either")
    (photos / "cat" / "more").mkdir()
    shutil.move(photos / "cat" / "000.png", photos / "cat" / "more" / "000.PNG")
    assert sum(counts(load_folder(photos, 8, 0))[0]) == 18


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", (8, 8)), ("1", (8, 8)), ("LA", (8, 8)), ("RGB", (8, 8, 3)), ("P", (8, 8, 3))]
)
def test_pictures_in_gray_formats_have_one_channel(mode: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    data = load_folder(paint(tmp_path, {"cat": 3, "dog": 3}, mode=mode), 8, 0)
    assert data.train.images.shape[1:] == shape
    paint(tmp_path, {"owl": 2})
    assert load_folder(tmp_path, 8, 0).train.images.shape[1:] == (8, 8, 3)


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (8, 8)])
def test_scaled_pictures_look_like_pillows(size: tuple[int, int], tmp_path: Path) -> None:
    """Smooth pictures: every good way to make them smaller or larger gives about the same."""
    y, x = np.mgrid[0:1:96j, 0:1:96j]
    levels = np.stack((255 * x, 255 * y, 255 * (1 - x * y)), 2).astype(np.uint8)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC).save(tmp_path / name / f"{number}.png")
    found = load_folder(tmp_path, 24, 0).train.images[0].numpy().astype(int)
    factor = min(24 / size[0], 24 / size[1])
    width, height = round(size[0] * factor), round(size[1] * factor)
    picture = Image.open(tmp_path / "cat" / "0.png").resize((width, height), Image.Resampling.BICUBIC)
    top, left = (24 - height) // 2, (24 - width) // 2
    inside = found[top : top + height, left : left + width]
    assert np.abs(inside - np.asarray(picture).astype(int)).mean() < 4


class TestCache:
    def test_pictures_are_decoded_once(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_folder(photos, 8, 0)
        (kept,) = (photos / ".decoded").glob("*.npy")
        assert np.load(kept).shape == (22, 8, 8, 3)
        monkeypatch.setattr(decoded, "read_image", lambda *_: pytest.fail("decoded again"))
        again = load_folder(photos, 8, 0)
        assert torch.equal(first.train.images, again.train.images)

    @pytest.mark.parametrize("change", ["bytes", "name", "size", "removed"])
    def test_what_changes_is_decoded_anew(self, change: str, photos: Path) -> None:
        first = load_folder(photos, 8, 0)
        picture = photos / "cat" / "000.png"
        if change == "bytes":  # with size and time as they were
            stat, content = picture.stat(), bytearray(picture.read_bytes())
            other = (photos / "cat" / "001.png").read_bytes()
            picture.write_bytes(other + bytes(max(len(content) - len(other), 0)))
            os.utime(picture, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        elif change == "name":
            picture.rename(photos / "cat" / "zzz.png")
        elif change == "removed":
            picture.unlink()
        again = load_folder(photos, 9 if change == "size" else 8, 0)
        assert len(list((photos / ".decoded").glob("*.npy"))) == 2
        assert (again.sha256 != first.sha256) is True

    def test_an_unfinished_or_damaged_file_is_never_used(self, photos: Path) -> None:
        first = load_folder(photos, 8, 0)
        (kept,) = (photos / ".decoded").glob("*.npy")
        whole = kept.read_bytes()
        for damaged in (b"", whole[:100], whole[:-50]):
            kept.write_bytes(damaged)
            assert torch.equal(load_folder(photos, 8, 0).train.images, first.train.images)
            assert kept.read_bytes() == whole
        kept.unlink()
        old = kept.with_name(f"{kept.name}.1.part")
        old.write_bytes(whole[:300])
        os.utime(old, (0, 0))
        assert torch.equal(load_folder(photos, 8, 0).train.images, first.train.images)
        assert not old.exists()

    def test_a_failure_while_decoding_leaves_nothing(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> torch.Tensor:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(decoded, "read_image", fail)
            with pytest.raises(KeyboardInterrupt):
                load_folder(photos, 8, 0)
        assert not list(photos.rglob("*.npy*"))
        assert len(load_folder(photos, 8, 0).train.images) == 18

    def test_where_the_folder_may_not_be_written(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(photos.parent / "cache"))
        (photos / ".decoded").write_text("a file where the folder should be")
        first = load_folder(photos, 8, 0)
        assert list((photos.parent / "cache").rglob("*.npy"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(photos / ".decoded"))
        assert torch.equal(load_folder(photos, 8, 0).train.images, first.train.images)  # kept in memory alone


def cut_short(photos: Path) -> None:
    picture = photos / "dog" / "003.png"
    picture.write_bytes(picture.read_bytes()[:60])


def keep_one_class(photos: Path) -> None:
    shutil.rmtree(photos / "cat")
    shutil.rmtree(photos / "dog")


def keep_of_owl(num: int) -> Callable[[Path], None]:
    def remove(photos: Path) -> None:
        for path in sorted((photos / "owl").iterdir())[num:]:
            path.unlink()

    return remove


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, ["does not exist"]),
        (keep_one_class, ["one subfolder", "owl"]),
        (keep_of_owl(0), ["owl has no picture"]),
        (keep_of_owl(1), ["class owl"]),
        (cut_short, ["003.png", "1 of 22"]),
    ],
)
def test_what_is_refused(spoil: Callable[[Path], object], words: list[str], photos: Path) -> None:
    spoil(photos)
    with pytest.raises(InputError) as caught:
        load_folder(photos, 8, 0)
    assert caught.value.remedy
    for word in words:
        assert word in caught.value.cause


def test_a_refusal_leaves_nothing(photos: Path) -> None:
    cut_short(photos)
    before = sorted(photos.parent.rglob("*"))
    with pytest.raises(InputError):
        load_folder(photos, 8, 0)
    assert sorted(photos.parent.rglob("*")) == before
