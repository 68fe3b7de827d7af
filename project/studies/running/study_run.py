"""One run of a study: what runs of one process share, and what is kept of each."""

import copy
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from pytorch_lightning import Callback, LightningModule, Trainer

from project.data.datamodule import ImageDataModule
from project.diagnosis.examples import probe_examples
from project.diagnosis.probe import Probe, probe
from project.errors import DivergenceError, InputError
from project.runs.build import build_run
from project.runs.parser import settings_of
from project.runs.saving.files import read_json
from project.runs.saving.provenance import origin_of
from project.runs.saving.run_folder import new_run_folder
from project.runs.settings import RunSettings
from project.runs.train import train
from project.settings import Settings, nest
from project.studies.study import Range, Study
from project.training.module import ImageModule

LAYER_NUMBERS = (
    "pre_activation_sd",
    "activation_sd",
    "saturated_fraction",
    "dead_fraction",
    "pre_activation_gradient_norm",
    "weight_gradient_norm",
)
"""What is kept of each layer, before and after training."""


_loaded: dict[tuple[str, str], ImageDataModule] = {}
"""The data that this process has loaded, by data set and root: its runs share them."""


def shared_datamodule(settings: RunSettings) -> ImageDataModule:
    """The data that the settings describe, with what an earlier run of this process has loaded of them."""
    datamodule = ImageDataModule(settings.data, task=settings.model.task, seed=settings.seed_everything)
    key = (settings.data.dataset, settings.data.root)
    if key in _loaded:
        _take_over(datamodule, _loaded[key])
    _loaded[key] = datamodule
    return datamodule


def _take_over(datamodule: ImageDataModule, other: ImageDataModule) -> None:
    """Take over what another one has loaded, split, fitted and moved to the device, as far as it is the same."""
    ours, theirs = datamodule.settings, other.settings
    datamodule.data = other.data
    if (ours.classes, datamodule.task) == (theirs.classes, other.task):
        datamodule.resident = other.resident
    cut = ("num_train", "num_validation", "split_seed", "classes")
    if all(getattr(ours, name) == getattr(theirs, name) for name in cut):
        datamodule.splits = other.splits
        if ours.normalization == theirs.normalization:
            # it becomes a part of another network, and Lightning wonders at parts that are not in training mode
            datamodule.normalization = copy.deepcopy(other.normalization).train()


def check_settings(study: Study) -> None:
    """Refuse a study one of whose arms has a setting that does not exist, before anything runs.

    Raises:
        InputError: With the arm's name.
    """
    points: Sequence[Settings] = study.tuning.points if study.tuning else [{}]
    if study.search is not None:
        lows = {key: space.low if isinstance(space, Range) else space[0] for key, space in study.search.spaces.items()}
        highs = {
            key: space.high if isinstance(space, Range) else space[-1] for key, space in study.search.spaces.items()
        }
        points = [lows, highs]
    first = next(iter(study.arms))
    # the points are the same for all arms: one arm is enough to check them all
    for arm, point in [*((arm, points[0]) for arm in study.arms), *((first, point) for point in points[1:])]:
        try:
            settings_of(nest(study.settings(arm, 0) | point))
        except InputError as error:
            raise InputError(f"study {study.name}, arm {arm}: {error.cause}", error.remedy) from None


class EpochReport(Callback):
    """Tell a search what validation found after each epoch; stop what is worse than its like.

    Args:
        trial: Of the search.
        metric: Of validation.
    """

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self.trial, self.metric = trial, metric

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return  # the scoring at the end
        value = float(trainer.callback_metrics[self.metric])
        if not math.isfinite(value):
            raise optuna.TrialPruned
        self.trial.report(value, trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def execute(settings: Settings, folder: Path, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Train once and return what a `RunRecord` keeps of it, as plain data.

    Args:
        settings: By their flags' names.
        folder: The run folder to be made.
        callbacks: Beside the run's own.

    Raises:
        InputError: If a setting is wrong.
        RunError: If the run fails.
        Interrupted: If a signal asked for it.
    """
    started = time.monotonic()
    # what a killed worker left of the same run; the study's claim is the lock
    shutil.rmtree(folder, ignore_errors=True)
    new_run_folder(folder.parent.parent, folder.parent.name, folder.name)
    checked = settings_of(nest(settings))
    run = build_run(checked, datamodule=shared_datamodule(checked), folder=folder)
    run.trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    examples = probe_examples(run.module, run.datamodule)
    first = _look_inside(run.module, examples)
    try:
        results, status = train(run), ""
    except DivergenceError:
        results, status = read_json(folder / "metrics.json"), "diverged"
    module, history = run.module, run.module.history
    if not all(math.isfinite(value) for record in history for value in record.values()):
        status = "diverged"
    last = _look_inside(module, examples)
    metrics = {name: float(value) for name, value in results.items() if _is_finite_number(value)}
    if history:
        metrics |= {name: value for name, value in history[-1].items() if name.startswith("train/")}
    for name in ("accuracy", "loss"):
        if {f"train/{name}", f"test/{name}"} <= metrics.keys():
            gap = metrics[f"train/{name}"] - metrics[f"test/{name}"]
            metrics[f"{name}_gap"] = gap if name == "accuracy" else -gap
    for when, measured in (("start", first), ("end", last)):
        metrics |= {f"{when}/{name}": value for name, value in _summary(measured).items() if math.isfinite(value)}
    metrics["seconds"] = time.monotonic() - started
    return {
        "status": status or results["status"],
        "metrics": metrics,
        "history": history,
        "layers": {"start": _layers(first), "end": _layers(last)},
        "num_classes": len(module.spec.class_names),
        "origin": origin_of(read_json(folder / "provenance.json")),
        "folder": str(folder),
    }


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _look_inside(module: ImageModule, examples: tuple[Any, Any]) -> Probe:
    inputs, targets = (tensor.to(module.device) for tensor in examples)
    return probe(module.mlp, inputs, targets, module.loss, with_effective_rank=False)


def _layers(measured: Probe) -> list[dict[str, Any]]:
    kept = measured.to_dict()
    return [
        {"name": layer["name"]} | {number: layer[number] for number in LAYER_NUMBERS}
        for layer in (*kept["hidden"], kept["output"])
    ]


def _summary(measured: Probe) -> dict[str, float]:
    """A network's state as single numbers that claims can be about."""
    numbers = {"probe_loss": measured.loss}
    if measured.hidden:
        numbers["dead_fraction"] = fmean(layer.dead_fraction for layer in measured.hidden)
        numbers["saturated_fraction"] = fmean(layer.saturated_fraction for layer in measured.hidden)
    if measured.gradient_ratio is not None:
        numbers["gradient_ratio"] = measured.gradient_ratio
    return numbers
