"""One run of a study: which data the runs of a process share, and what is kept of each run."""

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
from project.diagnosis.measurement.examples import probe_examples
from project.diagnosis.measurement.probe import Probe, probe
from project.errors import DivergenceError
from project.runs.build import build_run
from project.runs.parser import settings_of
from project.runs.saving.files import read_json
from project.runs.saving.provenance import origin_of
from project.runs.saving.run_folder import new_run_folder
from project.runs.settings import RunSettings
from project.runs.train import train
from project.settings import Settings, nest
from project.studies.claims import naming
from project.studies.study import Range, Study, numbers_of
from project.training.module import ImageModule

LAYER_NUMBERS: tuple[str, ...] = ("pre_activation_sd", "activation_sd", "saturated_fraction", "dead_fraction")
LAYER_NUMBERS += ("pre_activation_gradient_norm", "weight_gradient_norm")
"""These numbers of each layer are kept, from before and after training."""
SPLIT_SETTINGS = ("num_train", "num_validation", "split_seed", "classes")

_loaded: dict[tuple[Any, ...], ImageDataModule] = {}
"""The data that this process has loaded, by the settings that decide them: its runs share them."""


def shared_datamodule(settings: RunSettings) -> ImageDataModule:
    """The data that the settings describe; whatever an earlier run of this process has prepared alike is used again."""
    datamodule = ImageDataModule(settings.data, task=settings.model.task, seed=settings.seed_everything)
    key = settings.data.source_key
    if key in _loaded:
        earlier = _loaded[key]
        ours, theirs = datamodule.settings, earlier.settings
        datamodule.data = earlier.data
        same_splits = all(getattr(ours, name) == getattr(theirs, name) for name in SPLIT_SETTINGS)
        same_noise = ours.label_noise == theirs.label_noise and (same_splits or not ours.label_noise)
        if (ours.classes, datamodule.task) == (theirs.classes, earlier.task) and same_noise:
            datamodule.resident = earlier.resident
        if same_splits:
            datamodule.splits = earlier.splits
            if ours.normalization == theirs.normalization:
                # a copy becomes part of this run's network; Lightning warns of parts that are not in training mode
                datamodule.normalization = copy.deepcopy(earlier.normalization).train()
    _loaded[key] = datamodule
    return datamodule


def check_settings(study: Study) -> None:
    """Refuse a study with a wrong setting in any of its arms before anything runs.

    Raises:
        InputError: If a setting is wrong; the cause names the arm.
    """
    points: Sequence[Settings] = study.tuning.points if study.tuning else [{}]
    if study.search is not None:
        spaces = study.search.spaces
        ends = [(s.low, s.high) if isinstance(s, Range) else (s[0], s[-1]) for s in spaces.values()]
        points = [dict(zip(spaces, values, strict=True)) for values in zip(*ends, strict=True)]
    first = next(iter(study.arms))
    # the points are the same for all arms: one arm is enough to check them all
    for arm, point in [*((arm, points[0]) for arm in study.arms), *((first, point) for point in points[1:])]:
        with naming(f"study {study.name}, arm {arm}"):
            settings_of(nest(study.settings(arm, 0) | point))


class EpochReport(Callback):
    """Reports each epoch's validation to a search, and ends a trial that is worse than the median of the others."""

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
        settings: The run's settings by the names of their flags.
        folder: The run folder is created here.
        callbacks: The Trainer calls these besides the run's own.

    Raises:
        InputError: If a setting is wrong.
        RunError: If the run fails.
        Interrupted: If a signal asked the run to stop.
    """
    started = time.monotonic()
    # a killed worker may have left a part of this run; no other worker has it: the storage gave it to this one
    shutil.rmtree(folder, ignore_errors=True)
    new_run_folder(folder.parent.parent, folder.parent.name, folder.name)
    checked = settings_of(nest(settings))
    run = build_run(checked, datamodule=shared_datamodule(checked), folder=folder)
    run.trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    module, examples = run.module, probe_examples(run.module, run.datamodule)
    probes = {"start": _look_inside(module, examples)}
    try:
        results = train(run)
        status = results["status"]
    except DivergenceError:
        results, status = read_json(folder / "metrics.json"), "diverged"
    if not all(math.isfinite(value) for record in module.history for value in record.values()):
        status = "diverged"
    probes["end"] = _look_inside(module, examples)
    metrics = numbers_of(results)
    if module.history:
        metrics |= {name: value for name, value in module.history[-1].items() if name.startswith("train/")}
    for name, sign in (("accuracy", 1), ("loss", -1)):
        if {f"train/{name}", f"test/{name}"} <= metrics.keys():
            metrics[f"{name}_gap"] = sign * (metrics[f"train/{name}"] - metrics[f"test/{name}"])
    for when, measured in probes.items():
        metrics |= {f"{when}/{name}": value for name, value in numbers_of(_summary(measured)).items()}
    metrics["seconds"] = time.monotonic() - started
    return {
        "status": status,
        "metrics": metrics,
        "history": module.history,
        "layers": {when: _layers(measured) for when, measured in probes.items()},
        "num_classes": len(module.spec.class_names),
        "origin": origin_of(read_json(folder / "provenance.json")),
        "folder": str(folder),
    }


def _look_inside(module: ImageModule, examples: tuple[Any, Any]) -> Probe:
    inputs, targets = (tensor.to(module.device) for tensor in examples)
    return probe(module.network, inputs, targets, module.loss, with_effective_rank=False)


def _layers(measured: Probe) -> list[dict[str, Any]]:
    layers = measured.to_dict()
    names = ("name", *LAYER_NUMBERS)
    return [{name: layer[name] for name in names} for layer in (*layers["hidden"], layers["output"])]


def _summary(measured: Probe) -> dict[str, float | None]:
    """A network's state as single numbers, which claims can be about."""
    numbers: dict[str, float | None] = {"probe_loss": measured.loss}
    if measured.hidden:
        for name in ("dead_fraction", "saturated_fraction"):
            numbers[name] = fmean(getattr(layer, name) for layer in measured.hidden)
    return numbers | {"gradient_ratio": measured.gradient_ratio}
