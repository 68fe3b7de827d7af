"""Write a trained network as one file: python scripts/export.py RUN --to onnx|torch_export|safetensors"""

from pathlib import Path

from project import startup  # noqa: F401 - before what takes time
from project.data.settings import SplitName
from project.runs.command import run_command
from project.runs.parser import Parser
from project.serving.export import FormatName, PrecisionName


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("run", type=Path, help="Run folder, or a checkpoint inside one.")
    parser.add_argument("--to", type=FormatName, required=True, help="The file's format.")
    parser.add_argument(
        "--output", type=Path | None, default=None, help="File, or folder for it; RUN/export by default."
    )
    parser.add_argument(
        "--precision",
        type=PrecisionName,
        default="float32",
        help="Precision in which the file computes; its answers are float32.",
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace a file that is there already.")
    parser.add_argument("--split", type=SplitName, default="test", help="Split whose pictures the file is checked on.")
    parser.add_argument("--data_root", type=Path | None, default=None, help="Folder of the data, if they have moved.")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    arguments = parser.parse_args()
    # imported late: help and refusals do not wait for torch
    from project.pages import terminal
    from project.serving.export.export import export
    from project.serving.restore import restore

    run = restore(arguments.run, arguments.data_root)
    exported = export(run, arguments.to, arguments.output, arguments.split, arguments.overwrite, arguments.precision)
    console = terminal()
    console.print(f"file         {exported.path!s} ({exported.path.stat().st_size:,} bytes)", soft_wrap=True)
    console.print(f"model card   {exported.card!s}", soft_wrap=True)
    console.print(f"checked      {exported.check}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
