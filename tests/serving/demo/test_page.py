"""The demo's page: every class, unit and name in its place, whatever they are."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch

from project.serving.demo.page import (
    CSS,
    MAX_BARS,
    NEGATIVE,
    POSITIVE,
    Answer,
    answer_page,
    empty_page,
    error_page,
    signed_colors,
    unit_colors,
)

HOSTILE = "</style><script>alert(1)</script>${1+1}{{value}}"


class Tags(HTMLParser):
    """Names of a page's elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def made_up(**changes: Any) -> Answer:
    settings: dict[str, Any] = {"name": "set/run", "description": "4 → 2", "class_names": ("left", "right")}
    settings |= {"image": torch.zeros(2, 2, dtype=torch.uint8), "inverted": False, "prepared": False}
    settings |= {"answer": torch.tensor([0.25, 0.75]), "unit": "", "decision": 1, "hidden": [torch.ones(3)]}
    return Answer(**settings | {"attribution": torch.zeros(2, 2)} | changes)


def test_the_answers_bars() -> None:
    page = answer_page([made_up()], "left", 0.0042)
    assert re.findall(r"data-share='([\d.]+)'", page) == ["0.2500", "0.7500"]
    assert re.findall(r"[\d.]+ %", Tags(page).text)[-2:] == ["25.0 %", "75.0 %"]


def test_nearly_certain_is_not_certain() -> None:
    text = Tags(answer_page([made_up(answer=torch.tensor([2e-5, 1 - 2e-5]))], "", 0)).text
    assert "< 0.1 %" in text
    assert "> 99.9 %" in text
    assert "100.0 %" in Tags(answer_page([made_up(answer=torch.tensor([0.0, 1.0]))], "", 0)).text


def test_many_classes_are_ranked() -> None:
    names = tuple(f"class {index}" for index in range(47))
    page = answer_page([made_up(class_names=names, answer=torch.arange(47.0) / 1081, decision=46)], "", 0)
    shown = re.findall(r"title='(class \d+)'", page)
    assert shown == [f"class {46 - rank}" for rank in range(MAX_BARS)]
    assert "35" in Tags(page).text.split()


def test_a_regression_shows_its_number_and_unit() -> None:
    page = answer_page([made_up(answer=torch.tensor(-12.345), class_names=(), unit="degrees")], "8.0", 0)
    words = Tags(page).text.split()
    assert {"-12.35", "-12.34"} & set(words)
    assert {"degrees", "8.0"} <= set(words)


def test_a_diverged_network_has_no_bars() -> None:
    page = answer_page([made_up(answer=torch.full((2,), torch.nan), hidden=[torch.full((3,), torch.nan)])], "", 0)
    assert "data-share" not in page
    assert "nan" not in Tags(page).text


def cells(page: str) -> dict[str, int]:
    """How many networks each panel shows."""
    _, *panels = page.split("<section class='mlp-panel mlp-")
    return {panel.partition("'")[0]: panel.count("class=mlp-cell>") for panel in panels}


def test_several_networks_share_the_panels_and_one_view_of_the_same_picture() -> None:
    panels = {"answer": 2, "sees": 1, "pixels": 2, "layers": 2}
    assert cells(answer_page([made_up(name="a"), made_up(name="b")], "", 0)) == panels
    other = made_up(name="c", image=torch.ones(4, 4, dtype=torch.uint8), attribution=torch.ones(4, 4))
    assert cells(answer_page([made_up(), other], "", 0)) == panels | {"sees": 2}


def test_names_from_a_stranger_are_text() -> None:
    answer = made_up(name=HOSTILE, description=HOSTILE, class_names=(HOSTILE, HOSTILE), unit=HOSTILE)
    pages = [
        answer_page([answer, answer], HOSTILE, 0),
        answer_page([replace(answer, answer=torch.tensor(1.0), class_names=())], HOSTILE, 0),
        empty_page([HOSTILE], [HOSTILE]),
        error_page(HOSTILE, HOSTILE),
    ]
    for page in pages:
        tags = Tags(page)
        assert not {"script", "style"} & set(tags.names)
        assert HOSTILE in tags.text


def test_colours_tell_sign_and_size() -> None:
    colors = signed_colors(torch.tensor([[2.0, -2.0, 0.0, 1.0, torch.nan]]))
    assert [tuple(color) for color in colors[0][:3]] == [POSITIVE, NEGATIVE, (0, 0, 0)]
    assert tuple(colors[0][3]) == tuple(int(np.rint(level / 2)) for level in POSITIVE)
    assert not colors[0][4].any()
    assert not signed_colors(torch.zeros(2, 3)).any()
    assert f"rgb{POSITIVE}" in CSS


@pytest.mark.parametrize("num", [1, 2, 3, 16, 100, 512, 1000, 5000])
def test_each_unit_has_its_square(num: int) -> None:
    colors = unit_colors(torch.arange(1.0, num + 1))
    shown = min(num, 4096)
    assert (colors[..., 3] == 255).sum() == shown
    assert colors.reshape(-1, 4)[:shown, 3].all(), "in reading order, the padding at the end"
    red = colors.reshape(-1, 4)[:shown, 0].astype(int)
    assert (np.diff(red) >= 0).all()
    rows, columns = colors.shape[:2]
    assert rows <= columns <= max(4 * rows, 4)
