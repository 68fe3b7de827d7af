"""Going on with a run: its settings as data, what may change, the checkpoint to start from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from project.data.datamodule import ImageDataModule
from project.errors import InputError, check_in_range
from project.extensions import check_extensions
from project.network.optimization.optimizers import OPTIMIZERS
from project.runs.saving.checkpointing import newest_checkpoint
from project.runs.saving.contents import read_metrics, read_provenance
from project.runs.saving.files import read_yaml
from project.threads import MAX_THREADS

MAY_CHANGE = {
    "trainer.max_epochs": "to train longer; schedules that end with the training stretch to the new end",
    "patience": "to go on after early stopping",
    "checkpoint_every_n_steps": "",
    "trainer.accelerator": "placement",
    "trainer.devices": "placement; another number of processes adds in another order, so the last digits differ",
    "trainer.num_nodes": "placement, likewise",
    "trainer.strategy": "placement",
    "trainer.max_time": "to go on after the limit on time",
    "data.root": "where the data are; their contents are compared",
    "data.download": "",
    "trainer.logger": "logging",
    "trainer.log_every_n_steps": "logging",
    "trainer.enable_progress_bar": "logging",
    "trainer.enable_model_summary": "logging",
    "trainer.profiler": "logging",
    "trainer.default_root_dir": "logging",
    "diagnostics.enabled": "logging; what was measured before stays",
    "diagnostics.every_n_steps": "logging",
    "run_root": "",
    "explain": "",
    "explain_seconds": "",
    "debug": "",
}
"""Settings that may differ from the run's when it is resumed, and why; all others decide the result."""
GROUPS = ("model", "data", "diagnostics", "trainer")
NEVER_SAVED = ("config", "resume", "run_name")
"""Flags that say what to do now, not what the run is."""
TRAINER_TEXTS = ("accelerator", "strategy", "devices", "precision", "gradient_clip_algorithm", "max_time", "profiler")
"""The Trainer's settings that can be a text without naming a class."""


@dataclass(frozen=True)
class Resumption:
    """A run to go on with.

    Args:
        folder: Its folder.
        checkpoint: Where it goes on, or None if it was never saved and starts over.
        step: Optimizer steps done up to that checkpoint.
        epochs: Epochs done up to that checkpoint.
        metrics: Its metrics.json so far, empty if there is none.
        threads: The threads of each of its processes, or None if nothing says how many.
    """

    folder: Path
    checkpoint: Path | None
    step: int
    epochs: int
    metrics: dict[str, Any]
    threads: int | None


def find_resumption(folder: Path) -> Resumption:
    """Look into a run folder for where to go on.

    Raises:
        InputError: If the run diverged, or has checkpoints but none that can be read.
    """
    origin = read_provenance(folder)
    check_extensions(folder, origin, exactly=True)
    metrics = read_metrics(folder)
    if metrics.get("status") == "diverged":
        raise InputError(
            f"{folder} diverged, and would again at the same step",
            "start a new run with a smaller --model.learning_rate",
        )
    threads = origin.get("hardware", {}).get("torch_threads")
    check_in_range("torch_threads", threads, 1, "", MAX_THREADS, f"restore {folder / 'provenance.json'}")
    newest = newest_checkpoint(folder)
    if newest is None:
        return Resumption(folder, None, 0, 0, metrics, threads)
    path, checkpoint = newest
    step, history = checkpoint.get("global_step"), checkpoint.get("history")
    if not isinstance(step, int) or not isinstance(history, list):
        raise InputError(f"{path} does not say how far the run was", "use another checkpoint of this run")
    _check_states(path, checkpoint, plain_settings(folder / "config.yaml")[0])
    return Resumption(folder, path, step, len(history), metrics, threads)


