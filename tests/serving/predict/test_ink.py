"""Ink on paper: found whatever the light, the paper, the pen and the place, and drawn as MNIST has it."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.picture_cases.paper import PAPERS, as_read, middle_line, photograph
from project.serving.predict.ink import BOX_FRACTION, STROKE_FRACTIONS, prepare_ink, threshold


def seven(pen: int, side: int = 300) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """A seven as wide as high, drawn with a pen: the ink's opacity in 0–1."""
    image = Image.new("L", (side, side))
    corners = [(side // 3, side // 3), (2 * side // 3, side // 3), (side // 2, 2 * side // 3)]
    ImageDraw.Draw(image).line(corners, 255, pen, "curve")
    return np.asarray(image) / 255.0


def on_paper(ink: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", paper: float, colour: float) -> torch.Tensor:
    return torch.from_numpy((paper + (colour - paper) * ink).round().astype(np.uint8))


def prepared(image: torch.Tensor) -> tuple[torch.Tensor, bool]:
    found = prepare_ink(image, 28, 28)
    assert found is not None
    return found


@pytest.mark.parametrize("paper", [255.0, 150.0, 40.0, 0.0])
@pytest.mark.parametrize("contrast", [60.0, 105.0])
def test_paper_and_ink_of_any_brightness_give_the_same_picture(paper: float, contrast: float) -> None:
    colour = paper - contrast if paper >= contrast else paper + contrast
    expected, _ = prepared(on_paper(seven(12), 0, 255))
    found, inverted = prepared(on_paper(seven(12), paper, colour))
    assert inverted == (colour < paper)
    assert (found.int() - expected.int()).abs().float().mean() < 2


@pytest.mark.parametrize("across", [0.8, 0.5])
def test_uneven_light_is_removed(across: float) -> None:
    """A slope of light, and a shadow with an edge: the ink in the dark is darker than none, the paper there too."""
    expected, _ = prepared(on_paper(seven(12), 255, 20))
    light = np.linspace(1, across, 300)[None] * np.where(np.arange(300) < 150, 1, 0.6)[:, None]
    levels = (255 - 235 * seven(12)) * ndimage.gaussian_filter(light, 3)
    found, inverted = prepared(torch.from_numpy(levels.round().astype(np.uint8)))
    assert inverted
    assert (found.int() - expected.int()).abs().float().mean() < 4


def test_strokes_are_brought_to_the_usual_width() -> None:
    """The area of the ink over the length of its middle line, whose box is a stroke smaller than 20 pixels."""
    low, high = (fraction * 28 for fraction in STROKE_FRACTIONS)
    widths = []
    for pen in (3, 8, 12, 16, 30):
        area = prepared(on_paper(seven(pen), 255, 0))[0].double().sum().item() / 255
        widths.append(area / ((20 - (low + high) / 2) * (1 + 1.25**0.5)))
    assert all(low - 0.3 <= width <= high + 0.3 for width in widths), widths


def test_where_it_is_put() -> None:
    sheet = Image.new("L", (300, 300), 255)
    ImageDraw.Draw(sheet).ellipse((20, 90, 100, 280), outline=0, width=12)
    found, _ = prepared(torch.from_numpy(np.array(sheet)))
    rows, columns = (torch.nonzero((found > 25).any(axis)).flatten() for axis in (1, 0))
    assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 == round(28 * BOX_FRACTION)
    weights = found.double()
    center = [(weights.sum(axis) * torch.arange(28)).sum() / weights.sum() for axis in (1, 0)]
    assert all(abs(float(one) - 14) <= 0.51 for one in center)


def test_dirt_is_left_out_and_a_second_stroke_is_not() -> None:
    sheet = np.full((200, 200), 240, np.uint8)
    sheet[60:140, 70:80], sheet[90:100, 100:130] = 20, 20
    clean, _ = prepared(torch.from_numpy(sheet))
    sheet[10:14, 10:14] = 20
    assert torch.equal(prepared(torch.from_numpy(sheet))[0], clean)
    assert int((clean > 127).any(0).sum()) > 10


def test_no_ink_is_said() -> None:
    assert prepare_ink(torch.full((50, 50), 200, dtype=torch.uint8), 28, 28) is None


@pytest.mark.parametrize("size", [(1, 2), (2, 300), (28, 28), (9, 8), (2000, 30)])
def test_any_picture_becomes_one_of_the_networks(size: tuple[int, int]) -> None:
    noise = torch.randint(256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for height, width in ((28, 28), (8, 9), (1, 1), (64, 32)):
        found = prepare_ink(noise, height, width)
        assert found is None or found[0].shape == (height, width)


def test_otsu_against_the_definition() -> None:
    """The threshold of least variance within both sides, by trying every one."""
    generator = np.random.default_rng(0)
    values = np.concatenate((generator.normal(0, 1, 500), generator.normal(6, 1, 100)))
    tried = np.linspace(values.min(), values.max(), 500)[1:-1]
    within = [sum(side.var() * len(side) for side in (values[values <= t], values[values > t])) for t in tried]
    assert threshold(values) == pytest.approx(tried[int(np.argmin(within))], abs=0.3)


def test_a_photographs_digit_is_where_it_was_drawn() -> None:
    """Two straight lines, with every pen, paper and light of the benchmark: the middle line runs through the ink."""
    line = np.linspace(0, 1, 200)
    strokes = np.concatenate((np.stack((line, 0 * line), 1), np.stack((1 - line / 2, line), 1))) - 0.5
    generator = np.random.default_rng(1)
    found = [prepared(as_read(photograph(strokes, generator)))[0] for _ in range(30)]
    assert all(one[4:9].sum() > one[15:20].sum() > 0 for one in found)  # the bar of the seven, and its leg
    assert len(PAPERS) > 4


def test_a_middle_line_is_thin_and_whole() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    points = middle_line(image)
    assert np.ptp(points[:, 0]) < 0.05  # one pixel wide, straight
    assert np.ptp(points[:, 1]) == pytest.approx(1)
