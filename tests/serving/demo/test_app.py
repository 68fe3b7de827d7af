"""The demo: the same answers as evaluation's, said in plain words, on a page that a real browser draws on."""

import base64
import importlib.util
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from browser import Browser, find_browser
from conftest import ROOT
from finished import call, finish, small_flags
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_page import Tags  # type: ignore[import-not-found]

from project.errors import InputError
from project.serving.demo.app import Contender, Drawing, load_contenders
from project.serving.demo.gallery import gallery, load_test
from project.serving.demo.page import answer_page, png_url

TASKS = {
    "multiclass": ["--model.depth=3", "--model.width=[16, 5, 9]"],
    "softmax": ["--model.depth=0", "--model.width=[]", "--model.norm=none"],
    "binary": ["--model.task=binary", "--data.classes=[2, 0]", "--model.activation=gelu"],
    "rotation": ["--model.task=regression", "--data.target=rotation", "--data.num_train=100"],
}
ODD_NAME = "${6*7}{{value}}<b>odd&amp;"
"""A run's name that is neither HTML nor a template."""

for package in ("gradio", "captum"):
    if importlib.util.find_spec(package) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{package} is not installed (pip install -e '.[demo]')", allow_module_level=True)


@pytest.fixture(scope="module")
def runs(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each task."""
    root = tmp_path_factory.mktemp("demo") / "runs"
    common = [*small_flags(idx_folder, root), "--trainer.max_epochs=8", "--model.dropout=0"]
    return {name: finish(*common, f"--run_name={name}", *flags) for name, flags in TASKS.items()}


@pytest.fixture(params=TASKS)
def contender(request: pytest.FixtureRequest, runs: dict[str, Path]) -> Contender:
    return load_contenders([runs[request.param]])[0]


def example(image: torch.Tensor) -> Drawing:
    return Drawing(image, "example", "black", "")


def chance() -> random.Random:
    return random.Random(1)  # noqa: S311 - chooses pictures, no secrets


def message(pixels: "np.ndarray[Any, Any]", kind: str = "drawn", paper: str = "black", truth: str = "") -> str:
    return json.dumps({"picture": png_url(pixels), "kind": kind, "paper": paper, "truth": truth})


def test_test_pictures_get_the_answers_that_evaluation_scored(contender: Contender) -> None:
    """The metrics that training wrote, computed anew from the demo's own answers."""
    datamodule = contender.run.datamodule
    loader = datamodule.evaluation_loader("test")
    hits, squares = [], []
    for batch, _ in loader:
        for image, target in zip(batch.images, batch.targets, strict=True):
            answer = contender.answer(example(image.round().to(torch.uint8)), True, "gradient_times_input")
            if answer.class_names:
                assert answer.answer.sum().item() == pytest.approx(1)
                assert int(answer.answer.argmax()) == answer.decision
                hits.append(answer.decision == int(target))
            else:
                squares.append((float(answer.answer) - float(target)) ** 2)
    if hits:
        assert np.mean(hits) == contender.run.metrics["test/accuracy"]
        assert np.mean(hits) > 0.5  # so that this is more than agreement on nonsense
    else:  # turned pictures have fractions of gray levels, which a picture file has not
        assert np.mean(squares) ** 0.5 == pytest.approx(contender.run.metrics["test/rmse"], rel=1e-2)


def test_a_test_picture_arrives_untouched_and_with_its_name(contender: Contender) -> None:
    image, truth = contender.example(chance())
    if contender.run.datamodule.settings.target == "rotation":
        assert abs(float(truth)) <= 45
    else:
        images, targets = contender.run.datamodule.data.test.images, contender.run.datamodule.targets("test")
        place = next(i for i, other in enumerate(images) if torch.equal(other, image))
        assert truth == contender.run.module.spec.class_names[targets[place]]
    drawing = Drawing.from_page(message(image.numpy(), "example", truth=truth))
    assert torch.equal(contender.answer(drawing, True, "gradient_times_input").image, image)
    assert drawing.truth == truth


def test_the_panels_show_every_layer(contender: Contender) -> None:
    image, _ = contender.example(chance())
    answer = contender.answer(example(image), False, "integrated_gradients")
    widths = {"multiclass": [16, 5, 9], "softmax": []}.get(contender.run.folder.name, [16, 16])
    assert [len(layer) for layer in answer.hidden] == widths
    assert answer.attribution.shape == image.shape
    page = Tags(answer_page([answer], "", 0.01))
    assert page.names.count("img") == 2 + len(widths)
    shown = re.findall(r"(\d+) of (\d+)", page.text)
    assert shown == [(str(int((layer > 0).sum())), str(len(layer))) for layer in answer.hidden]


def test_a_run_is_described_by_its_layers_and_its_own_weights_score(runs: dict[str, Path]) -> None:
    best, last = load_contenders([runs["multiclass"], runs["multiclass"] / "checkpoints" / "last.ckpt"])
    (of_rotation,) = load_contenders([runs["rotation"]])
    accuracy = best.run.metrics["test/accuracy"]
    assert best.description.startswith("72 → 16 → 5 → 9 → 3, ")
    assert f" {100 * accuracy:.1f} %" in best.description
    assert last.description == "72 → 16 → 5 → 9 → 3"
    assert last.name == "idx/multiclass (last)"
    layers, _, score = of_rotation.description.partition(", ")
    assert layers == "72 → 16 → 16 → 1"
    assert float(score.split()[-1]) == pytest.approx(of_rotation.run.metrics["test/rmse"], rel=1e-2)


@pytest.mark.parametrize(
    ("kind", "paper", "usual", "expected"),
    [
        ("drawn", "black", "auto", "as_is"),
        ("drawn", "white", "auto", "invert"),
        ("file", "black", "auto", "auto"),
        ("example", "white", "auto", "as_is"),
        ("drawn", "white", "as_is", "as_is"),  # whether the user's own data are light on dark is not known
    ],
)
def test_paper_and_files_are_turned_to_what_the_network_knows(kind: Any, paper: Any, usual: Any, expected: str) -> None:
    assert Drawing(torch.zeros(2, 2, dtype=torch.uint8), kind, paper, "").polarity(usual) == expected


def test_the_same_drawing_on_black_and_on_white_paper_is_the_same_picture(runs: dict[str, Path]) -> None:
    drawn = np.zeros((280, 280), np.uint8)
    drawn[40:240, 80:200] = 255
    one = load_contenders([runs["multiclass"]])[0]
    seen = [
        one.answer(Drawing.from_page(message(pixels, paper=paper)), False, "gradient_times_input").image
        for pixels, paper in ((drawn, "black"), (255 - drawn, "white"))
    ]
    assert torch.equal(seen[0], 255 - seen[1])  # own data are taken as they are; MNIST's would be inverted
    assert seen[0].max() > 200


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["picture", "kind", "paper", "truth"]), inner)
            ),
        ).map(json.dumps),
        st.binary().map(
            lambda data: json.dumps(
                {"picture": "x," + base64.b64encode(data).decode(), "kind": "file", "paper": "", "truth": ""}
            )
        ),
    )
)
def test_whatever_else_is_sent_is_refused_in_words(sent: str) -> None:
    with pytest.raises(InputError) as refusal:
        Drawing.from_page(sent)
    assert refusal.value.cause
    assert refusal.value.remedy


