"""Score a trained network on one split, with an interval for its accuracy."""

from typing import Any

from pytorch_lightning import Trainer
from scipy.stats import binomtest

from project.data.settings import SplitName
from project.errors import InputError
from project.runs.trainer_checks import SETUP_ERRORS, VALUE_ERRORS, explain_trainer_error
from project.serving.restore import RestoredRun
from project.training.internals import quieten_lightning


def evaluate(run: RestoredRun, split: SplitName = "test", accelerator: str = "auto") -> dict[str, Any]:
    """Score one split of a run's data.

    Args:
        run: The trained network and its data.
        split: The split to score; the training split is scored without augmentation.
        accelerator: The Trainer's accelerator.

    Returns:
        The split's metrics by the names of metrics.json, and for classification SPLIT/accuracy_interval [low, high]
        (see `accuracy_interval`), which covers the sampling of the examples, not the variation between trainings.

    Raises:
        InputError: If the run has no such split, or the machine no such accelerator.
    """
    if split == "validation" and not run.datamodule.settings.is_validated:
        raise InputError(
            "this run has no validation split: data.num_validation is 0", "type --split test or --split train"
        )
    run.datamodule.scored_split = split
    quieten_lightning()
    quiet: dict[str, Any] = dict.fromkeys(
        ("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    precision = run.trainer.get("precision")
    try:
        trainer = Trainer(accelerator=accelerator, devices=1, precision=precision, logger=False, **quiet)
    except (*SETUP_ERRORS, *VALUE_ERRORS) as error:
        raise explain_trainer_error(error) from error
    trainer.test(run.module, datamodule=run.datamodule, verbose=False)
    metrics: dict[str, Any] = {f"{split}/loss": float(trainer.callback_metrics["test/loss"])}
    metrics |= {f"{split}/{name}": value for name, value in run.module.metrics().items()}
    if run.module.task != "regression":
        total = len(run.datamodule.splits[split])
        correct = round(metrics[f"{split}/accuracy"] * total)
        metrics[f"{split}/accuracy_interval"] = list(accuracy_interval(correct, total))
    return metrics


def accuracy_interval(num_correct: int, num_examples: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy (Wilson 1927), low and high."""
    interval = binomtest(num_correct, num_examples).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def scored_metrics(run: RestoredRun) -> dict[str, Any]:
    """The content of metrics.json, if it is about the run's checkpoint; otherwise empty.

    A training that has ended has scored its best checkpoint, or its last one if it kept no best one.
    """
    return run.metrics if run.is_scored else {}
