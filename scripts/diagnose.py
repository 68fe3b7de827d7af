"""Judge a network before it trains, or explain a run: python scripts/diagnose.py [RUN_FOLDER | settings] [--explain]

With --data, judge the data by themselves instead: python scripts/diagnose.py --data [settings as for train.py]
"""

import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from project import startup  # noqa: F401 - before what takes time
from project.errors import InputError, check_text
from project.extensions import check_extensions, extension_flags, load_named_extensions
from project.runs.command import run_command
from project.runs.parser import parse_settings, run_parser
from project.runs.settings import RunSettings, settings_from
from project.settings import flatten

if TYPE_CHECKING:
    from rich.console import Console

    from project.diagnosis.judgement.findings import Finding

COLOURS = {"severe": "bold red", "warning": "yellow", "note": "cyan"}
OWN_FLAGS = ("--explain", "--figure", "--examine_data", "--debug")


def main() -> None:
    folder, words = run_and_flags(with_examine_data(load_named_extensions(sys.argv[1:])))
    parser = run_parser(" ".join((__doc__ or "").split()))
    parser.add_argument("--figure", type=Path, default=Path("diagnosis.png"), help="File for the picture.")
    parser.add_argument("--examine_data", action="store_true", help="Judge the data; --data alone means the same.")
    config = parser.read(words)
    check_text("figure", str(config.figure), "diagnosis.png")
    given = settings_from(config.as_dict())
    settings = given
    if folder is not None:
        from project.runs.parser import settings_of
        from project.runs.saving.contents import read_provenance
        from project.runs.saving.resumption import plain_settings

        check_extensions(folder, read_provenance(folder), exactly=False)
        # as data alone: a run folder may be a stranger's
        settings = settings_of(plain_settings(folder / "config.yaml")[0])
        settings = replace(settings, data=replace(settings.data, download=False))
    # imported late: help and refusals do not wait for torch
    from project.pages import terminal

    console = terminal()
    if config.examine_data:
        examine_the_data(console, settings, config.figure)
        return
    from project.diagnosis.before_training import diagnosis_figure, examine, layer_diagnosis_table, theory_lines
    from project.pages import save_picture

    examined = examine(settings.model, settings.data, settings.seed_everything)
    console.print(layer_diagnosis_table(examined))
    for line in theory_lines(examined):
        console.print(line)
    findings = examined.findings
    print_findings(console, findings)
    if not findings:
        console.print("Nothing is wrong with this network before it trains.", style="bold green")
    if examined.diagnosis.probe.hidden:
        save_picture(diagnosis_figure(examined), config.figure)
        console.print(f"picture      {config.figure}", soft_wrap=True)
    if not given.explain:
        return
    from project.studies.explain.explain import explain, explain_run

    if folder is not None:
        explain_run(folder, settings, given.explain_seconds)
        return
    flags = settings_flags(words)
    typed = shlex.join(["python", "scripts/train.py", *extension_flags(), *flags])
    remedies = [finding.remedy for finding in findings]
    explain(flatten(parse_settings(flags).as_dict()), remedies, given.explain_seconds, typed)


def run_and_flags(words: list[str]) -> tuple[Path | None, list[str]]:
    """The run folder, if one is named at the start or after --explain, and the flags.

    Raises:
        InputError: If there is no run in the folder, or settings are given beside it.
    """
    previous = ["--explain", *words]
    named = [i for i, word in enumerate(words) if previous[i] == "--explain" and not word.startswith("-")]
    if not named:
        return None, words
    folder, flags = Path(words[named[0]]), words[: named[0]] + words[named[0] + 1 :]
    if not (folder / "config.yaml").is_file():
        raise InputError(
            f"{folder} is no run folder: it has no config.yaml",
            "name the folder that training printed, such as runs/fashion_mnist/NAME",
        )
    if others := settings_flags(flags):
        raise InputError(
            f"{folder} has settings of its own, but {others[0]} is given too",
            f"leave it out, or type --config {folder / 'config.yaml'} in place of the folder",
        )
    return folder, flags


def settings_flags(words: list[str]) -> list[str]:
    """The flags that are settings of a training, with their values."""
    kept, own = list[str](), False
    for word in words:
        if word.startswith("-"):
            own = word.startswith(OWN_FLAGS)
        if not own:
            kept.append(word)
    return kept


def with_examine_data(arguments: list[str]) -> list[str]:
    """The flags with a bare `--data` as `--examine_data`; before a value, `--data` names a file of data settings."""
    return [
        "--examine_data" if word == "--data" and (following is None or following.startswith("-")) else word
        for word, following in pairwise([*arguments, None])
        if word is not None
    ]


def print_findings(console: "Console", findings: Iterable["Finding"]) -> None:
    for finding in findings:
        console.print(f"{finding.severity}: {finding.sentence}", style=COLOURS[finding.severity])
        if finding.remedy:
            console.print("  try " + " ".join(finding.remedy), soft_wrap=True)


def examine_the_data(console: "Console", settings: RunSettings, path: Path) -> None:
    """Print what is found in the data, and save the pictures that show it."""
    from project.data.datamodule import ImageDataModule
    from project.diagnosis.data_examination.examination import examine_data
    from project.diagnosis.data_examination.figure import contact_sheet
    from project.pages import save_picture

    datamodule = ImageDataModule(settings.data, task=settings.model.task, seed=settings.seed_everything)
    examined = examine_data(datamodule)
    counts = ", ".join(f"{num:,} {split}" for split, num in examined.num_pictures.items())
    console.print(f"{settings.data.dataset}: {counts} pictures, examined in {examined.seconds:.1f} s")
    print_findings(console, (shown.finding for shown in examined.findings))
    if all(shown.finding.severity == "note" for shown in examined.findings):
        console.print("No warning about these data.", style="bold green")
    if any(shown.examples for shown in examined.findings):
        save_picture(contact_sheet(examined.findings), path)
        console.print(f"picture      {path}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
