"""Measure everything and write docs/performance.md and docs/performance.json: python -m benchmarks --data_root data

Takes about 35 minutes on two cores that have nothing else to do.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import process, scale, throughput
from project.runs.saving.provenance import hardware, versions

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
Seconds = dict[str, dict[str, list[float]]]
"""Seconds per epoch of each job and contender, one number per round."""


def seconds_per_epoch(contenders: dict[str, tuple[str, ...]], data_root: Path, rounds: int, epochs: int = 4) -> Seconds:
    """Measure each job and contender in turn; each round gives one number."""
    found: Seconds = {job: {name: [] for name in names} for job, names in contenders.items()}
    options = argparse.Namespace(data_root=data_root, epochs=epochs, device="cpu", extra=[])
    for _ in range(rounds):
        for job, names in found.items():
            for name, taken in names.items():
                taken.append(throughput.measure(job, name, options))
                print(f"{job}, {name}: {taken[-1]:.3f} s per epoch", flush=True)
    return found


def compiled(data_root: Path, rounds: int) -> dict[str, list[float]]:
    """Measure the default job with and without torch.compile: its first epoch, and the median of the later ones."""
    found: dict[str, list[float]] = {"first_s": [], "later_s": [], "compiled_first_s": [], "compiled_later_s": []}
    options = argparse.Namespace(data_root=data_root, epochs=4, device="cpu", extra=[])
    for _ in range(rounds):
        for prefix, contender in (("", "project"), ("compiled_", "project, compiled")):
            first, *later = throughput.measure_epochs("default", contender, options)
            found[f"{prefix}first_s"].append(first)
            found[f"{prefix}later_s"].append(statistics.median(later))
            print(
                f"{contender}: first epoch {first:.2f} s, later ones {found[f'{prefix}later_s'][-1]:.3f} s", flush=True
            )
    return found


def spread(values: list[float], digits: int = 2) -> str:
    """Median, and lowest and highest, as a table shows them."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(seconds: dict[str, list[float]], contender: str) -> list[float]:
    """How many times as long as a contender the project takes, round by round."""
    return [ours / theirs for ours, theirs in zip(seconds["project"], seconds[contender], strict=True)]


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
        *aims_section(record),
        "",
        "## An epoch compared with the usual ways",
        "",
        "Everything is on that is on by default: validation, checkpoints, logging, TensorBoard, diagnostics.",
        "",
        "| job | contender | seconds per epoch | project ÷ contender |",
        "| --- | --- | --- | --- |",
    ]
    for job, contenders in record["epochs"].items():
        for name, taken in contenders.items():
            ratio = "" if name == "project" else spread(ratios(contenders, name))
            lines.append(f"| {job} | {name} | {spread(taken, 3)} | {ratio} |")
    lines += [
        "",
        "`small` is 784-64-128-64-10 at batch 128, Adam, on MNIST; `default` is what `scripts/train.py` trains; `wide`",
        "is 784-1024-1024-10 at batch 512. The bare loop is plain PyTorch over images in memory, fused optimizer;",
        "`matrix products` does nothing else of the work; `Lightning with DataLoader` is torchvision's data set, a",
        "`DataLoader`, and `self.log` at every step ([baselines.py](../benchmarks/baselines.py)).",
    ]
    for part, (section, _) in PARTS.items():
        lines += section(record[part]) if part in record else ["", f"Not measured in this run: {part}."]
    return "\n".join(lines) + "\n\n" + (ROOT / "benchmarks" / "profile.md").read_text(encoding="utf-8")


