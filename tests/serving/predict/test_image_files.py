"""Pictures from files: every kind of gray, colour and transparency, what is refused, and how they are fitted."""

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import RealSet
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from project.data.sources import picture_files
from project.data.sources.load import load_dataset
from project.data.sources.picture_files import MAX_PIXELS, read_image
from project.errors import InputError
from project.serving.predict.image_files import fit_image, is_dark_on_light

LEVELS = np.random.default_rng(0).integers(0, 256, (7, 11), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def levels_of(image: Image.Image, kind: str = "PNG", **options: Any) -> "np.ndarray[Any, Any]":
    return read_image(encoded(image, kind, **options)).numpy()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_gray_levels_come_back_from_every_lossless_format(kind: str, mode: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = Image.fromarray(LEVELS).convert(mode)
    found = read_image(encoded(image, kind, **options))
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), LEVELS)
    image.save(tmp_path / "file", kind, **options)  # the content decides, not the name
    for source in (tmp_path / "file", str(tmp_path / "file")):
        assert torch.equal(read_image(source), found)


def test_sixteen_bits_and_one_bit() -> None:
    sixteen = Image.fromarray(LEVELS.astype(np.uint16) * 257)  # 0xABAB for 0xAB
    assert sixteen.mode == "I;16"
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(levels_of(sixteen, kind), LEVELS)
    assert np.array_equal(levels_of(Image.fromarray(LEVELS > 127), "PNG"), np.where(LEVELS > 127, 255, 0))


def test_colour_becomes_luma() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 200, 90], [255, 255, 255]]], np.uint8)
    by_hand = np.rint(colours @ np.array([0.299, 0.587, 0.114]))  # ITU-R BT.601
    assert np.array_equal(levels_of(Image.fromarray(colours)), by_hand)
    palette = Image.fromarray(colours).quantize(8, dither=Image.Dither.NONE)
    assert palette.mode == "P"
    assert np.array_equal(levels_of(palette), levels_of(palette.convert("RGB")))
    ink = Image.new("CMYK", (3, 2), (0, 0, 0, 255))  # black ink alone
    assert levels_of(ink, "TIFF").max() == 0
    assert levels_of(Image.new("CMYK", (32, 32)), "JPEG").min() == 255


@pytest.mark.parametrize(("ink", "background"), [(0, 255), (60, 255), (255, 0), (200, 0)])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_transparent_drawing_lies_on_what_it_can_be_seen_against(ink: int, background: int, mode: str) -> None:
    alpha = np.zeros((6, 6), np.uint8)
    alpha[2:4, 1:5] = 255
    alpha[0, 0] = 51  # a fifth
    hidden = np.where(alpha > 0, ink, 255 - ink).astype(np.uint8)  # what cannot be seen does not count
    image = Image.merge("LA", (Image.fromarray(hidden), Image.fromarray(alpha))).convert(mode)
    expected = np.where(alpha == 255, ink, background)
    expected[0, 0] = round(ink * 0.2 + background * 0.8)
    assert np.array_equal(levels_of(image), expected)
    assert not levels_of(Image.new(mode, (4, 4))).any()  # nothing at all to be seen


def test_transparency_by_palette_and_by_level() -> None:
    drawn = np.zeros((5, 5), np.uint8)
    drawn[2] = 1
    palette = Image.fromarray(drawn).convert("P")
    palette.putpalette([0, 255, 0, 20, 20, 20])
    expected = np.where(drawn, 20, 255)
    assert np.array_equal(levels_of(palette, transparency=0), expected)
    assert np.array_equal(levels_of(palette, "GIF", transparency=0), expected)
    gray = Image.fromarray(np.where(drawn, 20, 99).astype(np.uint8))
    assert np.array_equal(levels_of(gray, transparency=99), expected)


UPRIGHT = [LEVELS, LEVELS[:, ::-1], LEVELS[::-1, ::-1], LEVELS[::-1]]
UPRIGHT += [LEVELS.T, np.rot90(LEVELS, -1), LEVELS[::-1, ::-1].T, np.rot90(LEVELS)]
"""The picture for the camera's marks 1 to 8."""


