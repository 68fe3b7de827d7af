"""Every table of the commands at 80, 120 and 200 columns; that of studies is in test_report.py."""

import time
from typing import Any

import pytest
from readable import WIDTHS, check_readable
from response import Surface, settings_with
from rich.console import Console

from project.diagnosis.before_training import examine, layer_diagnosis_table
from project.errors import counted
from project.pages import FittingTable
from project.runs.parser import parse_settings
from project.runs.tables import class_table, confusion_table, print_run, profile_text, results_table
from project.serving.predict.predict import ClassProbability, Prediction, _write_table
from project.studies.explain.report import effects_table, explanation

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle_boot"]


def metrics_of(names: list[str], count: int) -> dict[str, Any]:
    """What an evaluation of so many examples of each class finds, where each class is sometimes taken for the next."""
    size = len(names)
    confusion = [[count if i == j else count // 10 * (j == (i + 1) % size) for j in range(size)] for i in range(size)]
    metrics: dict[str, Any] = {"test/confusion_matrix": confusion, "test/class_accuracy": dict.fromkeys(names, 0.9)}
    for split in ("validation", "test"):
        for name in ("loss", "accuracy", "macro_f1", "calibration_error", "roc_auc", "rmse", "mae", "r2"):
            metrics[f"{split}/{name}"] = 0.12345
    return metrics


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("names", [FASHION, [f"class_with_a_long_name_{i}" for i in range(47)]], ids=["10", "47"])
def test_an_evaluation(names: list[str], width: int) -> None:
    metrics = metrics_of(names, 1_000)
    check_readable(results_table(metrics), width, "metric", "validation", "test")
    check_readable(class_table(metrics, "test"), width, "class", "examples", "recognized", "most often taken for")
    text = check_readable(confusion_table(metrics, "test", Console(width=width)), width)
    assert "1,000" in text or "The 20 most frequent mistakes" in text
    assert ("most frequent" in text) == (len(names) == 47)
    assert ("Sandal" in text.splitlines()[2]) == (len(names) == 10 and width > 80)


@pytest.mark.parametrize(
    "flags",
    [
        ["--model.activation=sigmoid", "--model.depth=20", "--model.width=256", "--model.norm=none"],
        ["--model.activation=relu", "--model.depth=6", "--model.width=1000"],
        ["--model.network=residual_mlp", "--model.depth=40", "--model.width=16"],
    ],
    ids=lambda flags: flags[0].partition("=")[2],
)
def test_a_diagnosis(flags: list[str], small_run: list[str]) -> None:
    settings = parse_settings([*small_run, *flags])
    table = layer_diagnosis_table(examine(settings.model, settings.data, 0))
    important = {"layer", "z sd", "a sd", "saturated", "dead", "gradient"}
    important |= {"theory of gradient"} if flags[0] != "--model.network=residual_mlp" else set()
    for width in WIDTHS:
        text = check_readable(table, width, *important)
        assert "output" in text
    assert "Left out" not in text  # of 200 columns


@pytest.mark.parametrize("width", WIDTHS)
def test_what_was_tried(width: int) -> None:
    surface = Surface(lambda settings: 0.8 - 0.3 * (settings["model.weight_decay"] > 0.3), noise=0.01)
    search = surface.search(settings_with("--model.weight_decay=0.5", "--model.width=[512, 512]"))
    check_readable(effects_table(explanation(search, 60, "python scripts/train.py")), width, "change", "points")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("folder", ["photos", "/home/somebody/pictures/of/the/summer/of/2026/in/a/deep/folder"])
def test_predictions(folder: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[FittingTable] = []
    monkeypatch.setattr("project.serving.predict.predict.terminal", lambda file: Printed(written))
    top = (ClassProbability(0, "T-shirt/top", 0.8), ClassProbability(1, "Ankle boot", 0.15))
    _write_table([Prediction(f"{folder}/{number}.png", False, top) for number in range(3)], None)
    (table,) = written
    check_readable(table, width, "file", "class", "probability") if width > 80 or folder == "photos" else None


class Printed:
    def __init__(self, written: list[FittingTable]) -> None:
        self.print = written.append


def test_what_can_not_fit_is_folded_and_not_cut() -> None:
    table = FittingTable("file", "value", "more", least=("more",))
    table.add_row("x" * 100, "1.25", "words")
    console = Console(width=80, record=True)
    console.print(table)
    text = console.export_text()
    assert text.count("x") == 100
    assert "…" not in text
    assert "Left out because the terminal is narrow: more." in text


def test_columns_are_left_out_in_their_order_and_only_where_they_must() -> None:
    table = FittingTable("a", "b", "c", "d", least=("c", "b"))
    table.add_row(*("x" * 20 for _ in range(4)))  # each column has 20 + 2 + a line
    for width, expected in ((93, "abcd"), (92, "abd"), (70, "abd"), (69, "ad")):
        console = Console(width=width, record=True)
        console.print(table)
        header = console.export_text().splitlines()[1]
        assert "".join(letter for letter in header if letter in "abcd") == expected
    assert len(table.columns) == 4  # the table itself stays whole


def test_a_profile_has_80_columns() -> None:
    from pytorch_lightning.profilers import SimpleProfiler

    profiler = SimpleProfiler()
    profiler.start_time = time.perf_counter() - 1000
    profiler.recorded_durations = {f"[Callback]{'long_name' * 9}": [1.0] * 12_345}
    assert max(map(len, profile_text(profiler).splitlines())) <= 80


def test_counted() -> None:
    assert [counted(n, "epoch") for n in (0, 1, 2, 1_500)] == ["0 epochs", "1 epoch", "2 epochs", "1,500 epochs"]


@pytest.mark.parametrize("logged", [False, True])
def test_the_command_of_tensorboard_stands_only_where_it_shows_something(
    logged: bool, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if logged:
        (tmp_path / "events.out.tfevents.1.host.1.0").touch()
    metrics = metrics_of(FASHION, 100) | {"verdict": "Fine.", "findings": [], "examples_per_second": 1.0}
    print_run(metrics | {"train_seconds": 2.0, "epochs": 1, "status": "completed"}, tmp_path, "runs")
    said = capsys.readouterr().out
    assert ("tensorboard --logdir runs" in said) == logged
    assert "1 epoch in 2.0 s" in said
