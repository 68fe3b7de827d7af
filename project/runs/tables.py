"""Results as tables for the terminal, and what a notebook shows of a run."""

import html
import io
import time
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.profilers import Profiler, SimpleProfiler
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from project.errors import counted
from project.inside import open_inside
from project.pages import FittingTable, terminal
from project.training.module import ImageModule

NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "calibration_error": "calibration error (probability beside accuracy)",
    "roc_auc": "area under the ROC curve",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "r2": "R² (share of variance explained)",
}
"""Metrics that are one number, in the order in which they are shown."""

MAX_MISTAKES = 20
"""Pairs of classes that are listed where the confusion matrix is too wide."""
MAX_ACTION = 40
"""Letters of an action of a profile that are shown, so that the table has 80 columns."""


class Described:
    """A run that a notebook shows: three lines, or a small table."""

    def facts(self) -> dict[str, str]:
        """What it is, where it is, and what came of it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n".join(f"{name + ':':<9}{words}" for name, words in self.facts().items())

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align: left'>{html.escape(name)}</th>"
            f"<td style='text-align: left'>{html.escape(words)}</td></tr>"
            for name, words in self.facts().items()
        )
        return f"<table>{cells}</table>"


def run_facts(module: ImageModule, dataset: str, folder: Path | None, verdict: str) -> dict[str, str]:
    """What `Described.facts` gives for a run."""
    count = sum(p.numel() for p in module.parameters())
    network = f"{module.settings.network} {layer_sizes(module)}, {count:,} parameters, on {dataset}"
    return {"network": network, "folder": str(folder or "none"), "verdict": verdict}


def layer_sizes(module: ImageModule) -> str:
    """The sizes of the input and of all layers: 784 → 512 → 10."""
    return " → ".join(str(size) for size in (module.spec.num_features, *(x.num_units for x in module.network.layers())))


def results_table(metrics: dict[str, Any], splits: tuple[str, ...] = ("validation", "test")) -> Table:
    """One row per metric, one column per split that was scored."""
    shown = [split for split in splits if f"{split}/loss" in metrics]
    table = FittingTable("metric", *shown, title="Results")
    table.right(*shown)
    for name, words in NAMES.items():
        values = [metrics.get(f"{split}/{name}") for split in shown]
        if any(value is not None for value in values):
            table.add_row(words, *("" if value is None else f"{value:.4f}" for value in values))
    return table


def class_table(metrics: dict[str, Any], split: str) -> Table:
    """One row per class: examples, share recognized, and what it is most often taken for."""
    confusion = metrics[f"{split}/confusion_matrix"]
    names = list(metrics[f"{split}/class_accuracy"])
    table = FittingTable("class", "examples", "recognized", "most often taken for", title="By class")
    table.right("examples", "recognized")
    for index, name in enumerate(names):
        row = confusion[index]
        count = sum(row)
        others = [(wrong, names[other]) for other, wrong in enumerate(row) if other != index and wrong]
        wrong, other = max(others, default=(0, ""))
        share = f"{row[index] / count:.1%}" if count else "–"
        table.add_row(name, f"{count:,}", share, f"{other} ({wrong:,})" if other else "–")
    return table


def confusion_table(metrics: dict[str, Any], split: str, console: Console | None = None) -> Table:
    """Counts by true class (rows) and decided class (columns).

    Args:
        metrics: What an evaluation found.
        split: The split that was scored.
        console: Where it must fit: with the classes' numbers in place of their names, and where they do not fit either,
            as a list of the most frequent mistakes.
    """
    names, counts = list(metrics[f"{split}/class_accuracy"]), metrics[f"{split}/confusion_matrix"]
    numbers = [str(index) for index in range(len(names))]
    for headers in (names, numbers):
        table = FittingTable("true \\ decided", *headers, title="Confusion matrix", box=box.SIMPLE_HEAD, padding=0)
        table.right(*headers)
        for index, row in enumerate(counts):
            cells = [Text(f"{count:,}", style="bold" if other == index else "") for other, count in enumerate(row)]
            table.add_row(names[index] if headers is names else f"{index} {names[index]}", *cells)
        table.columns[0].no_wrap = True
        if console is None or table.needed_width(console) <= console.width:
            return table
    table = FittingTable("true", "decided", "examples", title=f"The {MAX_MISTAKES} most frequent mistakes")
    table.right("examples")
    wrong = [
        (-count, true, decided)
        for true, row in enumerate(counts)
        for decided, count in enumerate(row)
        if true != decided and count
    ]
    for count, true, decided in sorted(wrong)[:MAX_MISTAKES]:
        table.add_row(names[true], names[decided], f"{-count:,}")
    return table


def profile_text(profiler: object) -> str:
    """What a Lightning profiler measured, as a table of at most 80 columns; empty if it measured nothing."""
    if not isinstance(profiler, SimpleProfiler):
        return profiler.summary() if isinstance(profiler, Profiler) else ""
    table = FittingTable("action", "calls", "ms each", "seconds", "share", title="Profile")
    table.right("calls", "ms each", "seconds", "share")
    # an action lies within others, so that the shares add up to more than 100 %
    total = time.perf_counter() - profiler.start_time
    for action, durations in sorted(profiler.recorded_durations.items(), key=lambda item: -sum(item[1])):
        name, seconds, calls = action.rpartition("]")[2], sum(durations), len(durations)
        name = name if len(name) <= MAX_ACTION else "…" + name[1 - MAX_ACTION :]
        mean = f"{1000 * seconds / calls:.3f}"
        table.add_row(name, f"{calls:,}", mean, f"{seconds:.3f}", f"{seconds / total:.1%}")
    console = terminal(file=io.StringIO(), width=80)
    console.print(table)
    return cast(io.StringIO, console.file).getvalue()


def print_run(metrics: dict[str, Any], run_folder: Path | None, run_root: str) -> None:
    """A finished run: results, verdict, where everything lies and how to look at it."""
    console = terminal()
    if run_folder is not None and (run_folder / "profile.txt").is_file():
        with open_inside(run_folder, "profile.txt", "r", encoding="utf-8") as profile:
            console.print(profile.read(), soft_wrap=True)
    console.print(results_table(metrics))
    console.print(metrics["verdict"], style="bold")
    for finding in metrics["findings"][1:]:  # the first is in the verdict
        console.print(f"{finding['severity']}: {finding['sentence']}")
        if finding["remedy"]:
            console.print("  try " + " ".join(finding["remedy"]), soft_wrap=True)
    speed, seconds = metrics["examples_per_second"], metrics["train_seconds"]
    epochs = counted(metrics["epochs"], "epoch")
    console.print(f"{epochs} in {seconds:.1f} s, {speed:,.0f} examples per second ({metrics['status']})")
    if run_folder is not None:
        console.print(f"run folder   {run_folder}", soft_wrap=True)
        if any(run_folder.glob("events.out.tfevents.*")):
            console.print(f"look inside  tensorboard --logdir {run_root}", soft_wrap=True)
