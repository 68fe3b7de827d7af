"""The one parser: settings from defaults, configuration files and flags, and the objects that they describe."""

import argparse
import difflib
import logging
import os
import shutil
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from project.data.datamodule import ImageDataModule
from project.diagnosis.observers import DiagnosticsSettings, Observers, build_observers
from project.errors import InputError
from project.runs.command import is_first_process
from project.runs.parser import TrainerHelp, TrainParser, config_files
from project.runs.saving.checkpointing import PlainCheckpointIO, RunCheckpoint
from project.runs.saving.files import read_yaml
from project.runs.saving.resumption import (
    FinishedRunError,
    Resumption,
    check_same_data,
    find_resumption,
    resumed_settings,
)
from project.runs.saving.run_folder import lock_run_folder, new_run_folder
from project.runs.saving.signals import MAIN_PROCESS
from project.runs.trainer_checks import check_limits, check_trainer_settings, explain_trainer_error
from project.settings import flat_settings
from project.task import score_name
from project.training.callbacks import EarlyStop, EpochLog, NoProfiler, ProgressBar
from project.training.module import MLPModule

log = logging.getLogger("project")

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 15,
    "devices": 1,
    # the loaders shard by themselves, without padding
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}


class CLI(LightningCLI):
    """Settings, and what they describe: `trainer`, `model`, `datamodule` and the run folder.

    Args:
        args: Command-line flags, or settings as a dict; None takes the command line.
        description: First line of the help.
        run_name: Name of the run's folder below run_root and the data set's name; time and a random id if not given.
    """

    def __init__(self, args: Sequence[str] | dict[str, Any] | None = None, description: str = "") -> None:
        self.run_folder: Path | None = None
        self.epoch_log = EpochLog()
        self.observers: Observers | None = None
        self.checkpoint: RunCheckpoint | None = None
        self.resumption: Resumption | None = None
        super().__init__(
            MLPModule,
            ImageDataModule,
            run=False,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_class=TrainParser,
            parser_kwargs={"description": description, "dump_header": []},
            args=list(args) if isinstance(args, Sequence) else args,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything", type=int, default=0, help="Seed of weights, batch order, dropout and augmentation."
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        add_settings(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_name",
            type=str | None,
            default=None,
            help="Name of this run's folder; time and a random id if not given.",
        )
        parser.add_argument(
            "--run_root", type=str, default="runs", help="Folder of all runs: RUN_ROOT/DATASET/RUN_NAME."
        )
        parser.add_argument(
            "--resume",
            type=str | None,
            default=None,
            help="Go on with this run, in its folder and with its settings; auto, with run_name: start the run, or go "
            "on with it if it is there.",
        )
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int | None,
            default=None,
            help="Save the run every so many steps too, not only after each epoch.",
        )
        parser.add_argument(
            "--monitor",
            type=str | None,
            default=None,
            help="What decides the best epoch and early stopping: validation/accuracy (regression: validation/rmse), "
            "the usual choice; validation/loss, or the same of train/.",
        )
        parser.add_argument(
            "--patience",
            type=int,
            default=10,
            help="Epochs without improvement after which training stops; 0 never stops early.",
        )
        parser.add_class_arguments(DiagnosticsSettings, "diagnostics", instantiate=False)
        parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
        parser.add_argument("--help.trainer", action=TrainerHelp, help=argparse.SUPPRESS)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Lightning warns where flags are passed as a list while sys.argv has some: here that is how it is called
        if isinstance(args, dict):
            self.config = parser.parse_object(args)
            return
        given = list(sys.argv[1:] if args is None else args)
        for path in config_files(given):
            read_yaml(path)  # says what is wrong with which file, which the parser does not
        self.config = parser.parse_args(given)
        folder = self._folder_to_resume()
        if folder is not None:
            try:
                self.resumption = find_resumption(folder)
                given_settings = parser.parse_args(given, defaults=False)
                self.config = resumed_settings(parser, self.resumption, given_settings)
            except FinishedRunError as finished:
                if self.config["resume"] != "auto":
                    raise
                parser.exit(0, f"{finished.cause}\n{finished.remedy}\n")  # a job that was queued once too often

    def _folder_to_resume(self) -> Path | None:
        """The run folder that --resume means, None if a new run is to be started."""
        resume, name = self.config["resume"], self.config["run_name"]
        if resume is None:
            return None
        if resume != "auto":
            if name is not None:
                raise InputError("--resume names the run already", "leave --run_name out, or type --resume auto")
            folder = Path(resume)
            if not (folder / "config.yaml").is_file():
                raise InputError(
                    f"{folder} is no run folder: it has no config.yaml", "name a folder RUN_ROOT/DATASET/NAME"
                )
            return folder
        if name is None:
            raise InputError("--resume auto has to know which run", "add --run_name NAME")
        folder = Path(self.config["run_root"]) / self.config["data"]["dataset"] / name
        return folder if (folder / "config.yaml").is_file() else None

    def _set_seed(self) -> None:
        seed = self.config["seed_everything"]
        if not 0 <= seed < 2**32:
            raise InputError(
                f"seed_everything is {seed}, but must be from 0 to 4294967295", "type for example --seed_everything 1"
            )
        seed_everything(seed, workers=True, verbose=False)

    def before_instantiate_classes(self) -> None:
        config = self.config
        score = score_name(config["model"]["task"])
        known = [f"{split}/{name}" for split in ("validation", "train") for name in ("loss", score)]
        if config["monitor"] is None:
            config["monitor"] = f"validation/{score}"
        if config["monitor"] not in known:
            nearest = difflib.get_close_matches(config["monitor"], known, n=1, cutoff=0.4)
            raise InputError(
                f"monitor is {config['monitor']!r}, which this run will not measure",
                f"did you mean {nearest[0]}?" if nearest else "choose one of: " + ", ".join(known),
            )
        if not config["run_root"]:
            raise InputError("run_root is empty", "type for example --run_root runs, or leave it out")
        if config["patience"] < 0:
            raise InputError(
                f"patience is {config['patience']}, but must be 0 or more", "type for example --patience 10"
            )
        DiagnosticsSettings(**config["diagnostics"].as_dict())  # checks them
        every = config["checkpoint_every_n_steps"]
        if every is not None and every < 1:
            raise InputError(
                f"checkpoint_every_n_steps is {every}, but must be at least 1",
                "type for example --checkpoint_every_n_steps 100, or leave it out",
            )

    def instantiate_classes(self) -> None:
        self.config_init = self.parser.instantiate(self.config)
        datamodule = self.build_datamodule()
        self.datamodule: ImageDataModule = datamodule
        self.model: MLPModule = MLPModule(datamodule.spec, datamodule.normalization, **self.config["model"].as_dict())
        self.trainer: Trainer = self.instantiate_trainer()

    def build_datamodule(self) -> ImageDataModule:
        """The data that the settings describe; they are loaded when first asked for."""
        config = self.config
        return ImageDataModule(**config["data"].as_dict(), task=config["model"]["task"], seed=config["seed_everything"])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config, settings = self.config, {**self.config_init["trainer"], **kwargs}
        datamodule, validated = self.datamodule, self.datamodule.num_validation > 0
        monitor = config["monitor"]
        if not validated and monitor.startswith("validation/"):
            monitor = monitor.replace("validation/", "train/")
            log.warning("data.num_validation is 0: no validation, so %s decides the best epoch", monitor)
        mode: Literal["min", "max"] = "max" if monitor.endswith("accuracy") else "min"
        callbacks: list[Callback] = [self.epoch_log]
        if settings.get("enable_progress_bar") is not False and sys.stderr.isatty():
            callbacks.append(ProgressBar())
        else:
            settings["enable_progress_bar"] = False
        check_trainer_settings(settings, validated)
        if not validated:
            settings["limit_val_batches"] = 0
        batch_norm = config["model"]["norm"] == "batch"
        datamodule.check_batches(batch_norm=batch_norm)
        check_limits(settings, datamodule)
        quick = bool(settings.get("fast_dev_run"))
        if not quick:
            self.run_folder = self._make_run_folder()
            folder = self.run_folder
            if settings.get("logger") in (None, True):
                # what was logged after the checkpoint is logged again
                purge_step = self.resumption.step if self.resumption else None
                settings["logger"] = TensorBoardLogger(
                    str(folder.parent), name="", version=folder.name, purge_step=purge_step, default_hp_metric=False
                )
            if settings.get("logger"):
                callbacks.append(LearningRateMonitor(logging_interval="step"))
            if config["patience"]:
                # asked where its number is made: an epoch that max_steps cuts short has no validation
                at_epoch_end = monitor.startswith("train/")
                callbacks.append(
                    EarlyStop(
                        monitor=monitor,
                        mode=mode,
                        patience=config["patience"],
                        check_on_train_epoch_end=at_epoch_end,
                    )
                )
            if config["diagnostics"]["enabled"]:
                flat = flat_settings({name: value for name, value in config.as_dict().items() if name != "config"})
                self.observers = build_observers(flat, config["diagnostics"]["every_n_steps"])
                callbacks += self.observers.callbacks
            if settings.get("enable_checkpointing") is not False:
                every = config["checkpoint_every_n_steps"]
                self.checkpoint = RunCheckpoint(folder / "checkpoints", monitor, mode, every)
                callbacks.append(self.checkpoint)
                settings["plugins"] = [*_as_list(settings.get("plugins")), PlainCheckpointIO()]
        settings["profiler"] = settings.get("profiler") or NoProfiler()
        if not torch.cuda.is_available():
            # Lightning has torch look for a GPU driver on disk at every step of Adam, 65 µs each: once was enough
            os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        try:
            trainer = self._instantiate_trainer(settings, callbacks)
            # only now is it known how many processes share a batch
            datamodule.check_batches(trainer.world_size, trainer.accumulate_grad_batches, batch_norm)
        except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
            if self.run_folder is not None and self.resumption is None and is_first_process():
                shutil.rmtree(self.run_folder)
            raise error if isinstance(error, InputError) else explain_trainer_error(error) from error
        return trainer

    def _make_run_folder(self) -> Path:
        root, dataset = Path(self.config["run_root"]), self.config["data"]["dataset"]
        if self.resumption is not None:
            folder = self.resumption.folder
            check_same_data(folder, self.datamodule)
        elif not is_first_process():
            # Lightning starts a run's other processes by running the same command again
            inherited = os.environ.get("MLP_RUN_FOLDER")
            return Path(inherited) if inherited else root / dataset / (self.config["run_name"] or "other-rank")
        else:
            folder = new_run_folder(root, dataset, self.config["run_name"], auto=self.config["resume"] == "auto")
        if is_first_process():
            if not {"LOCAL_RANK", "SLURM_PROCID"} & os.environ.keys():
                # left over in the shell, where it may be in use: Lightning finds a free one for the processes it starts
                os.environ.pop("MASTER_PORT", None)
            # for as long as this object lives
            weakref.finalize(self, os.close, lock_run_folder(folder))
            os.environ["MLP_RUN_FOLDER"] = str(folder)
            os.environ[MAIN_PROCESS] = str(os.getpid())
        return folder

    def saved_config(self) -> str:
        """All settings as YAML that `--config` accepts; the name is left out, so that it starts a run of its own."""
        config = self.config.clone()
        config["run_name"] = config["resume"] = None
        return str(self.parser.dump(config, skip_unset=False))


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def add_settings(parser: LightningArgumentParser) -> None:
    """Add the model's and the data's settings: closed names and plain values, no class can be named."""
    # these come from the data, from model.task and from seed_everything
    parser.add_class_arguments(MLPModule, "model", skip={"spec", "normalization"}, instantiate=False)
    parser.add_class_arguments(ImageDataModule, "data", skip={"task", "seed"}, instantiate=False)
