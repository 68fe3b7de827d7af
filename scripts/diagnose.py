"""Judge a network before it trains: python scripts/diagnose.py [settings as for train.py] [--suggest]"""

import sys
from pathlib import Path

from project.runs.command import run_command
from project.runs.parser import run_parser
from project.runs.settings import settings_from

COLOURS = {"severe": "bold red", "warning": "yellow", "note": "cyan"}


def main() -> None:
    parser = run_parser(__doc__ or "")
    parser.add_argument("--suggest", action="store_true", help="Try the remedies: a few seconds each.")
    parser.add_argument("--figure", type=Path, default=Path("diagnosis.png"), help="File for the picture.")
    config = parser.read(sys.argv[1:])
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
    findings = examined.findings
    for finding in findings:
        console.print(f"{finding.severity}: {escape(finding.sentence)}", style=COLOURS[finding.severity])
        if finding.remedy:
            console.print("  try " + escape(" ".join(finding.remedy)), soft_wrap=True)
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


if __name__ == "__main__":
    run_command(main)
