"""Train a multilayer perceptron, test it, and say what happened: python scripts/train.py --model.depth 3"""

from project.runs.cli import CLI
from project.runs.command import run_command
from project.runs.tables import print_run
from project.runs.train import train


def main() -> None:
    cli = CLI(description=__doc__ or "")
    metrics = train(cli)
    if metrics:
        print_run(metrics, cli.run_folder, cli.config["run_root"])


if __name__ == "__main__":
    run_command(main)
