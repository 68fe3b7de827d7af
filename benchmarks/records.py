"""How long it takes to train to a test accuracy, beside the bare loop with the same recipe.

    python -m benchmarks.records --data_root data
    python -m benchmarks.records configs/fast/mnist_98.yaml --data_root data --seeds 20

Prints the table of docs/records.md, which has the rules, for the recipes that are named, or for all of configs/fast.
Each training is a process of its own. 20 seeds of all recipes take 24 minutes on two cores.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.baselines import Job, bare_loop

ROOT = Path(__file__).parent.parent
WHO = ("project", "bare loop")
Row = dict[str, float]


def read(path: Path) -> dict[str, Any]:
    """A recipe's settings, by section."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def bare_job(path: Path, root: Path, seed: int) -> Job:
    """The same recipe for the bare loop."""
    settings = read(path)
    model, data = settings["model"], settings["data"]
    return Job(
        root,
        data["dataset"],
        width=tuple(model["width"]),
        activation=model["activation"],
        norm=model["norm"],
        dropout=model["dropout"],
        batch_size=data["batch_size"],
        optimizer=model["optimizer"],
        learning_rate=model["learning_rate"],
        weight_decay=model["weight_decay"],
        schedule=model["schedule"],
        num_epochs=settings["trainer"]["max_epochs"],
        num_validation=0,
        seed=seed,
    )


def train_one(path: Path, who: str, root: Path, seed: int) -> Row:
    """Train in this process."""
    if who == "bare loop":
        outcome = bare_loop(bare_job(path, root, seed), with_test=True)
        return {"train_s": sum(outcome.epoch_s), "accuracy": outcome.test_accuracy or 0.0}
    from project.runs.build import build_run
    from project.runs.command import setup_console
    from project.runs.parser import parse_settings
    from project.runs.train import train

    setup_console()
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--config={path}", f"--data.root={root}", f"--run_root={folder}", f"--seed_everything={seed}"]
        metrics = train(build_run(parse_settings([*flags, "--trainer.accelerator=cpu"])))
    return {"train_s": metrics["train_seconds"], "accuracy": metrics["test/accuracy"]}


def run(path: Path, who: str, root: Path, seed: int) -> Row:
    """Train in a process of its own, which is timed too."""
    command = [sys.executable, "-m", "benchmarks.records", str(path), "--data_root", str(root)]
    started = time.perf_counter()
    result = subprocess.run([*command, "--one", who, str(seed)], capture_output=True, text=True, cwd=ROOT, check=False)
    seconds = time.perf_counter() - started
    if result.returncode:
        raise SystemExit(result.stderr)
    found: Row = json.loads(result.stdout.splitlines()[-1])
    return found | {"process_s": seconds}


def cells(found: Sequence[Row]) -> list[str]:
    """Accuracy's mean and sd, and the medians of the seconds."""
    if not found:
        return ["–"] * 3
    accuracies = [100 * each["accuracy"] for each in found]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    times = (statistics.median(each[name] for each in found) for name in ("train_s", "process_s"))
    return [f"{statistics.mean(accuracies):.2f} ± {spread:.2f} %", *(f"{seconds:.2f}" for seconds in times)]


def measure(path: Path, root: Path, seeds: int) -> str:
    """A line of the table. The bare loop augments nothing, so that it cannot train every recipe."""
    data = read(path)["data"]
    sides = WHO[:1] if "augmentation" in data else WHO
    found: dict[str, list[Row]] = {who: [] for who in WHO}
    for seed in range(seeds):
        for who in sides:
            found[who].append(run(path, who, root, seed))
    goal = path.stem.removeprefix(f"{data['dataset']}_").replace("_", ".")  # mnist_98_5.yaml: 98.5
    first = [f"{data['dataset']} {goal} %", f"[{path.name}](../configs/fast/{path.name})", str(seeds)]
    return f"| {' | '.join([*first, *(cell for who in WHO for cell in cells(found[who]))])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="*", help="files of settings; all of configs/fast without them")
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--one", nargs=2, metavar=("WHO", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    root = arguments.data_root.resolve()
    recipes = arguments.recipes or [path.relative_to(ROOT) for path in sorted((ROOT / "configs/fast").glob("*.yaml"))]
    if arguments.one:
        who, seed = arguments.one
        print(json.dumps(train_one(recipes[0], who, root, int(seed))))
        return
    heads = "".join(f" {who}, accuracy | training, s | process, s |" for who in WHO)
    print(f"| goal | recipe | n |{heads}\n{'| --- ' * 9}|")
    for path in recipes:
        print(measure(path, root, arguments.seeds), flush=True)


if __name__ == "__main__":
    main()
