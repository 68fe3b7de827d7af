"""Everything in one run, into docs/performance.md and docs/performance.json: python -m benchmarks --data_root data

Takes about 20 minutes on two cores that have nothing else to do.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import accuracy, process, scale, throughput
from project.run_folder import hardware, versions

PARTS = ("process", "scale", "accuracy")
DOCS = Path(__file__).parent.parent / "docs"


def seconds_per_epoch(arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Of each job and contender, one figure per round, in turn."""
    found: dict[str, dict[str, list[float]]] = {
        job: {name: [] for name in throughput.CONTENDERS[job]} for job in throughput.JOBS
    }
    options = argparse.Namespace(data_root=arguments.data_root, epochs=4, device="cpu", extra=[])
    for _ in range(arguments.rounds):
        for job, contenders in found.items():
            for name, taken in contenders.items():
                taken.append(throughput.measure(job, name, options))
                print(f"{job}, {name}: {taken[-1]:.3f} s per epoch", flush=True)
    return found


def spread(values: list[float], digits: int = 2) -> str:
    """Median, and lowest and highest, as a table shows them."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    machine, used = record["hardware"], record["versions"]
    lines = [
        "# Performance",
        "",
        "Written by `make bench`, which measures everything below in one run: contenders take turns, each in a",
        "process of its own, and every figure is the median of the rounds, with lowest and highest in brackets.",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['torch_threads']} threads, no GPU. Python "
        f"{used['python']}, torch {used['torch']}, pytorch-lightning {used['pytorch-lightning']}. "
        f"{record['rounds']} rounds, {record['date']}. Load of the machine at the start: "
        f"{record['load']:.1f}.",
        "",
        "## An epoch beside the usual ways",
        "",
        "Everything is on that is on by default: validation, checkpoints, logging, TensorBoard, diagnostics.",
        "",
        "| job | contender | seconds per epoch | project ÷ contender |",
        "| --- | --- | --- | --- |",
    ]
    for job, contenders in record["seconds_per_epoch"].items():
        for name, taken in contenders.items():
            ratios = [ours / theirs for ours, theirs in zip(contenders["project"], taken, strict=True)]
            lines.append(f"| {job} | {name} | {spread(taken, 3)} | {'' if name == 'project' else spread(ratios)} |")
    lines += [
        "",
        "`small` is 784-64-128-64-10 at batch 128, Adam, on MNIST; `default` is what `scripts/train.py` trains; `wide`",
        "is 784-1024-1024-10 at batch 512. The bare loop is plain PyTorch over images in memory, fused optimizer;",
        "`matrix products` does nothing else of the work; `Lightning with DataLoader` is torchvision's data set, a",
        "`DataLoader`, and `self.log` at every step ([baselines.py](../benchmarks/baselines.py)).",
    ]
    for part, section in (("process", process_section), ("scale", scale_section), ("accuracy", accuracy_section)):
        if part in record:
            lines += section(record[part])
        else:
            lines += ["", f"Not measured in this run: {part}."]
    return "\n".join(lines) + "\n"


def process_section(start: dict[str, list[float]]) -> list[str]:
    return [
        "",
        "## Start and memory",
        "",
        "| what | figure |",
        "| --- | --- |",
        f"| seconds from the start to the first step | {spread(start['first_step_s'])} |",
        f"| seconds to import torch, pytorch-lightning, torchmetrics, tensorboard | {spread(start['imports_s'])} |",
        f"| the one over the other | {spread(start['start_ratio'])} |",
        f"| peak memory of a run beyond the imports, over the bytes of the data | {spread(start['memory_ratio'])} |",
    ]


def scale_section(rows: list[dict[str, float]]) -> list[str]:
    lines = [
        "",
        "## Cost per example",
        "",
        "| training images | microseconds per example | memory beyond start-up, MB | size of the file, MB |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = (row["microseconds_per_example"], row["memory_mb"], row["file_mb"])
        lines.append(f"| {row['images']:,} | " + " | ".join(f"{cell:,.1f}" for cell in cells) + " |")
    return [*lines, "", "The file is memory-mapped: only what the kernel keeps of it in its cache grows with it."]


def accuracy_section(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "",
        "## Time to accuracy",
        "",
        "| data | goal | who | mean test accuracy ± sd | training, s | whole process, s | process ÷ bare loop's |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        reached = f"{row['accuracy_mean']:.2%} ± {row['accuracy_sd']:.2%}"
        ratio = f"{row['process_ratio']:.2f}" if row["who"] == "project" else ""
        times = f"{row['train_s']:.1f} | {row['process_s']:.1f}"
        lines.append(f"| {row['dataset']} | {row['goal']:.0%} | {row['who']} | {reached} | {times} | {ratio} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[6_000, 60_000, 600_000, 6_000_000])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="beside the seconds per epoch")
    arguments = parser.parse_args()
    arguments.data_root = arguments.data_root.resolve()
    measures: dict[str, Callable[[], Any]] = {
        "process": lambda: process.measure(arguments.data_root, arguments.rounds),
        "scale": lambda: [scale.measure(size) for size in arguments.sizes],
        "accuracy": lambda: accuracy.measure(arguments.data_root, arguments.seeds),
    }
    record: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "rounds": arguments.rounds,
        "seeds": arguments.seeds,
        "hardware": hardware(),
        "versions": versions(),
        "seconds_per_epoch": seconds_per_epoch(arguments),
    }
    record |= {part: measures[part]() for part in arguments.parts}
    (DOCS / "performance.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (DOCS / "performance.md").write_text(page(record), encoding="utf-8")
    print(f"written: {DOCS / 'performance.md'}")


if __name__ == "__main__":
    main()
