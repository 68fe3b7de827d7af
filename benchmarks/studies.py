"""What a study costs beside its trainings, and what its own process holds: python -m benchmarks.studies

Runs `scripts/study.py` as a user would: twenty runs of a tiny network, whose wall time is held against the sum of their
training times; then a thousand runs that do next to nothing, for the memory of the study's own process and the time
until it shows its first progress.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

SCRIPT = Path(__file__).parent.parent / "scripts" / "study.py"
TINY: dict[str, Any] = {
    "question": "What do twenty runs cost?",
    "base": {"model.depth": 1, "model.width": 32, "model.norm": "none", "trainer.max_epochs": 5},
    "vary": {"model.activation": ["relu", "tanh", "gelu", "sigmoid"]},
    "seeds": 5,
}
MANY: dict[str, Any] = {
    "question": "What does a study of a thousand runs hold?",
    "base": {
        "data.num_train": 200,
        "data.num_validation": 100,
        "data.batch_size": 100,
        "model.depth": 0,
        "trainer.max_epochs": 1,
    },
    "vary": {"model.learning_rate": [0.001, 0.01]},
    "seeds": 500,
}


def run(study: dict[str, Any], root: Path, data_root: Path, workers: int) -> dict[str, float]:
    """Run a study in a process of its own; return its seconds and its largest memory, and what it did."""
    path = root / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    flags = ("--root", str(root), "--data_root", str(data_root), "--workers", str(workers))
    started, largest, first = time.monotonic(), 0, 0.0
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(path), *flags], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            if not first and " of " in process.stderr.readline():
                first = time.monotonic() - started
            largest = max(largest, watched.memory_info().rss if watched.is_running() else 0)
            time.sleep(0.2 if first else 0.0)
    if process.returncode:
        raise SystemExit("the study failed")
    results = [json.loads(file.read_text()) for file in (root / "study" / "results").glob("*.json")]
    return {
        "runs": len(results),
        "seconds": time.monotonic() - started,
        "training": sum(result["metrics"]["train_seconds"] for result in results),
        "first": first,
        "megabytes": largest / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--workers", type=int, default=2, help="for the thousand runs")
    arguments = parser.parse_args()
    for study, workers in ((TINY, 1), (MANY, arguments.workers)):
        with tempfile.TemporaryDirectory() as folder:
            found = run(study, Path(folder), arguments.data_root.resolve(), workers)
        print(f"{found['runs']} runs on {workers} worker(s)")
        print(f"  {found['seconds']:.0f} s, {found['seconds'] / found['training']:.2f} × their trainings")
        print(f"  first progress after {found['first']:.1f} s")
        print(f"  {found['megabytes']:.0f} MB in the study's own process", flush=True)


if __name__ == "__main__":
    main()
