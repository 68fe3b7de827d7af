"""How long a whole process takes to its first step, and how much memory, compared with importing its libraries.

python -m benchmarks.process --data_root data
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIBRARIES = (
    "import torch, pytorch_lightning, torchmetrics, tensorboard; from torch.utils.tensorboard import SummaryWriter"
)
DATA_BYTES = 70_000 * 28 * 28
"""The size of FashionMNIST as uint8, training and test set together."""


def bare_imports() -> dict[str, float]:
    """Seconds and bytes of a process that only imports the libraries."""
    code = f"import resource, time\n{LIBRARIES}\nprint(time.time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    started = time.time()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    finished, kilobytes = result.stdout.split()
    return {"seconds": float(finished) - started, "bytes": float(kilobytes) * 1024}


def first_step(data_root: Path) -> dict[str, float]:
    """Seconds from the start of train.py's process to its first training step, and its peak memory after an epoch."""
    command = [sys.executable, "-m", "benchmarks.process", "--one", "--data_root", str(data_root)]
    started = time.time()
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    record = json.loads(result.stdout.splitlines()[-1])
    return {"seconds": record["first_step"] - started, "bytes": record["peak_bytes"]}


def train_and_report(data_root: Path) -> None:
    """Train one epoch as scripts/train.py does; print when the first step began and the peak memory."""
    from pytorch_lightning import Callback, LightningModule, Trainer

    from project.runs.build import build_run
    from project.runs.command import setup_console
    from project.runs.parser import parse_settings
    from project.runs.train import train

    begun: list[float] = []

    class Clock(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
        ) -> None:
            begun.append(time.time())

    setup_console()
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--data.root={data_root}", f"--run_root={folder}", "--trainer.max_epochs=1"]
        run = build_run(parse_settings([*flags, "--trainer.accelerator=cpu"]))
        run.trainer.callbacks.append(Clock())  # type: ignore[attr-defined]
        train(run)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"first_step": begun[0], "peak_bytes": peak}))


def measure(data_root: Path, rounds: int) -> dict[str, list[float]]:
    """Measure in each round the start-up seconds of both, their ratio, and the additional memory per byte of data."""
    found: dict[str, list[float]] = {"imports_s": [], "first_step_s": [], "start_ratio": [], "memory_ratio": []}
    bare_imports()  # the first reads the files from disk
    for _ in range(rounds):
        libraries, project = bare_imports(), first_step(data_root)
        found["imports_s"].append(libraries["seconds"])
        found["first_step_s"].append(project["seconds"])
        found["start_ratio"].append(project["seconds"] / libraries["seconds"])
        found["memory_ratio"].append((project["bytes"] - libraries["bytes"]) / DATA_BYTES)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        train_and_report(arguments.data_root)
        return
    for name, values in measure(arguments.data_root.resolve(), arguments.rounds).items():
        print(f"{name:<14} median {statistics.median(values):.2f}  from {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
