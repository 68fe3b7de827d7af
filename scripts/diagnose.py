"""Judge a network before it trains: python scripts/diagnose.py [settings as for train.py] [--suggest]

With --data, judge the data by themselves instead: python scripts/diagnose.py --data [settings as for train.py]
"""

import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from project.runs.command import run_command
from project.runs.parser import run_parser
from project.runs.settings import RunSettings, settings_from

if TYPE_CHECKING:
    from rich.console import Console

    from project.diagnosis.judgement.findings import Finding

COLOURS = {"severe": "bold red", "warning": "yellow", "note": "cyan"}


def main() -> None:
    parser = run_parser(" ".join((__doc__ or "").split()))
    parser.add_argument("--suggest", action="store_true", help="Try the remedies: a few seconds each.")
    parser.add_argument("--figure", type=Path, default=Path("diagnosis.png"), help="File for the picture.")
    parser.add_argument("--examine_data", action="store_true", help="Judge the data; --data alone means the same.")
    arguments = with_examine_data(sys.argv[1:])
    config = parser.read(arguments)
    settings = settings_from(config.as_dict())
    # imported late: help and refusals do not wait for torch
    from rich.console import Console

    console = Console(highlight=False)
    if config.examine_data:
        examine_the_data(console, settings, config.figure)
        return
    from project.diagnosis.before_training import examine, layer_diagnosis_table, save_figure, theory_lines

    examined = examine(settings.model, settings.data, settings.seed_everything)
    console.print(layer_diagnosis_table(examined))
    for line in theory_lines(examined):
        console.print(line)
    findings = examined.diagnosis.findings
    print_findings(console, findings)
    if not findings:
        console.print("Nothing is wrong with this network before it trains.", style="bold green")
    if examined.diagnosis.probe.hidden:
        save_figure(examined, config.figure)
        console.print(f"picture      {config.figure}", soft_wrap=True)
    if config.suggest and findings:
        own = ("--suggest", "--figure")
        arguments = [word for word in sys.argv[1:] if not word.startswith(own) and word != str(config.figure)]
        from project.studies.remedy_trials import trial_table, try_remedies

        console.print(trial_table(try_remedies(arguments, findings)))


def with_examine_data(arguments: list[str]) -> list[str]:
    """The flags with a bare `--data` as `--examine_data`; before a value, `--data` names a file of data settings."""
    return [
        "--examine_data" if word == "--data" and (following is None or following.startswith("-")) else word
        for word, following in pairwise([*arguments, None])
        if word is not None
    ]


def print_findings(console: "Console", findings: Iterable["Finding"]) -> None:
    from rich.markup import escape

    for finding in findings:
        console.print(f"{finding.severity}: {escape(finding.sentence)}", style=COLOURS[finding.severity])
        if finding.remedy:
            console.print("  try " + escape(" ".join(finding.remedy)), soft_wrap=True)


def examine_the_data(console: "Console", settings: RunSettings, path: Path) -> None:
    """Print what is found in the data, and save the pictures that show it."""
    from project.data.datamodule import ImageDataModule
    from project.diagnosis.data_examination.examination import examine_data
    from project.diagnosis.data_examination.figure import save_contact_sheet

    datamodule = ImageDataModule(settings.data, task=settings.model.task, seed=settings.seed_everything)
    examined = examine_data(datamodule)
    counts = ", ".join(f"{num:,} {split}" for split, num in examined.num_pictures.items())
    console.print(f"{settings.data.dataset}: {counts} pictures, examined in {examined.seconds:.1f} s")
    print_findings(console, (shown.finding for shown in examined.findings))
    if all(shown.finding.severity == "note" for shown in examined.findings):
        console.print("Nothing is wrong with these data.", style="bold green")
    if any(shown.examples for shown in examined.findings):
        save_contact_sheet(examined.findings, path)
        console.print(f"picture      {path}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
