"""What a stranger has written is shown as text: on a terminal, in CSV and JSON, in Markdown."""

import ast
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from finished import call, finish, read_metrics, small_flags
from PIL import Image

from project.errors import MAX_LINE, InputError, printable
from project.pages import Markdown, markdown, markdown_table, template, terminal

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>[a](javascript:b)`|"
MARKUP = "[red][/blue][link=file:///etc]"
HOSTILE = f"{ESCAPE}{HTML}\n# {MARKUP}"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Path:
    """A run folder in which every text is hostile, its own name too."""
    root = tmp_path_factory.mktemp("strangers")
    run = finish(*small_flags(idx_folder, root), "--trainer.max_epochs=1", "--model.width=4", "--run_name=x")
    folder = run.with_name("x\x1b[31m<img src=x>")
    run.rename(folder)
    for path in (folder / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content["spec"]["class_names"] = [f"{number}{HOSTILE}" for number in range(3)]
        torch.save(content, path)
    for name in ("metrics.json", "provenance.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(hostile(content)))
    return folder


def hostile(value: Any) -> Any:
    """The same with every text hostile but for what the program itself compares."""
    if isinstance(value, dict):
        classes = "class_accuracy"
        return {
            key: {f"{name}{HOSTILE}": share for name, share in item.items()} if classes in key else hostile(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [hostile(item) for item in value]
    kept = re.compile(r"completed|[0-9a-f]{64}|severe|warning|note")
    return f"{value}{HOSTILE}" if isinstance(value, str) and not kept.fullmatch(value) else value


def is_seen(text: str) -> bool:
    return printable(text, kept="\n\t") == text


def test_a_stranger_moves_no_cursor(
    stranger: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command, with what it prints and with its refusals."""
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "a\x1b[31m.png"
    Image.new("L", (9, 8)).save(picture)
    (tmp_path / "b\x1b[31m.png").write_bytes(b"no picture")
    broken = tmp_path / "broken\x1b[31m"
    shutil.copytree(stranger, broken)
    (broken / "config.yaml").write_text("model: {'\\e[31mdepth': 3}\n")
    cpu = "--accelerator=cpu"
    lines: list[tuple[Any, ...]] = [
        ("evaluate", stranger, cpu),
        ("evaluate", stranger, cpu, "--json"),
        *(("predict", stranger, picture, f"--format={kind}") for kind in ("table", "csv", "json")),
        ("predict", stranger, tmp_path / "b\x1b[31m.png"),
        ("diagnose", stranger),
        ("export", stranger, "--to", "torch_export"),
        ("train", "--resume", stranger),
        ("report", stranger, stranger),
        ("evaluate", broken, cpu),
        ("diagnose", broken),
        ("evaluate", f"{tmp_path}/\x1b[31mnothing", cpu),
        ("train", "--model.activation", "\x1b[31mrelu"),
        ("train", "--config", f"{tmp_path}/\x1b[31mnothing"),
    ]
    for line in lines:
        said = call(capsys, *line)
        assert is_seen(said.out), line
        assert is_seen(said.err), line
        assert "Traceback" not in said.err, line
        if (
            line[0] in ("evaluate", "predict", "diagnose", "export")
            and line[1] == stranger
            and line[2:3] != (tmp_path / "b\x1b[31m.png",)
        ):
            assert said.status == 0, said.err


def test_csv_and_json_stay_what_they_are(stranger: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("L", (9, 8)).save(tmp_path / "a.png")
    (row,) = csv.DictReader(io.StringIO(call(capsys, "predict", stranger, tmp_path / "a.png", "--format=csv").out))
    assert re.match(r"[012]\\u001b\]0;owned", row["name"])
    (found,) = call(capsys, "predict", stranger, tmp_path / "a.png", "--format=json").json
    assert found["name"][1:] == HOSTILE


def test_no_html_reaches_a_page(stranger: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "model.pt2"
    assert call(capsys, "export", stranger, "--to", "torch_export", "--output", output).status == 0
    card = output.with_name("model.pt2.md").read_text(encoding="utf-8")
    runs = [tmp_path / name for name in ("a<b>", "c<img>")]
    for number, run in enumerate(runs):
        shutil.copytree(stranger, run)
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(text.replace("seed_everything: 0", f"seed_everything: {number}"))
        (run / "provenance.json").unlink()
    metrics = read_metrics(stranger)
    assert "<script>" in metrics["verdict"]
    said = call(capsys, "report", *runs, "--out", tmp_path / "report")
    assert said.status in (0, 2), said.err
    pages = [card, *(path.read_text(encoding="utf-8") for path in tmp_path.rglob("report.md"))]
    for page in pages:
        assert is_seen(page)
        assert not re.search(r"<(?:script|img|b>)|\]\(javascript", page)
        assert not re.search(r"^# \[red\]", page, re.MULTILINE)


def test_text_for_a_terminal() -> None:
    assert printable("a\x1b[0m\n\t\x7f\x9b\u202e\udcff") == r"a\u001b[0m\u000a\u0009\u007f\u009b\u202e\udcff"
    assert printable("a\nb", kept="\n") == "a\nb"
    assert printable("Tiếng Việt, 日本語, 🙂, é") == "Tiếng Việt, 日本語, 🙂, é"
    error = InputError("a\nfix: \x1b", "x" * 10_000)
    assert error.cause == r"a fix: \u001b"
    assert len(error.remedy) == MAX_LINE + 1
    out = io.StringIO()
    terminal(file=out).print("[bold]a[/bold] :smile: \x1b[31m", style="bold")
    assert out.getvalue() == "[bold]a[/bold] :smile: \\u001b[31m\n"


def test_text_for_markdown() -> None:
    assert markdown("p < 0.05 & a<b") == "p < 0.05 & a&lt;b"
    assert markdown("<!-- </b> <?php") == "&lt;!-- &lt;/b> &lt;?php"
    assert markdown("![a](b)\n# c") == r"![a]\(b) # c"
    assert markdown(Markdown("[a](b)")) == "[a](b)"
    assert markdown_table(["a"], [["x|<b>\ny"]]) == "| a |\n| --- |\n| x\\|&lt;b> y |"
    page = template("project.studies.reporting", "templates/index.md.jinja").render(
        reports=[], num_runs=0, judgements=[], counts="<b>", rows=[], hardware=[]
    )
    assert "&lt;b>" in page


def test_every_console_is_made_in_one_place() -> None:
    """A console of rich's by itself takes a stranger's text for markup, and lets escape sequences through."""
    paths = [*(ROOT / "project").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    assert len(paths) >= 80
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Console", "rich.print"):
                assert path == ROOT / "project" / "pages.py", f"{path}:{node.lineno}"
