"""Run controlled studies and report the results: python scripts/study.py configs/studies/activations.yaml"""

from pathlib import Path

from project.runs.command import run_command
from project.runs.parser import Parser


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs="+", help="Study files; docs/studies.md explains how to write one.")
    parser.add_argument(
        "--seeds", type=int | None, default=None, help="How many seeds each arm has, instead of the file's number."
    )
    parser.add_argument("--workers", type=int, default=1, help="How many processes run the study on this machine.")
    parser.add_argument(
        "--storage",
        type=str | None,
        default=None,
        help="A database that workers on several machines share: postgresql://USER:PASSWORD@HOST/DATABASE. Without "
        "it, the study's folder holds an SQLite database.",
    )
    parser.add_argument("--quick", action="store_true", help="Take a quick look with fewer epochs and 2 seeds.")
    parser.add_argument("--root", type=Path, default=Path("runs/studies"), help="The folder of all studies.")
    parser.add_argument(
        "--data_root",
        type=str | None,
        default=None,
        help="The folder of the data; they are downloaded to it if they are not there.",
    )
    parser.add_argument("--retry_failed", action="store_true", help="Run failed runs again.")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    arguments = parser.parse_args()
    # imported late: help and refusals do not wait for torch
    from project.studies.read_study import read_study, write_study
    from project.studies.reporting.write import print_report, write_report
    from project.studies.running.engine import run_study
    from project.studies.running.progress import StudyProgress

    studies = [read_study(path, arguments.seeds, arguments.quick) for path in arguments.studies]
    failed = 0
    for study in studies:
        folder = arguments.root / study.name
        write_study(study, folder)
        with StudyProgress(study, arguments.workers) as progress:
            records = run_study(
                study,
                folder,
                arguments.storage,
                arguments.workers,
                arguments.retry_failed,
                progress.show,
                {"data.root": arguments.data_root} if arguments.data_root else {},
            )
        report = write_report(study, records, folder / "report")
        print_report(report)
        failed += sum(record.status == "failed" for record in records)
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
