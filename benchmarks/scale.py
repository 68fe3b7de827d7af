"""Cost per example and memory from six thousand to six million images, in an invented, memory-mapped IDX data set.

    python -m benchmarks.scale --sizes 6000 60000 600000 6000000

Six million images are a file of 4.7 GB, which is made in a temporary folder and removed again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from project.data.sources.idx import idx_header

SIDE = 28
NUM_CLASSES = 10
CHUNK = 10_000
NUM_TEST = 1000


def make_set(folder: Path, num_train: int) -> None:
    """Write four IDX files of noise with a bright stripe, whose place shows the class."""
    generator = np.random.default_rng(0)
    for prefix, num in (("train", num_train), ("t10k", NUM_TEST)):
        labels = (np.arange(num) % NUM_CLASSES).astype(np.uint8)
        with (folder / f"{prefix}-labels-idx1-ubyte").open("wb") as file:
            file.write(idx_header((num,)) + labels.tobytes())
        with (folder / f"{prefix}-images-idx3-ubyte").open("wb") as file:
            file.write(idx_header((num, SIDE, SIDE)))
            for start in range(0, num, CHUNK):
                part = labels[start : start + CHUNK]
                images = generator.integers(0, 100, (len(part), SIDE, SIDE), dtype=np.uint8)
                images[np.arange(len(part)), 2 * part + 4] += 100
                file.write(images.tobytes())


def anonymous_bytes() -> int:
    """The memory of this process without its memory-mapped files, whatever their size."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not report the anonymous memory of a process")


def train_once(folder: Path) -> None:
    """Train two epochs, score the training split; print seconds, examples, and the largest anonymous memory seen.

    The seconds are those of the second epoch, because the first one reads the files.
    """
    from pytorch_lightning import Callback, LightningModule, Trainer

    from project.runs.build import build_run
    from project.runs.command import setup_console
    from project.runs.parser import parse_settings
    from project.runs.train import train

    starts: list[float] = []
    peak = 0

    class Clock(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            starts.append(time.perf_counter())

        def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
            nonlocal peak
            if trainer.global_step % 10 == 0:
                peak = max(peak, anonymous_bytes())

        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            starts.append(time.perf_counter())

    setup_console()
    before = anonymous_bytes()
    with tempfile.TemporaryDirectory() as runs:
        flags = ["--data.dataset=idx", f"--data.root={folder}", f"--run_root={runs}", "--trainer.max_epochs=2"]
        run = build_run(parse_settings([*flags, "--data.num_validation=1000", "--trainer.accelerator=cpu"]))
        run.trainer.callbacks.append(Clock())  # type: ignore[attr-defined]
        train(run)
        examples = len(run.datamodule.splits["train"])
        run.datamodule.scored_split = "train"
        started = time.perf_counter()
        run.trainer.test(run.module, datamodule=run.datamodule, verbose=False)
        evaluation_s = time.perf_counter() - started
    record = {"epoch_s": starts[2] - starts[1], "evaluation_s": evaluation_s, "examples": examples}
    print(json.dumps(record | {"memory": peak - before}))


def measure(num_train: int) -> dict[str, float]:
    """Measure microseconds per example, and the anonymous memory that was added after the start, for one size."""
    with tempfile.TemporaryDirectory() as folder:
        make_set(Path(folder), num_train)
        command = [sys.executable, "-m", "benchmarks.scale", "--one", folder]
        result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    record = json.loads(result.stdout.splitlines()[-1])
    return {
        "images": num_train,
        "microseconds_per_example": record["epoch_s"] / record["examples"] * 1e6,
        "microseconds_per_scored_example": record["evaluation_s"] / record["examples"] * 1e6,
        "memory_mb": record["memory"] / 2**20,
        "file_mb": num_train * SIDE * SIDE / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[6_000, 60_000, 600_000])
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        train_once(arguments.one)
        return
    for size in arguments.sizes:
        print("  ".join(f"{name} {value:,.1f}" for name, value in measure(size).items()), flush=True)


if __name__ == "__main__":
    main()
