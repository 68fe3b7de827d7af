"""Train a multilayer perceptron, test it, and report the results: python scripts/train.py --model.depth 3"""

from project import startup  # noqa: F401 - before what takes time
from project.errors import DivergenceError
from project.runs.command import run_command
from project.runs.parser import parse_settings


def main() -> None:
    settings = parse_settings(description=__doc__ or "")
    # imported late: help and refusals do not wait for torch
    from project.runs.build import build_run
    from project.runs.tables import print_run
    from project.runs.train import train

    run = build_run(settings)

    def explain() -> None:
        from project.studies.explain.explain import explain_run

        assert run.folder is not None
        explain_run(run.folder, settings, settings.explain_seconds)

    try:
        metrics = train(run)
    except DivergenceError:
        if settings.explain:
            explain()
        raise
    if metrics:
        print_run(metrics, run.folder, settings.run_root)
        if settings.explain:
            explain()


if __name__ == "__main__":
    run_command(main)
