"""The least training time to a test accuracy, compared with the bare loop that runs the same recipe.

    python -m benchmarks.accuracy --data_root data --seeds 10

The recipes are configs/fast/*.yaml, with other numbers of epochs for the lower goals. Whole processes are timed too.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.baselines import Job, bare_loop

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Goal:
    """A mean test accuracy to reach, and how its recipe differs from the data set's fast config."""

    dataset: str
    accuracy: float
    changes: dict[str, Any]


GOALS = (
    Goal("mnist", 0.97, {"trainer.max_epochs": 1}),
    Goal("mnist", 0.98, {}),
    Goal("fashion_mnist", 0.88, {"trainer.max_epochs": 3, "model.depth": 1, "model.width": 256}),
    Goal("fashion_mnist", 0.90, {}),
)


def recipe(goal: Goal) -> dict[str, Any]:
    """The goal's settings, by section."""
    settings = yaml.safe_load((ROOT / "configs" / "fast" / f"{goal.dataset}.yaml").read_text())
    for name, value in goal.changes.items():
        section, key = name.split(".")
        settings[section][key] = value
    return dict(settings)


def bare_job(goal: Goal, root: Path, seed: int) -> Job:
    """The same recipe for the bare loop."""
    settings = recipe(goal)
    model, data = settings["model"], settings["data"]
    width = model["width"] if isinstance(model["width"], list) else [model["width"]] * model["depth"]
    return replace(
        Job(root, "mnist" if goal.dataset == "mnist" else "fashion_mnist"),
        width=tuple(width),
        norm="batch",
        dropout=model["dropout"],
        batch_size=data["batch_size"],
        optimizer="adamw",
        learning_rate=model["learning_rate"],
        weight_decay=0.05,
        schedule="one_cycle",
        num_epochs=settings["trainer"]["max_epochs"],
        num_validation=0,
        seed=seed,
    )


def run(number: int, who: str, root: Path, seed: int) -> dict[str, float]:
    """Run one whole process and return its seconds, its training's seconds and its test accuracy."""
    command = [sys.executable, "-m", "benchmarks.accuracy", "--data_root", str(root)]
    command += ["--one", str(number), who, str(seed)]
    started = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    seconds = time.perf_counter() - started
    if result.returncode:
        raise SystemExit(result.stderr)
    record: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return record | {"process_s": seconds}


def train_one(goal: Goal, who: str, root: Path, seed: int) -> dict[str, float]:
    """Train in this process."""
    if who == "bare loop":
        outcome = bare_loop(bare_job(goal, root, seed), with_test=True)
        return {"train_s": sum(outcome.epoch_s), "accuracy": outcome.test_accuracy or 0.0}
    from project.runs.build import build_run
    from project.runs.command import setup_console
    from project.runs.parser import parse_settings
    from project.runs.train import train

    setup_console()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(recipe(goal)))
        flags = [f"--config={config}", f"--data.root={root}", f"--run_root={folder}/runs", f"--seed_everything={seed}"]
        metrics = train(build_run(parse_settings([*flags, "--trainer.accelerator=cpu"])))
    return {"train_s": metrics["train_seconds"], "accuracy": metrics["test/accuracy"]}


def measure(root: Path, seeds: int) -> list[dict[str, Any]]:
    """For each goal and side: accuracy's mean and sd over the seeds, median seconds of training and of the process."""
    rows = []
    for number, goal in enumerate(GOALS):
        pairs = [(run(number, "project", root, seed), run(number, "bare loop", root, seed)) for seed in range(seeds)]
        ratios = [ours["process_s"] / bare["process_s"] for ours, bare in pairs]
        for side, who in enumerate(("project", "bare loop")):
            records = [pair[side] for pair in pairs]
            accuracies = [record["accuracy"] for record in records]
            rows.append(
                {
                    "dataset": goal.dataset,
                    "goal": goal.accuracy,
                    "who": who,
                    "accuracy_mean": statistics.mean(accuracies),
                    "accuracy_sd": statistics.stdev(accuracies) if seeds > 1 else 0.0,
                    "train_s": statistics.median(record["train_s"] for record in records),
                    "process_s": statistics.median(record["process_s"] for record in records),
                    "process_ratios": ratios,
                    "seeds": seeds,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--one", nargs=3, metavar=("GOAL", "WHO", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    root = arguments.data_root.resolve()
    if arguments.one:
        number, who, seed = arguments.one
        print(json.dumps(train_one(GOALS[int(number)], who, root, int(seed))))
        return
    for row in measure(root, arguments.seeds):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
