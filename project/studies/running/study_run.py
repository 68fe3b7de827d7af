"""One run of a study: which data the runs of a process share, and what is kept of each run."""

import copy
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from distributed import get_client, get_worker
from pytorch_lightning import Callback, LightningModule, Trainer

from project.data.datamodule import ImageDataModule
from project.diagnosis.measurement.examples import probe_examples
from project.diagnosis.measurement.probe import Probe, probe
from project.errors import DivergenceError
from project.runs.build import Run, build_run
from project.runs.parser import settings_of
from project.runs.saving.contents import read_metrics, read_provenance
from project.runs.saving.provenance import origin_of
from project.runs.saving.run_folder import new_run_folder
from project.runs.settings import RunSettings
from project.runs.train import train
from project.settings import Settings, nest
from project.studies.running.cluster import REPORTS, answers
from project.studies.study import numbers_of
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


class Pruned(Exception):  # noqa: N818 - not an error: the search has seen enough
    """A search has stopped this trial."""


class EpochReport(Callback):
    """Reports each epoch's validation to the search, which says whether the trial shall go on.

    Args:
        trial: This is the trial's number.
        metric: This metric is reported.
    """

    def __init__(self, trial: int, metric: str) -> None:
        self.trial, self.metric = trial, metric
        self.answers = answers(get_client(), trial)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return  # the scoring at the end
        value = float(trainer.callback_metrics[self.metric])
        if not math.isfinite(value):
            raise Pruned
        get_worker().log_event(REPORTS, {"trial": self.trial, "epoch": trainer.current_epoch, "value": value})
        if self.answers.get():
            raise Pruned


def execute(settings: Settings, folder: Path, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Train once and return what a `RunRecord` keeps of it, as plain data.

    Args:
        settings: The run's settings by the names of their flags.
        folder: The run folder is created here.
        callbacks: The Trainer calls these besides the run's own.

    Raises:
        InputError: If a setting is wrong.
        RunError: If the run fails.
    """
    started = time.monotonic()
    # a killed worker may have left a part of this run
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
    except Pruned:
        return {"status": "pruned"}
    except DivergenceError:
        results, status = read_metrics(folder), "diverged"
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
        **_answers(run),
        "origin": origin_of(read_provenance(folder)),
        "folder": str(folder),
    }


def _answers(run: Run) -> dict[str, Any]:
    """Which test examples the run classified correctly: a claim can then be about new examples too."""
    if not run.metrics or not run.module.spec.class_names or run.module.evaluated is None:
        return {}
    outputs, targets = run.module.evaluated  # of the test set, which is scored last
    answers = (outputs[:, 0] > 0).long() if outputs.shape[1] == 1 else outputs.argmax(dim=1)
    correct = (answers == targets).numpy()
    return {"correct": np.packbits(correct).tobytes().hex(), "num_test": len(correct)}


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