def aims_section(record: dict[str, Any]) -> list[str]:
    """The aims, what was measured, and whether each aim was reached."""
    epochs = record["epochs"]
    rows = [
        ("epoch of the default network against the bare loop", "at most", 1.15, ratios(epochs["default"], "bare loop")),
        ("epoch of the small network against the bare loop", "at most", 1.5, ratios(epochs["small"], "bare loop")),
        (
            "the same, how many times as fast as Lightning with a DataLoader",
            "at least",
            10,
            [1 / ratio for ratio in ratios(epochs["small"], "Lightning with DataLoader")],
        ),
        (
            "share of the matrix products' speed, width 1024, batch 512",
            "at least",
            0.7,
            [1 / ratio for ratio in ratios(epochs["wide"], "matrix products")],
        ),
    ]
    if start := record.get("process"):
        rows += [
            ("start to first step against the bare imports", "at most", 1.5, start["start_ratio"]),
            ("peak memory beyond the imports over the data's bytes", "at most", 2, start["memory_ratio"]),
        ]
    if sizes := record.get("scale"):
        cost = {row["images"]: row["microseconds_per_example"] for row in sizes}
        if {60_000, max(cost)} <= cost.keys():
            name = f"cost per example, {max(cost):,} against 60,000 images"
            rows.append((name, "at most", 1.2, [cost[max(cost)] / cost[60_000]]))
    lines = ["## Aims", "", "| what | aim | measured | reached |", "| --- | --- | --- | --- |"]
    for name, bound, aim, values in rows:
        median = statistics.median(values)
        reached = median <= aim if bound == "at most" else median >= aim
        lines.append(f"| {name} | {bound} {aim:g} | {spread(values)} | {'yes' if reached else 'no'} |")
    return lines


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


def shapes_section(shapes: Seconds) -> list[str]:
    lines = [
        "",
        "## Width and depth",
        "",
        "10,000 pictures, batch 512: the share of the matrix products' speed that is reached, and one process with",
        "both cores compared with two processes with one core each.",
        "",
        "| width × depth | project, s | matrix products, s | share | two processes, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for job, seconds in shapes.items():
        share = spread([1 / ratio for ratio in ratios(seconds, "matrix products")])
        cells = [spread(seconds[name], 3) for name in ("project", "matrix products")]
        lines.append(f"| {job} | {' | '.join(cells)} | {share} | {spread(seconds['project, 2 processes'], 3)} |")
    return lines


def compile_section(found: dict[str, list[float]]) -> list[str]:
    ratio = [ours / plain for ours, plain in zip(found["compiled_later_s"], found["later_s"], strict=True)]
    return [
        "",
        "## With `--model.compile true`",
        "",
        "| the default network | first epoch, s | later epochs, s |",
        "| --- | --- | --- |",
        f"| as it is | {spread(found['first_s'])} | {spread(found['later_s'], 3)} |",
        f"| compiled | {spread(found['compiled_first_s'])} | {spread(found['compiled_later_s'], 3)} |",
        "",
        f"A later epoch takes {spread(ratio)} times as long compiled. The first round compiles; the others find",
        "torch's cache.",
    ]


def scale_section(rows: list[dict[str, float]]) -> list[str]:
    lines = [
        "",
        "## Cost per example",
        "",
        "| training images | microseconds per trained example | per scored example | memory beyond start-up, MB "
        "| size of the file, MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        names = ("microseconds_per_example", "microseconds_per_scored_example", "memory_mb", "file_mb")
        lines.append(f"| {row['images']:,} | " + " | ".join(f"{row[name]:,.1f}" for name in names) + " |")
    return [*lines, "", "The file is memory-mapped: only what the kernel keeps of it in its cache grows with it."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[6_000, 60_000, 600_000, 6_000_000])
    parser.add_argument(
        "--parts", nargs="*", choices=PARTS, default=list(PARTS), help="measured besides the seconds per epoch"
    )
    arguments = parser.parse_args()
    arguments.data_root = arguments.data_root.resolve()
    record: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "rounds": arguments.rounds,
        "hardware": hardware(),
        "versions": versions(),
        "epochs": seconds_per_epoch(throughput.CONTENDERS, arguments.data_root, arguments.rounds),
    }
    record |= {part: PARTS[part][1](arguments) for part in arguments.parts}
    (DOCS / "performance.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (DOCS / "performance.md").write_text(page(record), encoding="utf-8")
    print(f"written: {DOCS / 'performance.md'}")


Arguments = argparse.Namespace
PARTS: dict[str, tuple[Callable[[Any], list[str]], Callable[[Arguments], Any]]] = {
    "process": (process_section, lambda given: process.measure(given.data_root, given.rounds)),
    "shapes": (
        shapes_section,
        lambda given: seconds_per_epoch(
            dict.fromkeys(throughput.SHAPES, ("project", "matrix products", "project, 2 processes")),
            given.data_root,
            rounds=3,
            epochs=2,
        ),
    ),
    "compile": (compile_section, lambda given: compiled(given.data_root, rounds=3)),
    "scale": (scale_section, lambda given: [scale.measure(size) for size in given.sizes]),
}
"""What is measured besides the seconds per epoch: how the page shows it, and how it is measured."""


if __name__ == "__main__":
    main()
