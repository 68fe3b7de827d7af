"""Seconds per epoch on a machine that has other work too: python -m benchmarks.contention --data_root data

Other programs compute beside the training, each with one thread that never waits; or a control group gives it half of a
processor's time. The bare loop is plain PyTorch as it comes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import throughput

CONDITIONS = ("quiet", "1 busy program", "2 busy programs", "4 busy programs", "half a processor")
CONTENDERS = ("project", "bare loop")
Found = dict[str, dict[str, list[float]]]
"""Seconds of an epoch by condition and contender, one number per round."""


@contextmanager
def condition(name: str) -> Iterator[None]:
    """Give the programs that are started meanwhile a busy machine, or a quota.

    Raises:
        OSError: If this user may not make a control group.
    """
    if name == "half a processor":
        with quota(0.5):
            yield
        return
    number = 0 if name == "quiet" else int(name.split()[0])
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


@contextmanager
def quota(processors: float) -> Iterator[None]:
    """Move this process, and so what it starts, into a control group with a share of the processors' time."""
    root, period_us = Path("/sys/fs/cgroup"), 100_000
    home = root / "cpu" if (root / "cpu").is_dir() else root
    group = Path(tempfile.mkdtemp(prefix="contention-", dir=home))
    quota_us = str(int(processors * period_us))
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{quota_us} {period_us}")
    else:
        (group / "cpu.cfs_quota_us").write_text(quota_us)
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def measure(data_root: Path, rounds: int, job: str = "default") -> Found:
    """Measure all conditions and contenders in turn, in processes of their own; of two epochs the second counts."""
    found: Found = {name: {contender: [] for contender in CONTENDERS} for name in CONDITIONS}
    options = argparse.Namespace(data_root=data_root, epochs=2, device="cpu", extra=[])
    for _ in range(rounds):
        for name, taken in found.items():
            try:
                with condition(name):
                    for contender, seconds in taken.items():
                        seconds.append(throughput.measure(job, contender, options))
                        print(f"{job}, {name}, {contender}: {seconds[-1]:.2f} s", flush=True)
            except PermissionError as error:
                print(f"{name}: not measured ({error})")
    return {name: taken for name, taken in found.items() if taken["bare loop"]}


def table(found: Found) -> list[str]:
    """The figures as a Markdown table."""
    lines = [
        "| beside it | project, s | bare loop, s | bare loop ÷ project | project ÷ its quiet median, worst |",
        "| --- | --- | --- | --- | --- |",
    ]
    quiet = statistics.median(found["quiet"]["project"])
    for name, taken in found.items():
        cells = [f"{statistics.median(taken[who]):.2f}, worst {max(taken[who]):.2f}" for who in CONTENDERS]
        ratio = statistics.median(b / a for a, b in zip(taken["project"], taken["bare loop"], strict=True))
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio:.2f} | {max(taken['project']) / quiet:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--job", choices=throughput.JOBS, default="default")
    arguments = parser.parse_args()
    print("\n".join(table(measure(arguments.data_root.resolve(), arguments.rounds, arguments.job))))


if __name__ == "__main__":
    main()
