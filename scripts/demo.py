"""Draw, and watch networks answer, on a web page of this machine: python scripts/demo.py RUN [RUN …] [--port 7860]"""

from pathlib import Path

from project import startup  # noqa: F401 - before what takes time
from project.errors import InputError
from project.runs.command import run_command
from project.runs.parser import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "runs", type=Path, nargs="+", help="Run folders, or checkpoints inside them; they are shown side by side."
    )
    parser.add_argument("--port", type=int, default=7860, help="Port to listen on; 0 takes any free one.")
    parser.add_argument(
        "--host", type=str, default="127.0.0.1", help="Address to listen on; only this machine can reach the default."
    )
    parser.add_argument("--data_root", type=Path | None, default=None, help="Folder of the data, if they have moved.")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    arguments = parser.parse_args()
    if arguments.data_root is not None and not arguments.data_root.exists():
        raise InputError(
            f"{arguments.data_root} does not exist", "name the folder of the data, or leave --data_root out"
        )
    # imported late: help and refusals do not wait for torch
    from project.serving.demo.app import load_contenders, serving, wait

    with serving(load_contenders(arguments.runs, arguments.data_root), arguments.host, arguments.port) as address:
        print(f"{address}   Ctrl-C ends it", flush=True)
        wait()


if __name__ == "__main__":
    run_command(main)
