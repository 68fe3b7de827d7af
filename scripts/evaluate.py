"""Score a trained network on a split of its data: python scripts/evaluate.py RUN [--split test|validation|train]"""

import json
from pathlib import Path

from project import startup  # noqa: F401 - before what takes time
from project.data.settings import SplitName
from project.runs.command import run_command
from project.runs.parser import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("run", type=Path, help="Run folder, or a checkpoint inside one.")
    parser.add_argument("--split", type=SplitName, default="test", help="The split to score.")
    parser.add_argument("--data_root", type=Path | None, default=None, help="Folder of the data, if they have moved.")
    parser.add_argument("--accelerator", type=str, default="auto", help="cpu, gpu, or auto.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object and nothing else.")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    arguments = parser.parse_args()
    # imported late: help and refusals do not wait for torch
    from project.pages import terminal
    from project.runs.tables import class_table, confusion_table, results_table
    from project.serving.evaluation import evaluate
    from project.serving.restore import restore
    from project.settings import finite

    run = restore(arguments.run, arguments.data_root)
    metrics = evaluate(run, arguments.split, arguments.accelerator)
    if arguments.json:
        print(json.dumps(finite(metrics), allow_nan=False))
        return
    console, split = terminal(), arguments.split
    console.print(f"{run.checkpoint} on the {split} split of {run.datamodule.settings.dataset}", soft_wrap=True)
    console.print(results_table(metrics, (split,)))
    if f"{split}/accuracy_interval" in metrics:
        low, high = metrics[f"{split}/accuracy_interval"]
        console.print(
            f"accuracy {metrics[f'{split}/accuracy']:.2%}, 95 % interval {low:.2%} to {high:.2%}", style="bold"
        )
        console.print(class_table(metrics, split))
        console.print(confusion_table(metrics, split, console))


if __name__ == "__main__":
    run_command(main)