def _check_states(path: Path, checkpoint: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Check that a checkpoint has the states without which a run would go on otherwise: Lightning says nothing of them.

    Raises:
        InputError: If the state of the optimizer, the schedule or a callback is missing.
    """
    callbacks = ["RunCheckpoint"]
    if settings.get("patience"):
        callbacks.append("EarlyStop")
    if settings.get("diagnostics", {}).get("enabled", True):
        callbacks += ["DiagnosticsCallback", "TensorBoardCallback"]
    saved = checkpoint.get("callbacks", {})
    missing = [name for name in callbacks if not any(key.startswith(name) for key in saved)]
    optimizers = checkpoint.get("optimizer_states") or [{}]
    row = OPTIMIZERS.get(str(settings.get("model", {}).get("optimizer")))
    remembers = row is not None and (row.adaptive or (row.uses_momentum and settings["model"].get("momentum") != 0))
    if not optimizers[0].get("param_groups") or (remembers and not optimizers[0].get("state")):
        missing.append("the optimizer")
    if not checkpoint.get("lr_schedulers"):
        missing.append("the schedule")
    if missing:
        raise InputError(
            f"{path} has no state of {', '.join(missing)}: the run would go on otherwise than it was",
            "use previous.ckpt in the place of last.ckpt; if an early version wrote them, start a new run with "
            f"--config {path.parents[1] / 'config.yaml'}",
        )


class FinishedRunError(InputError):
    """The run to resume has nothing left to do."""


def resumed_settings(parser: ArgumentParser, run: Resumption, given: Namespace) -> Namespace:
    """The run's settings, with those on the command line that may change.

    Args:
        parser: Of all settings.
        run: The run to go on with.
        given: The settings on the command line and in `--config` files, without defaults.

    Raises:
        InputError: If a setting differs that may not, or config.yaml holds more than plain data.
        FinishedRunError: If the run is finished, and the settings do not ask for more.
    """
    new = {name: value for name, value in _settings(given).items() if name not in NEVER_SAVED}
    saved, closed = plain_settings(run.folder / "config.yaml")
    for name in closed:
        if name not in new:
            raise InputError(
                f"{run.folder / 'config.yaml'} names a class in {name}, and run folders are read as data alone",
                f"give --{name} again as when the run was started",
            )
    config: Namespace = parser.parse_object(saved)
    old = _settings(config)
    # the run's number is what auto meant when it was started
    new = {name: v for name, v in new.items() if not (v == "auto" and isinstance(old.get(name), float))}
    refused = {
        name: value
        for name, value in new.items()
        if name not in MAY_CHANGE and name not in closed and value != old.get(name)
    }
    if refused:
        rows = "; ".join(f"{name} is {old.get(name)} in the run, {value} now" for name, value in refused.items())
        raise InputError(
            f"{run.folder} has other settings: {rows}",
            "leave them out to go on with the run's, or start a new run; may change: " + ", ".join(MAY_CHANGE),
        )
    for name, value in new.items():
        config[name] = value
    _check_length(run, config, old)
    return config


def _check_length(run: Resumption, config: Namespace, old: dict[str, Any]) -> None:
    status, epochs = run.metrics.get("status"), run.epochs
    max_epochs, patience = config["trainer"]["max_epochs"], config["patience"]
    for name, value in {"trainer.max_epochs": max_epochs, "patience": patience}.items():
        if not isinstance(value, int):
            raise InputError(f"{name} is {value}, but must be a whole number", f"type for example --{name} 15")
    more = {
        "completed": None if max_epochs > epochs else f"--trainer.max_epochs {2 * epochs}",
        "out_of_time": None if _has_time(config, old) else f"--trainer.max_epochs {max_epochs} --trainer.max_time null",
        "early_stopped": None if patience > old["patience"] or not patience else f"--patience {2 * patience}",
    }.get(str(status))
    if more:
        raise FinishedRunError(
            f"{run.folder} is finished ({status} after {epochs} epochs): there is nothing to resume",
            f"to train it longer: --resume {run.folder} {more}",
        )
    if 0 <= max_epochs < epochs:
        raise InputError(
            f"trainer.max_epochs is {max_epochs}, but {epochs} epochs are done already",
            f"type --trainer.max_epochs {epochs + 1} or more, or leave it out",
        )


def _has_time(config: Namespace, old: dict[str, Any]) -> bool:
    """Whether the limit on time is no longer what it was; callbacks, and with them a Timer, are always typed anew."""
    return config["trainer"]["max_time"] != old["trainer.max_time"] or bool(config["trainer"]["callbacks"])


def _settings(config: Namespace) -> dict[str, Any]:
    """Settings by their flags' names: `model.depth`; what lies below, such as a class's arguments, stays together."""
    flat: dict[str, Any] = {}
    for name, value in vars(config).items():
        if isinstance(value, Namespace):
            flat |= {f"{name}.{key}": item for key, item in vars(value).items()}
        else:
            flat[name] = value
    return flat


def plain_settings(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What a run's config.yaml holds, and the names of the settings that name code, which are left out.

    The Trainer's settings can be classes, which a parser imports to check them: what could name one never reaches it.
    The model's and the data's are numbers, texts and closed lists of names.
    """
    settings: dict[str, Any] = {}
    closed: list[str] = []
    for section, value in read_yaml(path).items():
        if section in NEVER_SAVED:
            continue
        if section in GROUPS and not isinstance(value, Mapping):
            raise InputError(f"{path}: {section} must be a mapping", "restore the file that the run wrote")
        if not isinstance(value, Mapping):
            settings[section] = value
            continue
        settings[section] = {}
        for name, item in value.items():
            if section != "trainer" or _is_plain(item, name in TRAINER_TEXTS):
                settings[section][name] = item
            elif name != "default_root_dir":
                closed.append(f"{section}.{name}")
    return settings, closed


def _is_plain(value: Any, may_be_text: bool) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item, may_be_text) and not isinstance(item, list) for item in value)
    if isinstance(value, str):
        return may_be_text and re.fullmatch(r"[\w:,-]*", value) is not None
    return value is None or isinstance(value, bool | int | float)


def check_same_data(folder: Path, datamodule: ImageDataModule) -> None:
    """Check that the data are those that the run began with.

    Raises:
        InputError: If their contents or the splits differ.
    """
    data = read_provenance(folder).get("data")
    if not isinstance(data, dict):
        raise InputError(f"{folder / 'provenance.json'} does not say what the data were", "start a new run")
    now = {"sha256": datamodule.data.sha256, "split_sha256": datamodule.split_sha256}
    if any(data.get(name) != value for name, value in now.items()):
        raise InputError(
            f"the data under {datamodule.settings.root} are not those that {folder} was trained with",
            "name the right ones by --data.root, or start a new run",
        )
