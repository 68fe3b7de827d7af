"""Run controlled studies and report the results: python scripts/study.py configs/studies/activations.yaml"""

from pathlib import Path

from project import startup  # noqa: F401 - before what takes time
from project.errors import check_in_range, check_text
from project.runs.command import run_command
from project.runs.parser import Parser


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("studies", type=Path, nargs="+", help="Study files; docs/studies.md says how to write one.")
    parser.add_argument("--seeds", type=int | None, default=None, help="Number of seeds, instead of the file's.")
    parser.add_argument("--workers", type=int, default=1, help="Processes that run the study on this machine.")
    parser.add_argument(
        "--scheduler",
        type=str,
        default="",
        help="A Dask cluster that runs the study: its scheduler's address, such as tls://HOST:8786, or its scheduler "
        "file, or a YAML file that describes a cluster, such as configs/cluster/slurm.yaml. Without it, the study has "
        "workers of its own on this machine.",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="Use a scheduler on another machine without TLS. Whoever reaches it can run code on its workers.",
    )
    parser.add_argument("--quick", action="store_true", help="A quick look: fewer epochs, 2 seeds.")
    parser.add_argument("--root", type=Path, default=Path("runs/studies"), help="Folder of all studies.")
    parser.add_argument(
        "--data_root",
        type=str | None,
        default=None,
        help="Folder of the data; they are fetched into it if they are not there.",
    )
    parser.add_argument("--retry_failed", action="store_true", help="Run again the runs that failed before.")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    arguments = parser.parse_args()
    check_in_range("workers", arguments.workers, 1, "2", 1000)
    for name in ("root", "data_root"):
        check_text(name, None if arguments[name] is None else str(arguments[name]), "FOLDER")
    # imported late: help and refusals do not wait for torch
    from project.studies.read_study import read_study
    from project.studies.reporting.write import print_report, write_report
    from project.studies.running.engine import run_study
    from project.studies.running.progress import StudyProgress

    studies = [read_study(path, arguments.seeds, arguments.quick) for path in arguments.studies]
    failed = 0
    for study in studies:
        folder = arguments.root / study.name
        with StudyProgress(study) as progress:
            study, records = run_study(
                study,
                folder,
                arguments.workers,
                arguments.scheduler,
                arguments.insecure,
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
