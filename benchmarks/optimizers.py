"""Measure what suits each optimizer and write docs/optimizers.md: python -m benchmarks.optimizers --data_root data

Takes about 90 minutes of one core; `--minutes` stops it earlier. What docs/optimizers.json holds already is not
measured again: delete the file to begin anew.
"""

import argparse
import json
import logging
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project.network.activations import ACTIVATIONS
from project.network.initializers import INITIALIZERS
from project.network.norms import NORMS
from project.network.optimization.losses import LOSSES
from project.network.optimization.optimizers import OPTIMIZERS
from project.network.optimization.schedules import SCHEDULES
from project.runs.command import setup_console
from project.runs.saving.provenance import hardware, versions
from project.settings import Settings
from project.studies.explain.trials import TrialWorkers
from project.training.settings import ModelSettings

DOCS = Path(__file__).parent.parent / "docs"
COMMON: Settings = {
    "data.num_train": 10_000,
    "trainer.max_epochs": 10,
    "trainer.accelerator": "cpu",
    "trainer.limit_test_batches": 1,  # nobody reads the test score
    "patience": 0,
    "diagnostics.every_n_steps": 1_000_000,
}


@dataclass(frozen=True)
class Shape:
    """A network and its data.

    Args:
        dataset: The data set.
        width: Units per hidden layer.
        depth: Number of hidden layers.
        rates: How many learning rates are tried: all of the grid, or the chosen one with its neighbours.
        choosing: Whether the learning rates are chosen here, so that here they look better than elsewhere.
        everything: Whether it trains on all examples instead of 10,000.
    """

    dataset: str
    width: int
    depth: int
    rates: int
    choosing: bool = False
    everything: bool = False

    def settings(self) -> Settings:
        shape = {"data.dataset": self.dataset, "model.width": self.width, "model.depth": self.depth}
        return shape | ({"data.num_train": 55_000} if self.everything else {})

    def __str__(self) -> str:
        return f"{self.dataset} {self.width}×{self.depth}{', 55,000 examples' if self.everything else ''}"


SHAPES = (
    Shape("fashion_mnist", 128, 1, rates=5, choosing=True),
    Shape("mnist", 128, 8, rates=3, choosing=True),
    Shape("fashion_mnist", 512, 2, rates=3),
    Shape("fashion_mnist", 1024, 1, rates=3),
    Shape("mnist", 512, 4, rates=3),
    Shape("fashion_mnist", 128, 2, rates=3, everything=True),
)
GRIDS: dict[str, tuple[float, ...]] = {
    "sgd": (0.05, 0.1, 0.2, 0.5, 1.0),
    "momentum": (0.01, 0.02, 0.05, 0.1, 0.2),
    "nesterov": (0.01, 0.02, 0.05, 0.1, 0.2),
    "adagrad": (0.005, 0.01, 0.02, 0.05, 0.1),
    "rmsprop": (0.0001, 0.0002, 0.0005, 0.001, 0.002),
    "adam": (0.001, 0.002, 0.004, 0.01, 0.02),
    "adamw": (0.001, 0.002, 0.004, 0.01, 0.02),
    "nadam": (0.001, 0.002, 0.004, 0.01, 0.02),
    "radam": (0.002, 0.004, 0.01, 0.02, 0.05),
    "muon": (0.001, 0.002, 0.004, 0.01, 0.02),
}
SEEDS = 3
"""How often the chosen numbers are tried on the first shape, for the spread; everything else is tried once."""
USUAL = {"relu", "batch", "auto", "cross_entropy", "kaiming_normal", "one_cycle"}
"""What the default run does already."""
FACTORS = (0.25, 1.0, 4.0)
"""Times the learning rate that `auto` means, for every other choice."""
TABLES: dict[str, Mapping[str, Any]] = {
    "activation": ACTIVATIONS,
    "norm": NORMS,
    "loss": LOSSES,
    "init": INITIALIZERS,
    "schedule": SCHEDULES,
}
ALONE: list[Settings] = [
    {f"model.{setting}": name} for setting, table in TABLES.items() for name in table if name not in USUAL
]
ALONE_SHAPE = Shape("fashion_mnist", 128, 2, rates=1)


def trial(shape: Shape, changes: Settings | None = None, seed: int = 0) -> Settings:
    """One training's settings that are not common to all."""
    return shape.settings() | (changes or {}) | {"seed_everything": seed}


def with_rate(optimizer: str, rate: float) -> Settings:
    return {"model.optimizer": optimizer, "model.learning_rate": rate}


def auto_rate(changes: Settings) -> float:
    """The learning rate that `auto` means for a choice."""
    return ModelSettings(**{name.removeprefix("model."): value for name, value in changes.items()}).optimizer_numbers[0]


