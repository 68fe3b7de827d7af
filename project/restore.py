"""A trained network and its data settings from a run folder, read as data: nothing in it is imported or run."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project.checkpointing import load_checkpoint
from project.cli import add_settings
from project.datamodule import DataSpec, ImageDataModule
from project.errors import InputError
from project.module import MLPModule
from project.parser import Parser
from project.run_folder import find_run_folder, read_yaml
from project.transforms import Normalization

log = logging.getLogger("project")


@dataclass(frozen=True)
class RestoredRun:
    """What a run folder holds.

    Args:
        folder: The run folder.
        checkpoint: The checkpoint that the weights are from.
        module: With the trained weights and the training split's normalization.
        datamodule: With the run's data settings; the data themselves are loaded when first asked for.
        precision: The Trainer's precision, or None for its default.
    """

    folder: Path
    checkpoint: Path
    module: MLPModule
    datamodule: ImageDataModule
    precision: Any


def settings_parser() -> Parser:
    """A parser of the settings that a model and its data have, and of nothing else: no class can be named."""
    parser = Parser()
    add_settings(parser)
    parser.add_argument("--seed_everything", type=int, default=0)
    return parser


def read_settings(folder: Path) -> dict[str, Any]:
    """The model's and the data's settings of a run, checked, with `seed_everything`.

    Raises:
        InputError: If config.yaml is missing, unreadable, or holds a setting that does not exist.
    """
    config = read_yaml(folder / "config.yaml")
    known = {name: config.get(name, {}) for name in ("model", "data")}
    for name, section in known.items():
        if not isinstance(section, dict):
            raise InputError(
                f"{folder / 'config.yaml'}: {name} must be a mapping", "restore the file that the run wrote"
            )
    settings = settings_parser().parse_object({**known, "seed_everything": config.get("seed_everything", 0)})
    return dict(settings.as_dict())


def restore(path: Path, data_root: Path | None = None) -> RestoredRun:
    """Rebuild a run's network and data settings.

    Args:
        path: A run folder (its best checkpoint is taken, or else its last), or a checkpoint inside one.
        data_root: Where the data are now, if not where they were.

    Raises:
        InputError: If there is no run, no checkpoint, or the two do not fit together.
    """
    folder = find_run_folder(path)
    checkpoint_path = path
    if not path.is_file():
        candidates = [folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
        existing = [candidate for candidate in candidates if candidate.is_file()]
        if not existing:
            raise InputError(f"{folder} has no checkpoint yet", "train it first, or name another run")
        checkpoint_path = existing[0]
    settings, checkpoint = read_settings(folder), load_checkpoint(checkpoint_path)
    if data_root is not None:
        settings["data"]["root"] = str(data_root)
    model, state = settings["model"], checkpoint["state_dict"]
    try:
        spec = DataSpec(**checkpoint["spec"])
        normalization = Normalization(state["normalization.shift"].clone(), state["normalization.scale"].clone())
        module = MLPModule(spec, normalization, **model)
        module.load_state_dict(state)
    except InputError:
        raise
    except Exception as error:
        last = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{checkpoint_path} does not fit the settings in {folder / 'config.yaml'}: {last}",
            "use a checkpoint and a config.yaml of the same run",
        ) from None
    datamodule = ImageDataModule(**settings["data"], task=model["task"], seed=settings["seed_everything"])
    trainer_settings = read_yaml(folder / "config.yaml").get("trainer")
    precision = trainer_settings.get("precision") if isinstance(trainer_settings, dict) else None
    return RestoredRun(folder, checkpoint_path, module, datamodule, precision)
