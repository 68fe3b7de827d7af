"""A trained network and its data settings from a run folder, read as data: no code in it is imported or run."""

from collections.abc import Mapping
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
from project.data.sources.picture_files import read_image
from project.data.sources.table import SOURCES
from project.errors import InputError
from project.extensions import check_extensions
from project.runs.parser import model_and_data_parser
from project.runs.saving.checkpointing import load_checkpoint, load_familiarity
from project.runs.saving.contents import check_spec, read_metrics, read_provenance
from project.runs.saving.files import read_yaml
from project.runs.saving.run_folder import find_run_folder
from project.runs.tables import Described, run_facts
from project.serving.predict import Polarity, Preparation
from project.serving.predict.image_files import fit_image, is_prepared
from project.task import DataSpec, probabilities
from project.training.callbacks import FINISHED
from project.training.familiarity import Familiarity, num_units
from project.training.module import ImageModule
from project.training.settings import ModelSettings


@dataclass(frozen=True, repr=False)
class RestoredRun(Described):
    """What a run folder contains.

    Args:
        folder: The run folder.
        checkpoint: The checkpoint that the weights are from.
        module: The module with the trained weights and the training split's normalization.
        datamodule: The data module with the run's data settings; the data are loaded when they are first used.
        trainer: The Trainer's settings, as the run saved them.
    """

    folder: Path
    checkpoint: Path
    module: ImageModule
    datamodule: ImageDataModule
    trainer: Mapping[str, Any]

    def facts(self) -> dict[str, str]:
        verdict = str(self.metrics.get("verdict", "not finished"))
        return run_facts(self.module, self.datamodule.settings.dataset, self.folder, verdict)

    @property
    def model(self) -> ImageModule:
        """The network, ready to use: levels 0–255 (batch, height, width), uint8 or float, to (batch, outputs).

        Pictures of several channels are (batch, height, width, channels).
        Its first step is the training split's normalization, so the pictures need no other preparation.
        """
        return self.module.eval()

    @property
    def normalization(self) -> Normalization:
        """The first step of `model`, fitted on the training split."""
        return self.module.normalization

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names in the order of the outputs; empty for regression."""
        return self.module.spec.class_names

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json; empty for a run that has not ended.

        Raises:
            InputError: If the file is damaged.
        """
        return read_metrics(self.folder)

    @property
    def polarity(self) -> Polarity:
        """How other pictures are brought to the polarity of the run's own; unknown for the user's own data: as_is."""
        return SOURCES[self.datamodule.settings.dataset].polarity

    @property
    def preparation(self) -> Preparation:
        """Whether other pictures' ink is prepared as that of the run's own was: auto for MNIST and EMNIST."""
        return "auto" if SOURCES[self.datamodule.settings.dataset].centers_ink else "never"

    @property
    def is_scored(self) -> bool:
        """Whether what the run wrote at its end is about this checkpoint: the best one, or the last if it kept none."""
        is_kept = self.checkpoint.name == "best.ckpt" or not self.checkpoint.with_name("best.ckpt").exists()
        return is_kept and self.metrics.get("status") in FINISHED

    @cached_property
    def familiarity(self) -> Familiarity | None:
        """What training pictures look like to the network; None if the run has not saved it for this checkpoint.

        Raises:
            InputError: If the file is damaged.
        """
        return load_familiarity(self.folder, num_units(self.module)) if self.is_scored else None

    def read(
        self,
        source: str | Path | BinaryIO,
        polarity: Polarity | None = None,
        preparation: Preparation | None = None,
    ) -> Tensor:
        """Read a picture file as the network takes it, uint8 (height, width), or in colour (height, width, 3).

        Args:
            source: The file's name, or an open binary file; the picture has any size, in colour or gray.
            polarity: What happens to the gray levels (see `fit_image`); the run's own polarity if None.
            preparation: Whether its ink is prepared as MNIST's was (see `fit_image`); the run's own way if None.

        Raises:
            InputError: If it is not a picture, is damaged, or has another number of channels than the network takes.
        """
        spec = self.module.spec
        image = read_image(source, spec.channels)
        prepare = is_prepared(image, spec.shape, preparation or self.preparation)
        fitted, _ = fit_image(image, spec.height, spec.width, polarity or self.polarity, prepare)
        return fitted

    @torch.inference_mode()
    def unlike(self, images: Tensor) -> Tensor | None:
        """Whether each picture is unlike anything that the network was trained on, bool (n,); None if it is not known.

        1 in 20 pictures like those of the validation set is called unlike them too.

        Args:
            images: Levels 0–255, uint8 or float, (n, height, width) or (n, height, width, channels).
        """
        if self.familiarity is None:
            return None
        parts = [self.familiarity.distances(self.module.eval(), part) for part in torch.split(images, EVALUATION_BATCH)]
        return torch.cat(parts) > self.familiarity.limit

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities, float32 (n, classes); for regression the values in the target's unit, (n,).

        They are computed in the precision of the weights, float32, even if the training's was another.

        Args:
            images: Levels 0–255, uint8 or float, (n, height, width) or (n, height, width, channels), or one picture.

        Raises:
            InputError: If the pictures do not have the network's size.
        """
        spec, model = self.module.spec, self.model
        batch = images[None] if images.ndim == len(spec.shape) else images
        if tuple(batch.shape[1:]) != spec.shape:
            expected = ", ".join(map(str, spec.shape))
            raise InputError(
                f"the pictures' shape is {tuple(images.shape)}, but the network takes (n, {expected})",
                "read them with the run's read(), or fit them with project.serving.predict.image_files.fit_image",
            )
        parts = [model(part.to(model.device)).cpu() for part in torch.split(batch, EVALUATION_BATCH)]
        return answers(torch.cat(parts), spec)


def answers(outputs: Tensor, spec: DataSpec) -> Tensor:
    """What a network's outputs, (n, outputs), mean: probabilities (n, classes), or values in the target's unit (n,)."""
    if spec.task == "regression":
        return spec.in_target_unit(outputs[:, 0])
    return probabilities(outputs, spec.task)


def restore(path: str | Path, data_root: Path | None = None) -> RestoredRun:
    """Rebuild a run's network and data settings.

    Args:
        path: A run folder (its best checkpoint is taken, or else its last), or a checkpoint inside one.
        data_root: The folder where the data are now, if they have moved; a prediction does not need them. Data that are
            missing are fetched into it, and nowhere else.

    Raises:
        InputError: If there is no run or no checkpoint, if config.yaml is missing or wrong, or if the checkpoint and
            the settings do not fit together.
    """
    path = Path(path)
    folder = find_run_folder(path)
    candidates = [path] if path.is_file() else [folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    checkpoint_path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if checkpoint_path is None:
        raise InputError(f"{folder} has no checkpoint yet", "train it first, or name another run")
    check_extensions(folder, read_provenance(folder), exactly=False)
    config = read_yaml(folder / "config.yaml")
    known = {"seed_everything": config.get("seed_everything", 0)}
    for name in ("model", "data"):
        known[name] = config.get(name, {})
        if not isinstance(known[name], dict):
            raise InputError(
                f"{folder / 'config.yaml'}: {name} must be a mapping", "restore the file that the run wrote"
            )
    settings = model_and_data_parser().parse_object(known).as_dict()
    model, data = ModelSettings(**settings["model"]), DataSettings(**settings["data"])
    # a stranger's settings do not decide where something is written
    data = replace(data, download=False) if data_root is None else replace(data, root=str(data_root))
    checkpoint = load_checkpoint(checkpoint_path, folder)
    check_spec(checkpoint_path, checkpoint["spec"])
    try:
        module = ImageModule.rebuild(model, checkpoint["spec"], checkpoint["state_dict"])
    except InputError:
        raise
    except Exception as error:  # what a foreign checkpoint contains may raise anything
        last = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{checkpoint_path} does not fit the settings in {folder / 'config.yaml'}: {last}",
            "use a checkpoint and a config.yaml of the same run",
        ) from None
    datamodule = ImageDataModule(data, task=model.task, seed=settings["seed_everything"])
    trainer = config.get("trainer")
    return RestoredRun(folder, checkpoint_path, module, datamodule, trainer if isinstance(trainer, dict) else {})