def rates_tried(optimizer: str, shape: Shape) -> tuple[float, ...]:
    """The learning rates of the grid that a shape tries."""
    grid = GRIDS[optimizer]
    middle, reach = grid.index(OPTIMIZERS[optimizer].learning_rate), shape.rates // 2
    return grid if shape.rates == len(grid) else grid[max(middle - reach, 0) : middle + reach + 1]


def all_trials() -> list[Settings]:
    """Every training of the page, the most wanted first."""
    choosing, reporting = (
        [
            trial(shape, with_rate(name, rate))
            for shape in SHAPES
            if shape.choosing == wanted
            for name in GRIDS
            for rate in rates_tried(name, shape)
        ]
        for wanted in (True, False)
    )
    alone = [
        trial(ALONE_SHAPE, changes | {"model.learning_rate": factor * auto_rate(changes)})
        for changes in ({}, *ALONE)
        for factor in FACTORS
    ]
    seeds = [
        trial(SHAPES[0], with_rate(name, OPTIMIZERS[name].learning_rate), seed)
        for seed in range(1, SEEDS)
        for name in GRIDS
    ]
    return [*choosing, *alone, *seeds, *reporting]


class Record:
    """What was measured, kept in a file so that a stopped measurement goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = {"hardware": hardware(), "versions": versions(), "date": "", "runs": {}}
        if path.is_file():
            self.content = json.loads(path.read_text(encoding="utf-8"))

    def score(self, settings: Settings) -> float | None:
        """The validation accuracy of the best epoch, 0 where the training diverged; None where it was not measured."""
        score: float | None = self.content["runs"].get(json.dumps(settings, sort_keys=True))
        return score

    def add(self, settings: Settings, metrics: dict[str, Any]) -> None:
        if metrics["status"] == "failed":
            raise RuntimeError(f"{settings}: {metrics['error']}")
        value = metrics.get("validation/accuracy", 0.0) if metrics["status"] != "diverged" else 0.0
        self.content["runs"][json.dumps(settings, sort_keys=True)] = value
        self.content["date"] = time.strftime("%Y-%m-%d")
        self.path.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        shown = " ".join(str(value) for value in settings.values())
        print(f"{shown}: {value:.2%} in {metrics['seconds']:.1f} s", flush=True)


def tried(record: Record, optimizer: str, shape: Shape) -> dict[float, float]:
    """The accuracy of each learning rate that was tried."""
    scores = {rate: record.score(trial(shape, with_rate(optimizer, rate))) for rate in GRIDS[optimizer]}
    return {rate: score for rate, score in scores.items() if score is not None}


def cell(record: Record, optimizer: str, shape: Shape) -> str:
    """An optimizer's accuracy with its own numbers on one shape, and the best of the rates that were tried there."""
    scores = tried(record, optimizer, shape)
    if OPTIMIZERS[optimizer].learning_rate not in scores:
        return "not measured"
    best = max(scores, key=scores.__getitem__)
    others = "" if len(scores) == 1 else f" (best of {len(scores)}: {scores[best]:.1%} at {best:g})"
    return f"{scores[OPTIMIZERS[optimizer].learning_rate]:.1%}{others}"


def worst_gap(record: Record) -> str:
    """The most that any optimizer's own numbers lose against the best of the rates tried on a shape."""
    gaps = [
        (max(scores.values()) - scores[OPTIMIZERS[name].learning_rate], name, str(shape))
        for shape in SHAPES
        for name in GRIDS
        if len(scores := tried(record, name, shape)) > 1 and OPTIMIZERS[name].learning_rate in scores
    ]
    gap, name, shape = max(gaps)
    return f"{100 * gap:.1f} points ({name}, {shape})"


def alone_row(record: Record, changes: Settings) -> str:
    """One choice's accuracy with its own learning rate, and the best of the rates that were tried."""
    auto = auto_rate(changes)
    rates = [factor * auto for factor in FACTORS]
    scores = {rate: record.score(trial(ALONE_SHAPE, changes | {"model.learning_rate": rate})) for rate in rates}
    flags = " ".join(f"--{name} {value}" for name, value in changes.items())
    known = {rate: score for rate, score in scores.items() if score is not None}
    if auto not in known:
        return f"| `{flags}` | not measured | |"
    best = max(known, key=known.__getitem__)
    name = f"`{flags}`" if flags else "the default"
    return f"| {name} | {known[auto]:.1%} at {auto:g} | {known[best]:.1%} at {best:g} |"


def spread(record: Record, optimizer: str) -> str:
    """Mean and standard deviation over the seeds on the first shape."""
    rate = OPTIMIZERS[optimizer].learning_rate
    found = [record.score(trial(SHAPES[0], with_rate(optimizer, rate), seed)) for seed in range(SEEDS)]
    scores = [score for score in found if score is not None]
    if len(scores) < 2:
        return f"n = {len(scores)}"
    return f"{statistics.mean(scores):.1%} ± {statistics.stdev(scores):.1%}, n = {len(scores)}"


