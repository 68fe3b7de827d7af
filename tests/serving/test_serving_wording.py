"""The sentences that a user of a trained network reads; the other tests compare classes, numbers and names."""

import html
import io
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from project.data.sources.picture_files import FORMATS, read_image
from project.errors import InputError
from project.serving.demo.page import Answer, answer_page
from project.serving.export.model_card import Check

BLACK = torch.zeros(2, 2, dtype=torch.uint8)


def tiff(mode: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (2, 2), 70_000).save(file, "TIFF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "cause", "remedy"),
    [
        (b"text", "is not a picture in a format that is read", f"give one of {', '.join(FORMATS)}"),
        (None, "does not exist", "check the name"),
        (tiff("F"), "cannot be read: its gray levels are floats, and", "save it again as an 8-bit PNG or JPEG"),
        (tiff("I"), "cannot be read: its gray levels go from 70000 to 70000, but 0 to 65,535 are expected", "save it"),
        (b"P5 10000 10000 255\n", "has more than the 80,000,000 pixels that are read", "make it smaller"),
    ],
)
def test_a_picture_that_is_refused(content: bytes | None, cause: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "given.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert caught.value.cause.startswith(f"{path} {cause}")
    assert caught.value.remedy.startswith(remedy)


def test_the_check_of_an_exported_file() -> None:
    assert str(Check(1.23e-7, 5000, 4999, "test", (1, 37))) == (
        "max difference 1.2e-07 (of a probability) from the checkpoint in float64, on 5,000 pictures of the test "
        "split, in batches of 1, 37; the same class for 4,999 of them"
    )
    assert "(in standard deviations of the target)" in str(Check(0.0, 5000, None, "test", (1, 37)))


@pytest.mark.parametrize(
    ("share", "hidden", "sentences"),
    [
        (0.75, [torch.ones(3)], ["right 75.0 %", "The test set says: left", "Layer 1: 3 of 3 units above 0"]),
        (0.75, [], ["There are none: every output is one weighted sum of the pixels.", "Answered in 4 ms."]),
        (float("nan"), [], ["no answer This network's outputs are not numbers: its training diverged."]),
    ],
)
def test_the_demos_answer(share: float, hidden: list[torch.Tensor], sentences: list[str]) -> None:
    shares = torch.tensor([1 - share, share])
    answer = Answer("run", "2 → 2", ("left", "right"), BLACK, False, False, shares, "", 1, hidden, BLACK.float())
    words = html.unescape(" ".join(re.sub(r"<.*?>", " ", answer_page([answer], "left", 0.0042)).split()))
    assert [sentence for sentence in sentences if sentence not in re.sub(r" ([.:,])", r"\1", words)] == []