def test_a_picture_file_is_read_at_its_own_size() -> None:
    file = io.BytesIO()
    Image.new("RGB", (31, 17), "white").save(file, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    sent = json.dumps({"picture": url, "kind": "file", "paper": "black", "truth": ""})
    assert Drawing.from_page(sent).image.shape == (17, 31)


def test_bad_input(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """What tests/whole/test_bad_input.py does not ask."""
    run = runs["softmax"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for words, *named in (
            ([run, run], str(run)),
            ([run, "--port=seven"], "port"),
            ([run, "--host=no.such.host.invalid"], "no.such.host.invalid"),
            ([run, f"--port={port}"], str(port), "--port 0"),
        ):
            said = call(capsys, "demo", *words)
            assert said.status == 2, said
            assert re.fullmatch(r"error: .+\n  fix: .+\n", said.err), said
            assert all(part in said.err for part in named), said


@pytest.mark.parametrize("package", ["gradio", "captum.attr"])
def test_a_missing_package_is_named_before_anything_is_served(
    package: str, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = call(capsys, "demo", runs["softmax"])
    assert said.status == 2
    assert package.split(".")[0] in said.err
    assert ".[demo]" in said.err


def test_data_that_have_gone_are_no_reason_to_fetch_them(runs: dict[str, Path], tmp_path: Path) -> None:
    one = load_contenders([runs["multiclass"]], tmp_path / "nothing")[0]
    with pytest.raises(InputError):
        one.example(chance())
    assert not one.run.datamodule.settings.download


WATCH = """
import os, sys
log = open(os.environ["CONNECTIONS"], "a", buffering=1)
def hook(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        log.write(f"{arguments[1][0]}\\n")
    elif event == "socket.getaddrinfo":
        log.write(f"{arguments[0]}\\n")
sys.addaudithook(hook)
"""
"""Put before a Python program, writes down every host that it looks up or connects to."""


def test_the_gallery_has_one_of_each_class_and_the_most_confident_mistakes(contender: Contender) -> None:
    run = contender.run
    (shown, *mistakes) = gallery(run)
    (batches, targets) = zip(*((batch.images, batch.targets) for batch, _ in load_test(run)), strict=True)
    images, wanted = torch.cat(batches), torch.cat(targets)
    answers = run.predict(images)
    if run.class_names:
        assert sorted(one["truth"] for one in shown["pictures"]) == sorted(run.class_names)
        wrong = (answers.argmax(1) != wanted).numpy()
        worst = np.sort(answers.max(1).values.numpy()[wrong])[::-1][:10]
        found = [one for group in mistakes for one in group["pictures"]]
        assert len(found) == len(worst)
        for one, share in zip(found, worst, strict=True):
            pixels = np.array(Image.open(io.BytesIO(base64.b64decode(one["picture"].partition(",")[2]))))
            answer = run.predict(torch.from_numpy(pixels))[0]
            assert float(answer.max()) == pytest.approx(share, abs=1e-6)
            assert one["caption"] == f"{one['truth']}, called {run.class_names[int(answer.argmax())]}"
            assert one["truth"] != run.class_names[int(answer.argmax())]
    else:
        (worst_errors,) = mistakes
        expected = (answers - wanted).abs().sort(descending=True).values[:10]
        said = [one["caption"].split(", called ") for one in worst_errors["pictures"]]
        errors = [abs(float(truth) - float(answer)) for truth, answer in said]
        assert errors == pytest.approx(expected.tolist(), abs=0.11)


def test_without_data_there_is_no_gallery(runs: dict[str, Path], tmp_path: Path) -> None:
    (one,) = load_contenders([runs["multiclass"]], tmp_path / "nothing")
    assert gallery(one.run) == []


def test_what_is_unlike_is_said(runs: dict[str, Path]) -> None:
    (one,) = load_contenders([runs["multiclass"]])
    checker = torch.from_numpy((255 * (np.indices((8, 9)).sum(0) % 2)).astype(np.uint8))
    answer = one.answer(example(checker), False, "gradient_times_input")
    known, _ = one.example(chance())
    usual = one.answer(example(known), False, "gradient_times_input")
    for shown in (answer, usual):
        said = one.run.unlike(shown.image[None])
        assert said is not None
        assert shown.unlike == bool(said[0])
        assert ("mlp-strange" in answer_page([shown], "", 0.01)) == shown.unlike


@dataclass(frozen=True)
class Served:
    """The demo in a process of its own, with a browser on it."""

    browser: Browser
    address: str
    connections: Path

    def open(self, width: int = 1280) -> None:
        self.browser.look(width, 900)
        self.browser.open(self.address)
        # Gradio lays a veil over the page until it is ready
        self.browser.wait_for(
            "(() => { const c = document.querySelector('.blank canvas'); if (!c) return false;"
            "c.scrollIntoView(); const r = c.getBoundingClientRect();"
            "return document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2) === c; })()"
        )

    def draw(self, *points: tuple[float, float]) -> None:
        """A stroke through points given as shares of the canvas' width and height."""
        left, top, width, height = self.browser.run(
            "(() => { const r = document.querySelector('.mlp-canvas canvas').getBoundingClientRect();"
            "return [r.x, r.y, r.width, r.height]; })()"
        )
        self.browser.drag([(left + x * width, top + y * height) for x, y in points])

    def press(self, name: str) -> None:
        assert self.browser.run(
            "(() => { const all = [...document.querySelectorAll('button')];"
            f"const wanted = all.find((button) => button.textContent.includes('{name}'));"
            "wanted?.click(); return !!wanted; })()"
        )

    def state(self) -> str:
        return str(self.browser.run("document.querySelector('.mlp-page').dataset.state"))

    def shares(self) -> list[float]:
        found = self.browser.run("[...document.querySelectorAll('.mlp-bar')].map((bar) => bar.dataset.share)")
        return [float(share) for share in found]

    def settled_shares(self) -> list[float]:
        """The bars once they no longer change: while a pen moves, several answers follow each other."""
        shares = self.shares()
        for _ in range(40):
            time.sleep(0.5)
            before, shares = shares, self.shares()
            if shares and shares == before:
                return shares
        pytest.fail("the answer never settles")

    def wait_for_state(self, state: str) -> None:
        self.browser.wait_for(f"document.querySelector('.mlp-page')?.dataset.state === '{state}'")


@contextmanager
def demo_process(folder: Path, *paths: Path) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """The demo in a process of its own, watched, and its address."""
    (folder / "sitecustomize.py").write_text(WATCH)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        "CONNECTIONS": str(folder / "connections"),
        "OMP_NUM_THREADS": "1",
        # a proxy that refuses: what went through one would fail
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    }
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), *map(str, paths), "--port=0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stderr is not None
            line = server.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line or server.stderr.read()
            yield server, found[0]
        finally:
            server.kill()


@pytest.fixture(scope="module")
def served(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    program = find_browser()
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium: continuous integration must have one (apt-get install chromium)")
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    folder = tmp_path_factory.mktemp("served")
    (folder / "profile").mkdir()
    odd = Path(shutil.copytree(runs["softmax"], folder / ODD_NAME))
    with (
        demo_process(folder, runs["multiclass"], odd) as (_, address),
        Browser(program, folder / "profile") as browser,
    ):
        yield Served(browser, address, folder / "connections")


@pytest.mark.slow
@pytest.mark.timeout(240)
class TestInTheBrowser:
    def test_a_stroke_is_answered_and_the_next_one_changes_the_answer(self, served: Served) -> None:
        served.open()
        assert served.state() == "empty"
        assert "idx/multiclass" in served.browser.text()
        assert ODD_NAME in served.browser.text()
        served.draw((0.2, 0.1), (0.2, 0.9))
        served.wait_for_state("answer")
        first = served.settled_shares()
        assert ODD_NAME in served.browser.text()
        assert len(first) == 6  # three classes of two networks
        assert sum(first[:3]) == pytest.approx(1, abs=2e-4)
        assert sum(first[3:]) == pytest.approx(1, abs=2e-4)
        served.draw((0.1, 0.8), (0.5, 0.7), (0.9, 0.8))
        bars = "[...document.querySelectorAll('.mlp-bar')]"
        served.browser.wait_for(f"{bars}.some((b, i) => +b.dataset.share !== {json.dumps(first)}[i])")
        served.press("Undo")
        served.browser.wait_for(f"{bars}.every((b, i) => +b.dataset.share === {json.dumps(first)}[i])")
        served.press("Clear")
        served.wait_for_state("empty")

    def test_under_the_pen_the_answer_is_there_and_the_canvas_stays_in_place(self, served: Served) -> None:
        served.open()
        browser = served.browser
        place = "Object.values(document.querySelector('canvas').getBoundingClientRect().toJSON()).slice(0, 3)"
        before = browser.run(place)
        browser.run(
            "document.querySelector('canvas').addEventListener('pointerup',"
            "() => { window.stateAtEnd = document.querySelector('.mlp-page').dataset.state; }, true)"
        )
        served.draw(*((0.2 + 0.6 * step / 100, 0.5) for step in range(100)))
        assert browser.run("window.stateAtEnd") == "answer"
        assert browser.run(place) == before

    def test_what_is_drawn_is_what_the_network_sees(self, served: Served) -> None:
        served.open()
        served.draw((0.1, 0.15), (0.9, 0.15))
        served.wait_for_state("answer")
        served.settled_shares()
        url = served.browser.run("document.querySelector('.mlp-sees img').src")
        seen = np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
        assert seen.shape == (8, 9)
        # a line from side to side near the top, and nothing anywhere else
        assert seen[1, 1:-1].min() > 100
        assert seen[4:].max() < 30

    def test_a_test_picture_and_its_name(self, served: Served) -> None:
        served.open()
        served.press("picture of the test set")
        served.wait_for_state("answer")
        served.browser.wait_for("!!document.querySelector('.mlp-truth b')?.textContent")
        served.browser.run("document.querySelector('#prepare input').click()")
        served.wait_for_state("answer")

    def test_a_file_is_answered_and_what_is_none_is_refused_in_words(self, served: Served, tmp_path: Path) -> None:
        served.open()
        Image.new("L", (50, 50), 200).save(tmp_path / "gray.png")
        (tmp_path / "fake.png").write_bytes(b"no picture at all")
        served.browser.choose_file(".mlp-canvas input[type=file]", tmp_path / "gray.png")
        served.wait_for_state("answer")
        served.browser.choose_file(".mlp-canvas input[type=file]", tmp_path / "fake.png")
        served.wait_for_state("error")
        assert "Traceback" not in served.browser.text()
        (tmp_path / "large.png").write_bytes(bytes(10_000_001))
        served.browser.choose_file(".mlp-canvas input[type=file]", tmp_path / "large.png")
        served.browser.wait_for("document.querySelector('.mlp-page').innerText.includes('larger than 10 MB')")
        served.draw((0.5, 0.1), (0.5, 0.9))
        served.wait_for_state("answer")

    def test_the_keyboard_draws(self, served: Served) -> None:
        served.open()
        press = (
            "(key) => document.querySelector('.mlp-canvas canvas')"
            ".dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }))"
        )
        served.browser.run("document.querySelector('.mlp-canvas canvas').focus()")
        served.browser.run(f"for (let i = 0; i < 8; i++) ({press})('ArrowUp')")
        assert served.state() == "empty"  # the pen is lifted until the space bar lowers it
        served.browser.run(f"({press})(' '); for (let i = 0; i < 16; i++) ({press})('ArrowDown')")
        served.wait_for_state("answer")
        spoken = served.browser.wait_for("document.querySelector('[role=status]').textContent")
        assert served.browser.run("document.querySelector('.mlp-verdict').textContent").split()[0] in spoken

    def test_the_gallery_is_reached_by_the_keyboard_and_says_what_it_shows(self, served: Served) -> None:
        served.open()
        buttons = "[...document.querySelectorAll('.mlp-gallery button')]"
        names = served.browser.run(f"{buttons}.map((one) => one.getAttribute('aria-label'))")
        assert len(names) >= 3
        assert all(names)
        served.browser.run(f"{buttons}[0].focus()")
        assert served.browser.run(f"document.activeElement === {buttons}[0]")
        served.browser.run("document.activeElement.click()")
        served.wait_for_state("answer")
        served.browser.wait_for("!!document.querySelector('.mlp-truth b')?.textContent")

    def test_on_a_telephone_the_answer_is_right_under_the_pen(self, served: Served) -> None:
        served.open(390)
        served.draw((0.2, 0.5), (0.8, 0.5))
        served.wait_for_state("answer")
        gap = (
            "document.querySelector('.mlp-verdict').getBoundingClientRect().bottom"
            " - document.querySelector('.mlp-canvas canvas').getBoundingClientRect().bottom"
        )
        assert 0 < served.browser.run(gap) < 200
        assert served.browser.run("document.querySelector('.mlp-canvas canvas').getBoundingClientRect().width") > 250

    @pytest.mark.parametrize("width", [360, 390, 768, 1280, 1920])
    def test_nothing_hangs_over_the_edge(self, served: Served, width: int) -> None:
        served.open(width)
        served.draw((0.2, 0.5), (0.8, 0.5))
        served.wait_for_state("answer")
        assert served.browser.run("document.documentElement.scrollWidth") <= width
        edges = "[...document.querySelectorAll('.mlp-page img')].map((i) => i.getBoundingClientRect().right)"
        assert max(served.browser.run(edges)) <= width

    def test_nothing_comes_from_elsewhere_and_the_server_asks_nobody(self, served: Served) -> None:
        served.open()
        served.draw((0.2, 0.5), (0.8, 0.5))
        served.wait_for_state("answer")
        asked = [url for url in served.browser.requested if not url.startswith(("data:", "about:"))]
        assert len(asked) > 10
        assert {urlsplit(url).netloc for url in asked} == {urlsplit(served.address).netloc}
        time.sleep(1)
        hosts = set(served.connections.read_text().split())
        assert hosts <= {"127.0.0.1", "localhost"}, hosts
        assert hosts, "the watch does not watch"


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_quietly(runs: dict[str, Path], tmp_path: Path, signum: int, status: int) -> None:
    with demo_process(tmp_path, runs["softmax"]) as (server, _):
        server.send_signal(signum)
        out, err = server.communicate(timeout=10)
        assert server.returncode == status
        assert not out
        assert err.strip() in ("", f"stopped by {signal.Signals(signum).name}"), err
