"""Judge a network before it trains: python scripts/diagnose.py [RUN_FOLDER] [settings as for train.py] [--explain]"""

import shlex
import sys
from pathlib import Path

from project.errors import InputError
from project.runs.command import run_command
from project.runs.parser import parse_settings, run_parser
from project.runs.settings import RunSettings, settings_from
from project.settings import flatten

COLOURS = {"severe": "bold red", "warning": "yellow", "note": "cyan"}
OWN_FLAGS = ("--explain", "--figure", "--debug")


def main() -> None:
    folder, words = run_and_words(sys.argv[1:])
    parser = run_parser(__doc__ or "")
    parser.add_argument("--figure", type=Path, default=Path("diagnosis.png"), help="File for the picture.")
    config = parser.read(words)
    settings = settings_from(config.as_dict())
    # imported late: help and refusals do not wait for torch
    from rich.console import Console
    from rich.markup import escape

    from project.diagnosis.before_training import examine, layer_diagnosis_table, save_figure, theory_lines

    examined = examine(settings.model, settings.data, settings.seed_everything)
    console = Console(highlight=False)
    console.print(layer_diagnosis_table(examined))
    for line in theory_lines(examined):
        console.print(line)
    findings = examined.diagnosis.findings
    for finding in findings:
        console.print(f"{finding.severity}: {escape(finding.sentence)}", style=COLOURS[finding.severity])
        if finding.remedy:
            console.print("  try " + escape(" ".join(finding.remedy)), soft_wrap=True)
    if not findings:
        console.print("Nothing is wrong with this network before it trains.", style="bold green")
    if examined.diagnosis.probe.hidden:
        save_figure(examined, config.figure)
        console.print(f"picture      {config.figure}", soft_wrap=True)
    if settings.explain:
        own = without_own_flags(words)
        explain(folder, parse_settings(own), own, settings.explain_seconds, [finding.remedy for finding in findings])


def run_and_words(words: list[str]) -> tuple[Path | None, list[str]]:
    """The run folder, if one is named, and the flags, with which its settings are read."""
    if not words or words[0].startswith("-"):
        return None, words
    folder, more = Path(words[0]), words[1:]
    if not (folder / "config.yaml").is_file():
        raise InputError(
            f"{folder} is no run folder: it has no config.yaml",
            "name the folder that training printed, such as runs/fashion_mnist/NAME",
        )
    if others := without_own_flags(more):
        raise InputError(
            f"{folder} has settings of its own, but {others[0]} is given too",
            f"leave it out, or type --config {folder / 'config.yaml'} in place of the folder",
        )
    return folder, ["--config", str(folder / "config.yaml"), *more]


def without_own_flags(words: list[str]) -> list[str]:
    """The flags that are settings of a run, with their values."""
    kept, own = [], False
    for word in words:
        if word.startswith("-"):
            own = word.startswith(OWN_FLAGS)
        if not own:
            kept.append(word)
    return kept


def explain(
    folder: Path | None, settings: RunSettings, words: list[str], seconds: float, remedies: list[list[str]]
) -> None:
    from project.studies.explain import explain as explaining

    flat = flatten(settings.as_dict())
    if folder is not None:
        explaining.explain_run(folder, flat, seconds)
    else:
        explaining.explain(flat, remedies, seconds, shlex.join(["python", "scripts/train.py", *words]))


if __name__ == "__main__":
    run_command(main)
