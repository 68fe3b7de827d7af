"""Compare finished runs, a study's arms or single runs: python scripts/report.py runs/studies/NAME"""

from pathlib import Path

from project import startup  # noqa: F401 - before what takes time
from project.errors import InputError, check_text
from project.runs.command import run_command
from project.runs.parser import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("paths", type=Path, nargs="+", help="Studies' folders, or two or more run folders.")
    parser.add_argument(
        "--metric", type=str, default="test/accuracy", help="Metric that is compared between single runs."
    )
    parser.add_argument("--out", type=Path | None, default=None, help="Folder for the report; STUDY/report by default.")
    parser.add_argument(
        "--publish",
        type=Path | None,
        default=None,
        help="Write a README page with one figure for each study, and an index of all verdicts, into this folder.",
    )
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    arguments = parser.parse_args()
    for name in ("out", "publish"):
        check_text(name, None if arguments[name] is None else str(arguments[name]), "FOLDER")
    # imported late: help and refusals do not wait for torch
    from project.runs.saving.files import write_text
    from project.studies.read_study import stored_study
    from project.studies.reporting.report import make_report
    from project.studies.reporting.run_comparison import compare_runs
    from project.studies.reporting.write import print_report, publish, to_index, write_report

    if any((path / "config.yaml").is_file() for path in arguments.paths):
        if arguments.publish is not None:
            raise InputError("publish is for studies, but these are single runs", "leave it out; --out names a folder")
        study, records = compare_runs(arguments.paths, arguments.metric)
        print_report(write_report(study, records, arguments.out or Path("runs/report")))
        return
    from project.studies.running.engine import study_records  # which imports Dask and Optuna

    reports = []
    for folder in arguments.paths:
        study, records = study_records(stored_study(folder), folder)
        if arguments.publish is None:
            print_report(write_report(study, records, arguments.out or folder / "report"))
            continue
        report = make_report(study, records)
        files = {file for record in records for file in record.origin.get("extensions", {})}
        flags = [f"--extensions configs/studies/{file}" for file in sorted(files)]
        command = " ".join([f"python scripts/study.py configs/studies/{study.name}.yaml", *flags])
        publish(report, arguments.publish, command)
        reports.append(report)
    if arguments.publish is not None:
        write_text(arguments.publish / "README.md", to_index(reports))


if __name__ == "__main__":
    run_command(main)
