"""How many sick data sets are named, and how many healthy ones cause an alarm: python -m benchmarks.sick_data

Cases come from two tables: thresholds may be chosen on development.py, report.py is for the figures alone. A sick data
set counts as named when one of its codes is found; a healthy one as alarmed when anything worse than a note is.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.data_cases import development, report
from benchmarks.data_cases.cases import Arrays, Case, drawn
from project.data.datamodule import ImageDataModule
from project.data.settings import DataSettings
from project.data.sources.load import ImageDataset, ImageSplit, load_dataset
from project.diagnosis.data_examination.examination import Examination, examine_data

HALVES = {"development": development.CASES, "report": report.CASES}


@dataclass(frozen=True)
class Outcome:
    """What an examination said of a case.

    Attributes:
        case: The case.
        codes: The codes of all findings.
        alarms: The codes of all that are worse than a note.
        seconds: How long it took.
        num: How many pictures were examined.
    """

    case: Case
    codes: set[str]
    alarms: set[str]
    seconds: float
    num: int

    @property
    def right(self) -> bool:
        return bool(set(self.case.codes) & self.codes) if self.case.codes else not self.alarms

    @property
    def others(self) -> set[str]:
        """What a sick data set is also said to have, worse than a note."""
        return self.alarms - set(self.case.codes) if self.case.codes else set()


def examined(case: Case, full: Arrays) -> Examination:
    """Examine a case through a data module, as the command does."""
    arrays = drawn(case, full)
    train = ImageSplit(torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels).long())
    test = ImageSplit(torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels).long())
    classes = int(max(arrays.labels.max(), arrays.test_labels.max())) + 1
    names = tuple(str(number) for number in range(classes))
    datamodule = ImageDataModule(DataSettings(dataset="idx", num_validation=len(train.labels) // 10))
    datamodule.__dict__["data"] = ImageDataset("idx", train, test, names, case.name, {})
    return examine_data(datamodule)


def measure(cases: list[Case], root: Path) -> list[Outcome]:
    """Examine all cases."""
    outcomes, full = [], {}
    for case in cases:
        if case.dataset not in full:
            loaded = load_dataset(case.dataset, root, download=False)
            parts = [part for split in (loaded.train, loaded.test) for part in (split.images, split.labels)]
            full[case.dataset] = Arrays(*(np.asarray(part) for part in parts))
        start = time.perf_counter()
        found = examined(case, full[case.dataset])
        shown = [illustrated.finding for illustrated in found.findings]
        alarms = {finding.code for finding in shown if finding.severity != "note"}
        num = sum(found.num_pictures.values())
        outcome = Outcome(case, {finding.code for finding in shown}, alarms, found.seconds, num)
        outcomes.append(outcome)
        mark = "ok   " if outcome.right else "WRONG"
        extra = f"; also {', '.join(sorted(outcome.others))}" if outcome.others else ""
        print(
            f"{mark} {case.name} ({case.dataset}, {num:,}): {', '.join(sorted(alarms)) or 'no alarm'}{extra}, "
            f"{found.seconds:.1f} s, with making it {time.perf_counter() - start:.1f} s",
            flush=True,
        )
    return outcomes


def summary(name: str, outcomes: list[Outcome]) -> list[str]:
    """The half's figures and its wrong cases, as Markdown."""
    sick, healthy = [o for o in outcomes if o.case.codes], [o for o in outcomes if not o.case.codes]
    named, alarmed = sum(o.right for o in sick), sum(not o.right for o in healthy)
    others = sum(bool(o.others) for o in sick)
    per_picture = 1e6 * sum(o.seconds for o in outcomes) / sum(o.num for o in outcomes)
    longest = max(outcomes, key=lambda o: o.seconds)
    lines = [
        f"| {name} | {named} of {len(sick)} | {others} of {len(sick)} | {alarmed} of {len(healthy)} "
        f"| {longest.seconds:.1f} ({longest.num:,} pictures) | {per_picture:.0f} |"
    ]
    for o in outcomes:
        if not o.right:
            what = ", ".join(sorted(o.alarms)) or "nothing"
            lines.append(f"- {name}: {o.case.name} ({o.case.dataset}, {o.num:,} pictures): found {what}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=Path, default=Path("data"), help="folder in torchvision's layout")
    parser.add_argument("--halves", nargs="+", choices=HALVES, default=list(HALVES))
    parser.add_argument("--only", default="", help="only cases whose name has this text")
    parser.add_argument("--output", type=Path, help="file for the table, as Markdown")
    arguments = parser.parse_args()
    rows, wrong = [], []
    for half in arguments.halves:
        cases = [case for case in HALVES[half] if arguments.only in case.name]
        row, *lines = summary(half, measure(cases, arguments.data_root))
        rows.append(row)
        wrong += lines
    head = [
        "| half | sick sets named | with another alarm beside it | healthy sets alarmed | longest, s | µs a picture |"
    ]
    text = "\n".join([*head, "| --- | --- | --- | --- | --- | --- |", *rows, "", *wrong]) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
