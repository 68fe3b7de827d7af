"""Compare the seconds per epoch with those of the usual ways: python -m benchmarks.throughput --data_root data

The contenders take turns to train the same job, each in a process of its own. Each round gives one ratio; the table
shows the median of the rounds, the lowest and the highest. An epoch is training and validation. The project's side runs
with all that is on by default: logging, checkpoints, diagnostics, TensorBoard.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.baselines import Job, bare_loop, lightning_dataloader, matrix_products, write_colour
from project.threads import SPINS

DEFAULT = Job(
    Path(),
    "fashion_mnist",
    (512, 512),
    norm="batch",
    dropout=0.2,
    batch_size=256,
    optimizer="adamw",
    learning_rate=0.004,
    weight_decay=0.05,
    schedule="one_cycle",
)
JOBS = {
    "small": Job(Path(), "mnist", (64, 128, 64), batch_size=128, optimizer="adam", learning_rate=1e-3),
    "default": DEFAULT,
    "colour": replace(DEFAULT, dataset="arrays"),
    "wide": Job(Path(), "fashion_mnist", (1024, 1024), batch_size=512, optimizer="adamw", learning_rate=0.001),
}
"""small: 784-64-128-64-10, batch 128; default: what scripts/train.py trains; colour: the same on 50,000 pictures of
32×32×3; wide: mostly matrix products."""
SHAPES = {
    f"{width} × {depth}": Job(
        Path(),
        "fashion_mnist",
        (width,) * depth,
        batch_size=512,
        optimizer="adamw",
        num_train=10_000,
        num_validation=1_000,
    )
    for width, depth in ((64, 2), (256, 2), (1024, 2), (4096, 2), (256, 10), (256, 100))
}
"""Width × depth, batch 512, on 10,000 pictures: the share of the matrix products' speed that is reached."""
ALL_JOBS = JOBS | SHAPES

CONTENDERS = {
    "small": ("project", "bare loop", "matrix products", "Lightning with DataLoader"),
    "default": ("project", "bare loop", "matrix products"),
    "colour": ("project", "bare loop"),
    "wide": ("project", "bare loop", "matrix products"),
}
SUBPROCESS_LIMIT_S = 600
WAITING = "GOMP_SPINCOUNT"