@pytest.mark.parametrize("mark", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_the_cameras_rotation_mark(mark: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = mark
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(levels_of(Image.fromarray(LEVELS), kind, exif=exif, **options), UPRIGHT[mark - 1])


def test_the_first_of_several_frames() -> None:
    frames = [Image.fromarray(LEVELS), Image.fromarray(255 - LEVELS)]
    for kind in ("GIF", "TIFF"):
        assert np.array_equal(levels_of(frames[0], kind, save_all=True, append_images=frames[1:]), LEVELS)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_jpegs_noise_on_black_and_white_is_taken_away(quality: int) -> None:
    drawn = np.zeros((64, 64), np.uint8)
    drawn[20:40, 13:30] = 255
    plain = np.array(Image.open(encoded(Image.fromarray(drawn), "JPEG", quality=quality)))
    cleaned = levels_of(Image.fromarray(drawn), "JPEG", quality=quality)
    assert np.abs(cleaned - drawn.astype(int)).sum() < np.abs(plain - drawn.astype(int)).sum()
    middle = np.full((64, 64), 128, np.uint8)
    assert np.array_equal(levels_of(Image.fromarray(middle), "JPEG", quality=quality), middle)


def png_that_announces(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


WHOLE = encoded(Image.fromarray(LEVELS)).getvalue()
WHOLE_JPEG = encoded(Image.fromarray(LEVELS).resize((60, 60)), "JPEG").getvalue()
REFUSED = {
    "empty": b"",
    "text": b"not a picture at all",
    "web page": b"<!DOCTYPE html><html></html>",
    "PNG cut in its pixels": WHOLE[:-30],
    "PNG cut in its header": WHOLE[:20],
    "JPEG cut": WHOLE_JPEG[: len(WHOLE_JPEG) // 2],
    "slightly too large": png_that_announces(MAX_PIXELS // 1000 + 1, 1000),
    "a bomb's warning": png_that_announces(10_000, 10_000),
    "a bomb": png_that_announces(60_000, 60_000),
    "floats": encoded(Image.fromarray(LEVELS.astype(np.float32)), "TIFF").getvalue(),
    "32 bits": encoded(Image.fromarray(LEVELS.astype(np.int32) * 70_000), "TIFF").getvalue(),
    "a program for a printer": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "given.png"
    path.write_bytes(content)
    with pytest.raises(InputError) as by_path:
        read_image(path)
    assert by_path.value.cause.startswith(f"{path} ")
    assert "\n" not in by_path.value.cause + by_path.value.remedy
    with pytest.raises(InputError, match=r"^the picture "):
        read_image(io.BytesIO(content))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.png", tmp_path):
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_image(path)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.sampled_from([WHOLE, WHOLE_JPEG]), st.data())
def test_a_damaged_file_is_a_picture_or_an_input_error(whole: bytes, data: st.DataObject) -> None:
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    try:
        found = read_image(io.BytesIO(bytes(content)))
    except InputError:
        return
    assert found.ndim == 2
    assert found.dtype == torch.uint8


def test_polarity_of_the_real_sets(real_set: RealSet) -> None:
    images = real_set.load().test.images
    assert is_dark_on_light(images).sum() == 0
    assert is_dark_on_light(255 - images).sum() == len(images)


def test_polarity_of_what_fills_its_picture(real_set: RealSet) -> None:
    wrong = 0
    for image in real_set.load().test.images[:1000]:
        drawn = image > 25
        rows, columns = drawn.any(1).nonzero()[:, 0], drawn.any(0).nonzero()[:, 0]
        cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        wrong += bool(is_dark_on_light(cut[None])) + (not is_dark_on_light(255 - cut[None]))
    assert wrong <= 0.01 * 2000


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_blank_picture_is_not_inverted(level: int) -> None:
    image = torch.full((40, 30), level, dtype=torch.uint8)
    for prepare in (False, True):
        fitted, inverted = fit_image(image, 28, 28, prepare=prepare)
        assert not inverted
        assert torch.equal(fitted, torch.full((28, 28), level, dtype=torch.uint8))


def test_polarity_can_be_said() -> None:
    light, dark = torch.from_numpy(LEVELS // 4 + 190), torch.from_numpy(LEVELS // 4)
    for image in (light, dark):
        assert fit_image(image, 7, 11, "as_is")[1] is False
        assert torch.equal(fit_image(image, 7, 11, "as_is")[0], image)
        assert fit_image(image, 7, 11, "invert")[1] is True
        assert torch.equal(fit_image(image, 7, 11, "invert")[0], 255 - image)


pictures = st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32 - 1)).map(
    lambda drawn: torch.randint(256, drawn[:2], dtype=torch.uint8, generator=torch.Generator().manual_seed(drawn[2]))
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(pictures, st.integers(2, 12))
def test_an_enlargement_is_taken_back(image: torch.Tensor, times: int) -> None:
    height, width = image.shape
    whole_pixels = image.repeat_interleave(times, 0).repeat_interleave(times, 1)
    assert torch.equal(fit_image(whole_pixels, height, width, "as_is")[0], image)
    linear = interpolate(image[None, None].float(), scale_factor=times, mode="bilinear")[0, 0]
    found = fit_image(linear.round().to(torch.uint8), height, width, "as_is")[0]
    assert (found.int() - image.int()).abs().max() <= 3  # whole levels of the large one are what it is made from


def test_least_squares_by_another_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "ENLARGEMENTS", (Image.Resampling.BILINEAR,))
    large = torch.from_numpy(np.random.default_rng(1).integers(60, 190, (13, 13), dtype=np.uint8))
    units = torch.eye(36).view(36, 1, 6, 6)
    columns = interpolate(units, (13, 13), mode="bilinear").view(36, -1).T.double().numpy()  # (169, 36)
    expected = np.linalg.lstsq(columns, large.reshape(-1).double().numpy(), rcond=None)[0]
    found = fit_image(large, 6, 6, "as_is")[0]
    assert np.array_equal(found.numpy(), np.rint(expected).clip(0, 255).reshape(6, 6))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(*[st.integers(1, 60)] * 4, st.integers(0, 255))
@example(1, 5000, 28, 28, 7)
@example(5000, 3000, 28, 28, 200)
def test_any_size_fits(height: int, width: int, to_height: int, to_width: int, level: int) -> None:
    fitted, inverted = fit_image(torch.full((height, width), level, dtype=torch.uint8), to_height, to_width)
    assert not inverted
    assert fitted.shape == (to_height, to_width)
    assert (fitted == level).all()


def test_the_aspect_is_kept_and_the_rest_is_background() -> None:
    image = torch.full((100, 300), 30, dtype=torch.uint8)
    image[10:90, 20:280] = 220
    fitted, _ = fit_image(image, 28, 28)
    rows, columns = (fitted > 125).any(1).nonzero()[:, 0], (fitted > 125).any(0).nonzero()[:, 0]
    assert (len(columns), len(rows)) == (24, 7)  # 260 and 80 of 300, scaled to 28
    assert (fitted[:8] == 30).all()
    assert (fitted[-8:] == 30).all()


def mass_center(image: torch.Tensor) -> tuple[float, float]:
    weights = image.double()
    rows, columns = (torch.arange(size, dtype=torch.double) for size in image.shape)
    return float((weights.sum(1) @ rows) / weights.sum()), float((weights.sum(0) @ columns) / weights.sum())


def test_centered_as_mnist_is(real_mnist: Path) -> None:
    digits = load_dataset("mnist", real_mnist).test.images[:200]
    for digit in digits:
        sheet = torch.full((170, 240), 230, dtype=torch.uint8)
        ink = digit.repeat_interleave(3, 0).repeat_interleave(3, 1)
        sheet[10:94, 130:214] -= (ink.float() * 0.6).to(torch.uint8)  # pencil: gray on off-white, far from the middle
        found, inverted = fit_image(sheet, 28, 28, prepare=True)
        assert inverted
        assert found.max() == 255
        rows, columns = (found > 25).any(1).nonzero()[:, 0], (found > 25).any(0).nonzero()[:, 0]
        assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 in (19, 20)  # the outermost may be faint
        assert mass_center(found) == pytest.approx((14, 14), abs=0.51)
        assert mass_center(found) == pytest.approx(mass_center(digit), abs=1.01)
    mean = torch.tensor([mass_center(digit) for digit in digits]).mean(0)
    assert mean.tolist() == pytest.approx([14, 14], abs=0.05)


def test_where_and_how_large_it_was_drawn_does_not_matter_once_centered() -> None:
    drawn = torch.zeros(30, 20, dtype=torch.uint8)
    drawn[2:28, 8:12] = 255
    drawn[2:6, 4:16] = 255
    found = []
    for top, left, times in ((0, 0, 1), (40, 70, 1), (3, 90, 2), (11, 5, 4)):
        sheet = torch.zeros(140, 200, dtype=torch.uint8)
        ink = drawn.repeat_interleave(times, 0).repeat_interleave(times, 1)
        sheet[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        found.append(fit_image(sheet, 28, 28, prepare=True)[0].int())
    for other in found[1:]:  # where an edge falls within a pixel differs
        assert (other - found[0]).abs().max() <= 100
        assert (other - found[0]).abs().float().mean() <= 4


def test_centering_cuts_no_ink_off() -> None:
    heavy_top = torch.zeros(60, 60, dtype=torch.uint8)
    heavy_top[0:8, 0:60] = 255
    heavy_top[:, 29:31] = 255
    found, _ = fit_image(heavy_top, 28, 28, "as_is", prepare=True)
    assert (found > 0).any(1).sum() == 20


@pytest.mark.parametrize(
    "wrong", [torch.zeros(3, 3), torch.zeros(3, 3, 4, dtype=torch.uint8), torch.zeros(0, 3).byte()]
)
def test_a_programmers_mistake(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        fit_image(wrong, 28, 28)
