"""A trained network and its data settings from a run folder, read as data: no code in it is imported or run."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from project.data.datamodule import ImageDataModule
from project.data.loaders import EVALUATION_BATCH
from project.data.normalization import Normalization
from project.data.settings import DataSettings
from project.errors import InputError
from project.runs.parser import model_and_data_parser
from project.runs.saving.checkpointing import load_checkpoint
from project.runs.saving.files import read_json, read_yaml
from project.runs.saving.run_folder import find_run_folder
from project.serving.predict import Polarity
from project.serving.predict.image_files import fit_image, read_image
from project.task import DataSpec, probabilities
from project.training.module import ImageModule
from project.training.settings import ModelSettings


@dataclass(frozen=True)
class RestoredRun:
    """What a run folder holds.

    Args:
        folder: The run folder.
        checkpoint: The checkpoint that the weights are from.
        module: The module with the trained weights and the training split's normalization.
        datamodule: The data module with the run's data settings; the data are loaded at their first use.
        precision: The Trainer's precision, or None for its default.
    """

    folder: Path
    checkpoint: Path
    module: ImageModule
    datamodule: ImageDataModule
    precision: Any

    @property
    def model(self) -> ImageModule:
        """The network, for use: gray levels 0–255 (batch, height, width), uint8 or float, to logits (batch, outputs).

        Its first step is the training split's normalization, so the pictures need no other preparation.
        """
        return self.module.eval()

    @property
    def normalization(self) -> Normalization:
        """Fitted on the training split, the first step of `model`."""
        return self.module.normalization

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names in the order of the outputs; empty for regression."""
        return self.module.spec.class_names

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json says, by its names; empty for a run that has not ended.

        Raises:
            InputError: If the file is damaged.
        """
        return read_json(self.folder / "metrics.json")

    @property
    def polarity(self) -> Polarity:
        """How pictures from outside become like the run's own: auto where those are known to be light on dark.

        MNIST and FashionMNIST are light on dark. Of a user's own data this is not known, and pictures stay as they are.
        """
        return "as_is" if self.datamodule.settings.dataset == "idx" else "auto"

    def read(self, source: str | Path | BinaryIO, polarity: Polarity | None = None, center: bool = False) -> Tensor:
        """Read a picture file as the network takes it, uint8 (height, width).

        Args:
            source: The file's name, or an open binary file; the picture has any size, in colour or gray.
            polarity: What happens to the gray levels (see `fit_image`); the run's own if None.
            center: Whether to scale and center the ink as MNIST's was.

        Raises:
            InputError: If it is not a picture, or is damaged.
        """
        spec, image = self.module.spec, read_image(source)
        return fit_image(image, spec.height, spec.width, polarity or self.polarity, center)[0]

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities, float32 (n, classes); for regression the values in the target's unit, (n,).

        They are computed in the precision of the weights, float32, even if the training's was another.

        Args:
            images: Gray levels 0–255, uint8 or float, (n, height, width), or one picture (height, width).

        Raises:
            InputError: If the pictures do not have the network's size.
        """
        spec, model = self.module.spec, self.model
        batch = images[None] if images.ndim == 2 else images
        if batch.ndim != 3 or tuple(batch.shape[1:]) != (spec.height, spec.width):
            raise InputError(
                f"the pictures' shape is {tuple(images.shape)}, but the network takes (n, {spec.height}, {spec.width})",
                "read them with the run's read(), or fit them with project.serving.predict.image_files.fit_image",
            )
        parts = [model(part.to(model.device)).cpu() for part in torch.split(batch, EVALUATION_BATCH)]
        outputs = torch.cat(parts)
        if spec.task == "regression":
            return spec.in_target_unit(outputs[:, 0])
        return probabilities(outputs, spec.task)


def read_settings(folder: Path) -> tuple[ModelSettings, DataSettings, int]:
    """The model's and the data's settings of a run, checked, and `seed_everything`.

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
    parsed = model_and_data_parser().parse_object({**known, "seed_everything": config.get("seed_everything", 0)})
    settings = parsed.as_dict()
    return ModelSettings(**settings["model"]), DataSettings(**settings["data"]), settings["seed_everything"]


def restore(path: str | Path, data_root: Path | None = None) -> RestoredRun:
    """Rebuild a run's network and data settings.

    Args:
        path: A run folder (its best checkpoint is taken, or else its last), or a checkpoint inside one.
        data_root: The folder where the data are now, if they have moved; a prediction does not need them.

    Raises:
        InputError: If there is no run, no checkpoint, or the two do not fit together.
    """
    path = Path(path)
    folder = find_run_folder(path)
    checkpoint_path = path
    if not path.is_file():
        candidates = [folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
        existing = [candidate for candidate in candidates if candidate.is_file()]
        if not existing:
            raise InputError(f"{folder} has no checkpoint yet", "train it first, or name another run")
        checkpoint_path = existing[0]
    (model, data, seed), checkpoint = read_settings(folder), load_checkpoint(checkpoint_path)
    if data_root is not None:
        data = replace(data, root=str(data_root))
    state = checkpoint["state_dict"]
    try:
        spec = DataSpec(**checkpoint["spec"])
        normalization = Normalization(state["normalization.shift"].clone(), state["normalization.scale"].clone())
        module = ImageModule(spec, normalization, model)
        module.load_state_dict(state)
    except InputError:
        raise
    except Exception as error:
        last = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{checkpoint_path} does not fit the settings in {folder / 'config.yaml'}: {last}",
            "use a checkpoint and a config.yaml of the same run",
        ) from None
    datamodule = ImageDataModule(data, task=model.task, seed=seed)
    trainer_settings = read_yaml(folder / "config.yaml").get("trainer")
    precision = trainer_settings.get("precision") if isinstance(trainer_settings, dict) else None
    return RestoredRun(folder, checkpoint_path, module, datamodule, precision)
