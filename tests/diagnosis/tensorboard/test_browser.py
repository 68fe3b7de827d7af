"""TensorBoard on a finished run, opened in a real browser: every tab shows its data."""

import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from browser import Browser, find_browser
from conftest import ROOT, make_idx_folder
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Board:
    """A page of TensorBoard over one run."""

    browser: Browser
    url: str
    last: dict[str, float]
    """The last epoch's values, from history.csv."""

    def show(self, tab: str) -> Browser:
        self.browser.open(f"{self.url}/#{tab}")
        return self.browser

    def assert_drawn(self) -> None:
        """The part of the window below the bar and beside the menus is not blank, or soon is not."""
        for _ in range(100):
            picture = Image.open(BytesIO(self.browser.screenshot())).convert("RGB")
            content = picture.crop((picture.width // 3, 100, picture.width, picture.height))
            if len(content.getcolors(maxcolors=1 << 24)) > 20:
                return
            time.sleep(0.2)
        pytest.fail("the page stays blank")


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    program = find_browser()
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium: continuous integration must have one (apt-get install chromium)")
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = make_idx_folder(folder / "data", num_train=600, num_test=300)
        (folder / "profile").mkdir()
        run = folder / "runs" / "idx" / "shown"
        flags = (
            f"--data.dataset idx --data.root {data} --data.num_validation 100 --data.batch_size 32 --model.width 16 "
            "--trainer.max_epochs 3 --trainer.accelerator cpu --trainer.log_every_n_steps 4 "
            f"--diagnostics.every_n_steps 10 --run_root {folder / 'runs'} --run_name shown"
        )
        command = [sys.executable, "scripts/train.py", *flags.split()]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
        with (run / "history.csv").open(newline="") as file:
            *_, last = ({name: float(value) for name, value in row.items()} for row in csv.DictReader(file))
        serve = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder / "runs")]
        # port 0: any free one, which it prints when it serves
        with (
            subprocess.Popen(
                [*serve, "--host", "localhost", "--port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as server,
            Browser(program, folder / "profile") as browser,
        ):
            try:
                assert server.stderr is not None
                lines = (line.decode() for line in server.stderr)
                url = next(match[0] for line in lines if (match := re.search(r"http://localhost:\d+", line)))
                yield Board(browser, url, last)
            finally:
                server.terminate()


LAYERS = ", ".join(f"layer_gradient_norm_log10/{name} (idx/shown)" for name in ("hidden_01", "hidden_02", "output"))
PICTURES = "confusion_matrix, first_layer_weights, gradients_by_layer_and_step, most_confident_mistakes, sample_batch"
TABS = f"""
timeseries: line-chart 2: curves 6 cards, diagnostics, layer_gradient_norm_log10, test 4 cards, pictures 5 cards
scalars: vz-line-chart2 8: curves/loss/train, diagnostics/gradient_ratio_log10, layer_update_ratio_log10, test
custom_scalars: vz-line-chart2 13: 1 Training, 2 Layer by layer, curves/loss/validation, {LAYERS}
images: img 5: pictures/{PICTURES.replace(", ", ", pictures/")}
histograms: path 20: layer_activations/hidden_01, layer_gradients/hidden_02, layer_weights
distributions: path 20: layer_activations/output, layer_gradients/hidden_01
graphs: svg textPath 3: normaliz, hidden_01, hidden_02, output, loss
text: table 1: 1_judgement, 2_network, 3_settings, 4_provenance, hidden 1 linear, 72·16 + 16
pr_curves: vz-line-chart2 3: precision_recall/0, precision_recall/1, precision_recall/2
"""
"""A tab; the elements that must be there, and how many; texts. In the graph, a text on a path is a shape on an edge."""


@pytest.mark.parametrize("row", TABS.strip().splitlines(), ids=lambda row: row.split(":")[0])
def test_every_tab_shows_its_data(board: Board, row: str) -> None:
    tab, elements, texts = row.split(": ")
    selector, number = elements.rsplit(" ", 1)
    page = board.show(tab)
    page.wait_for_text(*texts.split(", "))
    page.wait_for_elements(selector, int(number))
    assert "hp_metric" not in page.text()
    board.assert_drawn()


def test_hparams_show_the_final_metrics(board: Board) -> None:
    page = board.show("hparams")
    text = page.wait_for_text("idx/shown", "model.activation", "relu", "curves/accuracy/validation", "test/accuracy")
    assert f"{board.last['validation/accuracy']:.5g}" in text
    assert "hp_metric" not in text
    board.assert_drawn()


def test_projector(board: Board) -> None:
    page = board.show("projector")
    page.wait_for_text("Points: 300", "Dimension: 16", "last hidden layer: pictures, coloured", timeout_s=90)
    board.assert_drawn()
