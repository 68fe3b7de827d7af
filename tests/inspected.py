"""A small run with diagnostics and TensorBoard, put together by hand, so that a test can look into each part."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from project.data.datamodule import ImageDataModule
from project.data.settings import DataSettings
from project.diagnosis.monitor import DiagnosticsCallback
from project.diagnosis.tensorboard.callback import TensorBoardCallback
from project.settings import flatten
from project.training.internals import prepare_logger
from project.training.module import ImageModule
from project.training.settings import ModelSettings

MODEL: dict[str, Any] = {
    "task": "multiclass",
    "depth": 2,
    "width": 16,
    "activation": "relu",
    "norm": "batch",
    "dropout": 0.2,
    "loss": "auto",
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "schedule": "constant",
}
DATA: dict[str, Any] = {"dataset": "idx", "num_validation": 40, "batch_size": 32, "augmentation": "shift"}


@dataclass
class Run:
    """The parts of a run, before or after it."""

    trainer: Trainer
    module: ImageModule
    datamodule: ImageDataModule
    diagnostics: DiagnosticsCallback
    folder: Path

    def fit(self, checkpoint: Path | None = None) -> "Run":
        self.trainer.fit(self.module, datamodule=self.datamodule, ckpt_path=checkpoint, weights_only=True)
        return self

    def test(self) -> "Run":
        self.trainer.test(self.module, datamodule=self.datamodule, verbose=False)
        return self

    def events(self) -> EventAccumulator:
        """All that TensorBoard finds in the run folder."""
        self.trainer.logger.experiment.flush()
        found = EventAccumulator(
            str(self.folder), size_guidance=dict.fromkeys(("scalars", "images", "tensors", "histograms"), 0)
        )
        return found.Reload()


def build(
    data_folder: Path,
    folder: Path,
    *,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    every_n_steps: int = 3,
    diagnosed: bool = True,
    callbacks: tuple[Callback, ...] = (),
    **trainer: Any,
) -> Run:
    """A run of 2 epochs of 6 steps that goes into `folder`."""
    model, data = MODEL | (model or {}), DATA | {"root": str(data_folder)} | (data or {})
    seed_everything(1, verbose=False)
    datamodule = ImageDataModule(DataSettings(**data), task=model["task"], seed=1)
    module = ImageModule(datamodule.spec, datamodule.normalization, ModelSettings(**model))
    settings = flatten({"model": model, "data": data, "trainer": {"max_epochs": 2}, "seed_everything": 1})
    diagnostics = DiagnosticsCallback(settings, every_n_steps)
    inspecting = [diagnostics, TensorBoardCallback(settings, diagnostics)] if diagnosed else []
    options: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": 1,
        "logger": TensorBoardLogger(str(folder.parent), name="", version=folder.name),
        "use_distributed_sampler": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    options |= trainer
    if options["logger"]:
        prepare_logger(options["logger"], None)
    engine = Trainer(**options, callbacks=[*inspecting, *callbacks])
    return Run(engine, module, datamodule, diagnostics, folder)