def page(record: Record) -> str:
    """The record as Markdown."""
    machine, used = record.content["hardware"], record.content["versions"]
    numbers = [
        f"| {name} | {row.learning_rate:g} | {row.momentum:g} | {row.weight_decay:g} | {spread(record, name)} |"
        for name, row in OPTIMIZERS.items()
    ]
    shapes = [f"| {name} | " + " | ".join(cell(record, name, shape) for shape in SHAPES) + " |" for name in GRIDS]
    alone = [alone_row(record, changes) for changes in ({}, *ALONE)]
    return PAGE.format(
        machine=machine["processor"],
        used=f"Python {used['python']}, torch {used['torch']}, pytorch-lightning {used['pytorch-lightning']}",
        date=record.content["date"],
        examples=COMMON["data.num_train"],
        epochs=COMMON["trainer.max_epochs"],
        first=SHAPES[0],
        numbers="\n".join(numbers),
        shapes=" | ".join(f"{shape}{' *' if shape.choosing else ''}" for shape in SHAPES),
        rule=" --- |" * len(SHAPES),
        cells="\n".join(shapes),
        gap=worst_gap(record),
        alone_shape=ALONE_SHAPE,
        alone="\n".join(alone),
    )


PAGE = """# The numbers that suit each optimizer

`model.learning_rate`, `model.momentum` and `model.weight_decay` are `auto` unless you give them: each optimizer's row
in `project/network/optimization/optimizers.py` holds its own numbers, and a run's `config.yaml` shows which it got.
This page says how they were found. `python -m benchmarks.optimizers` writes it; [optimizers.json](optimizers.json)
holds every run.

{machine}, one thread, no GPU, with other work on the machine at the same time. {used}. {date}.

## The numbers

The last column is the validation accuracy on {first} over seeds, mean ± standard deviation.

| optimizer | learning rate | momentum | weight decay | over seeds |
| --- | --- | --- | --- | --- |
{numbers}

## Against other learning rates

Each training has {examples:,} examples and {epochs} epochs; all that is not named is the default. A cell holds the
validation accuracy (5,000 examples, best epoch, seed 0) with the optimizer's own numbers, then the best of the learning
rates that were tried on that shape (width × depth). In the columns with a star the numbers were chosen; the others show
how they carry over. The rule: of the rates that were tried in both columns with a star, and lose at most 1 point there
against the best, the lowest, because a wider network and a longer training want a lower one. AdamW kept its old one.

| optimizer | {shapes} |
| --- |{rule}
{cells}

The most that is lost against the best rate that was tried is {gap}. One accuracy on 5,000 examples
has a standard error of 0.3 to 0.5 points, and the best of several is a little too good by chance.

## Any other choice alone

One setting differs from the default run, on {alone_shape}, seed 0. Beside the learning rate that `auto` means, a
quarter of it and four times of it were tried.

| setting | accuracy with `auto` | best of the three |
| --- | --- | --- |
{alone}

`--model.init zeros` cannot learn, which is a lesson. For `mse`, `huber` and `mae`, `auto` also looks at the loss
(`rate_factors` in `project/network/optimization/losses.py`): with several outputs and an adaptive optimizer it is 8
times the optimizer's own rate, and gradient descent with `mse` gets 0.02 times its own, as the square's curvature grows
with the width. [The lesson on losses](lessons/losses/README.md) says why `mae` stays behind.

## What this does not show

The momentum stayed at 0.9. The weight decay stayed at 0.05 for AdamW and Muon, whose decay is apart from the gradient,
and at 0 for all others. Neither was searched. A loss's factor was measured with two classes of optimizer on widths
128 to 1024 and then rounded; two settings that are changed together can still be a trap. Where the best rate that was
tried is the highest one, a still higher one might be better. The rule was written down when the results of 512×2 were
partly known, so that column is no blind test.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop measuring after this time; write the page")
    arguments = parser.parse_args()
    setup_console()
    logging.getLogger("project").setLevel(logging.CRITICAL)
    record, end = Record(DOCS / "optimizers.json"), time.monotonic() + 60 * arguments.minutes
    missing = [settings for settings in all_trials() if record.score(settings) is None]
    common = COMMON | {"data.root": str(arguments.data_root.resolve())}
    with TrialWorkers(os.cpu_count() or 1) as workers:
        for number, metrics in workers.run([common | settings for settings in missing], until=end):
            record.add(missing[number], metrics)
    (DOCS / "optimizers.md").write_text(page(record), encoding="utf-8")
    print(f"written: {DOCS / 'optimizers.md'}")


if __name__ == "__main__":
    main()
