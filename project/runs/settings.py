"""All settings of a run, as the command line, a file of settings or a notebook gives them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import yaml

from project.data.settings import DataSettings
from project.diagnosis.observers import DiagnosticsSettings
from project.errors import MAX_NUMBER, MAX_SEED, InputError, check_in_range, check_text
from project.settings import check_given, did_you_mean, plain
from project.task import score_name
from project.threads import MAX_THREADS
from project.training.settings import ModelSettings

MAX_EXPLAIN_S = 1_000_000
"""The longest time, in seconds, that --explain may take: eleven days."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What decides a run.

    Args:
        seed_everything: Seed of weights, batch order, dropout and augmentation.
        trainer: Arguments of Lightning's Trainer by their names; what is left out keeps its default. In their texts,
            {run_folder} stands for the run's folder.
        model: The network, its loss and its optimizer.
        data: The data and their splits.
        run_name: Name of this run's folder; time and a short random id if not given.
        run_root: Folder of all runs: RUN_ROOT/DATASET/RUN_NAME.
        resume: Go on with this run, in its folder and with its settings; auto, with run_name: start the run, or go on
            with it if it is there.
        checkpoint_every_n_steps: Save the run every so many steps too, not only after each epoch.
        monitor: What decides the best epoch and early stopping: validation/accuracy (regression: validation/rmse), the
            usual choice; validation/loss, or the same of train/.
        threads: Threads of each process on the CPU, which decide the last digits; auto suits network and machine.
        patience: Epochs without improvement after which training stops; 0 never stops early.
        diagnostics: What is measured and drawn beside the training.
        explain: Afterwards try changes of the settings in short trials, and say what each is worth.
        explain_seconds: Seconds that --explain may take.
        debug: Show the traceback of an error.

    Raises:
        InputError: If a setting is out of range, or two settings contradict each other.
    """

    seed_everything: int = 0
    trainer: Mapping[str, Any] = field(default_factory=dict)
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    run_name: str | None = None
    run_root: str = "runs"
    resume: str | None = None
    checkpoint_every_n_steps: int | None = None
    monitor: str | None = None
    threads: int | Literal["auto"] = "auto"
    patience: int = 10
    diagnostics: DiagnosticsSettings = field(default_factory=DiagnosticsSettings)
    explain: bool = False
    explain_seconds: float = 60.0
    debug: bool = False

    def __post_init__(self) -> None:
        check_given("", self)
        check_in_range("seed_everything", self.seed_everything, 0, "1", MAX_SEED)
        self.data.check_task(self.model.task)
        score = score_name(self.model.task)
        known = [f"{split}/{name}" for split in ("validation", "train") for name in ("loss", score)]
        if self.monitor is None:
            object.__setattr__(self, "monitor", f"validation/{score}")  # frozen: nobody else sets it
        if self.monitor not in known:
            raise InputError(
                f"monitor is {self.monitor!r}, which this run will not measure",
                f"{did_you_mean(self.monitor, known)}Choices: {', '.join(known)}",
            )
        check_text("run_root", self.run_root, "runs, or leave it out")
        check_text("resume", self.resume, "runs/fashion_mnist/NAME")
        check_run_name(self.run_name)
        if self.threads != "auto":
            check_in_range("threads", self.threads, 1, "2", MAX_THREADS)
        check_in_range("patience", self.patience, 0, "10")
        check_in_range("explain_seconds", self.explain_seconds, 10, "60", MAX_EXPLAIN_S)
        if self.explain and self.trainer.get("fast_dev_run"):
            raise InputError(
                "explain tries changes of a whole run, but trainer.fast_dev_run cuts it to a few batches",
                "leave out one of the two",
            )
        check_in_range("checkpoint_every_n_steps", self.checkpoint_every_n_steps, 1, "100, or leave it out")
        if self.checkpoint_every_n_steps and self.trainer.get("enable_checkpointing") is False:
            raise InputError(
                f"checkpoint_every_n_steps is {self.checkpoint_every_n_steps}, but trainer.enable_checkpointing is "
                "false, so that nothing is saved",
                "leave out one of the two",
            )
        for name, value in self.trainer.items():
            check_text(f"trainer.{name}", value, "VALUE, or leave it out")
            if isinstance(value, int | float):
                check_in_range(f"trainer.{name}", value, -MAX_NUMBER, "10, or leave it out")

    @property
    def watched(self) -> str:
        """The value that decides the best epoch: `monitor`, or the same of train/ where there is no validation."""
        assert self.monitor is not None
        return self.monitor if self.data.is_validated else self.monitor.replace("validation/", "train/")

    def as_dict(self) -> dict[str, Any]:
        """All settings as nested plain data, section by section."""
        return asdict(self)

    def as_yaml(self) -> str:
        """All settings as YAML that `--config` accepts. A new run has a name of its own."""
        content = self.as_dict() | {"run_name": None, "resume": None, "explain": False}
        return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def check_run_name(name: str | None) -> None:
    """Refuse a run's name that is not the name of one folder that a person can read and type.

    Raises:
        InputError: If the name has a separator, a control character, or a blank at one of its ends.
    """
    check_text("run_name", name, "first")
    if name is not None and (name in (".", "..") or {"/", "\\"} & set(name)):
        raise InputError(f"run_name {name!r} is no plain folder name", "type for example --run_name first")


def settings_from(sections: Mapping[str, Any]) -> RunSettings:
    """Make settings from nested plain data whose names and types a parser has checked.

    Args:
        sections: As `RunSettings.as_dict` gives them; what is none of the settings is left out.

    Raises:
        InputError: If a setting is out of range, or two settings contradict each other.
    """
    made = {"model": ModelSettings, "data": DataSettings, "diagnostics": DiagnosticsSettings}
    known = {setting.name: sections[setting.name] for setting in fields(RunSettings) if setting.name in sections}
    # the Trainer's can be classes with arguments of any type, but a run folder holds data alone
    for name in (*made, "trainer"):
        if not isinstance(known.get(name, {}), Mapping):
            raise InputError(f"{name} is a group of settings, not a setting", "type for example --model.depth 3")
    known |= {"trainer": plain(known["trainer"])} if "trainer" in known else {}
    return RunSettings(**{name: made[name](**value) if name in made else value for name, value in known.items()})
