"""Predict pictures with a trained network: python scripts/predict.py RUN IMAGE… [--top 3] [--format table|json|csv]"""

import sys
from pathlib import Path

from project import startup  # noqa: F401 - before what takes time
from project.errors import check_text
from project.runs.command import run_command
from project.runs.parser import Parser
from project.serving.predict import OutputFormat, Polarity, Preparation


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("run", type=Path, help="Run folder, or a checkpoint inside one.")
    parser.add_argument(
        "images",
        type=str,
        nargs="+",
        help="Picture files, folders, patterns, IDX files (plain or gzipped), or - for one picture on standard input.",
    )
    parser.add_argument("--top", type=int, default=3, help="How many of the most probable classes to show.")
    parser.add_argument("--format", type=OutputFormat, default="table", help="How the predictions are printed.")
    parser.add_argument(
        "--polarity",
        type=Polarity,
        default="auto",
        help="auto inverts pictures that are dark on light, if the run's data are MNIST or one like it; as_is inverts "
        "no picture; invert inverts every picture.",
    )
    parser.add_argument(
        "--prepare",
        type=Preparation,
        default="auto",
        help="Which pictures are prepared as MNIST's digits were: uneven light removed, ink found, strokes brought to "
        "the usual width, all centered. auto prepares those that do not have the network's size, if the run's data are "
        "MNIST or EMNIST.",
    )
    parser.add_argument(
        "--figure",
        type=Path | None,
        default=None,
        help="File for a picture of what was given beside what the network saw, of the first 60.",
    )
    parser.add_argument("--batch_size", type=int, default=256, help="Maximum number of pictures in one forward pass.")
    parser.add_argument(
        "--num_threads",
        type=int | None,
        default=None,
        help="Number of threads that read files; if not given, the sizes of the files decide.",
    )
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    arguments = parser.parse_args()
    if arguments.figure is not None:
        check_text("figure", str(arguments.figure), "seen.png")
    # imported late: help and refusals do not wait for torch
    from project.pages import save_picture, terminal
    from project.serving.predict.picture_reader import PictureReader, find_files
    from project.serving.predict.predict import predict_files, print_predictions
    from project.serving.predict.sheet import Shown, kept, sheet
    from project.serving.restore import restore

    files = find_files(arguments.images)
    run = restore(arguments.run)
    polarity = run.polarity if arguments.polarity == "auto" else arguments.polarity
    spec = run.module.spec
    preparation = run.preparation if arguments.prepare == "auto" else arguments.prepare
    reader = PictureReader(spec.height, spec.width, polarity, preparation, sys.stdin.buffer, spec.channels)
    shown: list[Shown] = []
    batches = predict_files(run, files, reader, arguments.top, arguments.batch_size, arguments.num_threads)
    console = terminal(stderr=True)
    if arguments.polarity == "auto" and polarity == "as_is":
        console.print(
            "pictures stay as they are: whether this run's data are dark on light is not known (see --polarity)"
        )
    if arguments.figure:
        batches = kept(batches, shown)
    failures = print_predictions(batches, len(files), arguments.format, sys.stdout, console)
    if arguments.figure:
        save_picture(sheet(shown), arguments.figure)
        console.print(f"picture: {arguments.figure}", soft_wrap=True)
    return 1 if failures else 0


if __name__ == "__main__":
    run_command(main)