def project_epochs(job: Job, device: str, extra: list[str]) -> list[float]:
    """Seconds of each epoch of the project's own training, training and validation together."""
    from pytorch_lightning import Callback

    from project.runs.build import build_run
    from project.runs.command import setup_console
    from project.runs.parser import parse_settings
    from project.runs.train import train

    setup_console()
    starts: list[float] = []

    class Clock(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            starts.append(time.perf_counter())

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            starts.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        run = build_run(
            parse_settings(
                [
                    f"--data.root={job.root}",
                    f"--data.dataset={job.dataset}",
                    f"--data.batch_size={job.batch_size}",
                    f"--data.num_validation={job.num_validation}",
                    f"--data.num_train={'null' if job.num_train is None else job.num_train}",
                    f"--model.depth={len(job.width)}",
                    f"--model.width={list(job.width)}",
                    f"--model.norm={job.norm}",
                    f"--model.dropout={job.dropout}",
                    f"--model.optimizer={job.optimizer}",
                    f"--model.learning_rate={job.learning_rate}",
                    f"--model.weight_decay={job.weight_decay}",
                    f"--model.schedule={job.schedule}",
                    f"--trainer.max_epochs={job.num_epochs}",
                    f"--trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}",
                    f"--run_root={folder}",
                    *extra,
                ]
            )
        )
        run.trainer.callbacks.append(Clock())  # type: ignore[attr-defined]
        train(run)
    return [end - start for start, end in itertools.pairwise(starts)]


def epochs_of(contender: str, job: Job, device: str, extra: list[str]) -> list[float]:
    """Seconds of each epoch of one contender."""
    match contender:
        case "project":
            return project_epochs(job, device, extra)
        case "project, compiled":
            return project_epochs(job, device, ["--model.compile=true", *extra])
        case "project, 2 processes":
            return project_epochs(job, device, ["--trainer.devices=2", *extra])
        case "bare loop":
            return bare_loop(job, device).epoch_s
        case "matrix products":
            return matrix_products(job, device).epoch_s
        case _:
            return lightning_dataloader(replace(job, num_epochs=2), device=device).epoch_s


def measure(job_name: str, contender: str, arguments: argparse.Namespace) -> float:
    """Median seconds per epoch of one contender in a process of its own."""
    return float(statistics.median(measure_epochs(job_name, contender, arguments)[1:]))


def measure_epochs(job_name: str, contender: str, arguments: argparse.Namespace) -> list[float]:
    """Seconds of each epoch of one contender in a process of its own; the first one is the warm-up."""
    command = [sys.executable, "-m", "benchmarks.throughput", "--one", job_name, contender]
    command += ["--data_root", str(arguments.data_root), "--epochs", str(arguments.epochs)]
    command += ["--device", arguments.device]
    command += [f"--extra={flag}" for flag in arguments.extra]
    # torch is loaded before the project here, whose bound on waiting would come too late; the others do without it
    env = {name: value for name, value in os.environ.items() if name != WAITING}
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=SUBPROCESS_LIMIT_S,
        cwd=Path(__file__).parent.parent,
        env=env | ({WAITING: str(SPINS)} if contender.startswith("project") else {}),
    )
    if result.returncode:
        raise SystemExit(f"{contender} failed on {job_name}:\n{result.stderr}")
    epochs: list[float] = json.loads(result.stdout.splitlines()[-1])
    return epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=int, default=4, help="epochs of each process; the first one is the warm-up and is not counted"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--extra", action="append", default=[], help="an additional flag for the project's runs")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("--one", nargs=2, metavar=("JOB", "CONTENDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.data_root = arguments.data_root.resolve()
    if arguments.one:
        job = replace(ALL_JOBS[arguments.one[0]], root=arguments.data_root, num_epochs=arguments.epochs)
        with tempfile.TemporaryDirectory() as folder:
            if job.dataset == "arrays":
                job = replace(job, root=write_colour(Path(folder)))
            print(json.dumps(epochs_of(arguments.one[1], job, arguments.device, arguments.extra)))
        return

    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the machine is busy (load {load:.1f}); ratios are not reliable now", file=sys.stderr)
    seconds: dict[str, dict[str, list[float]]] = {job: {name: [] for name in CONTENDERS[job]} for job in arguments.jobs}
    turns = [(job, name) for _ in range(arguments.rounds) for job in arguments.jobs for name in CONTENDERS[job]]
    for job_name, contender in track(turns, description="measuring", console=Console(stderr=True)):
        seconds[job_name][contender].append(measure(job_name, contender, arguments))
    Console().print(ratio_table(seconds))
    if arguments.json:
        from project.runs.saving.provenance import hardware, versions

        jobs = {name: asdict(JOBS[name]) | {"root": None} for name in arguments.jobs}
        record = {"hardware": hardware(), "versions": versions(), "jobs": jobs, "seconds_per_epoch": seconds}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


def ratio_table(seconds: dict[str, dict[str, list[float]]]) -> Table:
    """Seconds per epoch, and how many times as long as each other contender the project takes, round by round."""
    table = Table("job", "contender", "s per epoch", "project ÷ this: median", "lowest", "highest")
    for job, contenders in seconds.items():
        for name, taken in contenders.items():
            ratios = [ours / theirs for ours, theirs in zip(contenders["project"], taken, strict=True)]
            cells = [f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}", f"{max(ratios):.2f}"]
            table.add_row(job, name, f"{statistics.median(taken):.3f}", *(cells if name != "project" else ["", "", ""]))
    return table


if __name__ == "__main__":
    main()
