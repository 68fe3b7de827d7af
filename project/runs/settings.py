"""All settings of a run, as the command line, a file of settings or a notebook gives them."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import yaml

from project.data.settings import DataSettings
from project.diagnosis.observers import DiagnosticsSettings
from project.errors import InputError, check_at_least, printable
from project.settings import check_given, did_you_mean, plain
from project.task import score_name
from project.training.settings import ModelSettings


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
    patience: int = 10
    diagnostics: DiagnosticsSettings = field(default_factory=DiagnosticsSettings)
    explain: bool = False
    explain_seconds: float = 60.0
    debug: bool = False

    def __post_init__(self) -> None:
        check_given("", self)
        if not 0 <= self.seed_everything < 2**32:
            raise InputError(
                f"seed_everything is {self.seed_everything}, but must be from 0 to {2**32 - 1}",
                "type for example --seed_everything 1",
            )
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
        check_run_name(self.run_name)
        if not self.run_root:
            raise InputError("run_root is empty", "type for example --run_root runs, or leave it out")
        check_at_least("patience", self.patience, 0, "10")
        check_at_least("explain_seconds", self.explain_seconds, 10, "60")
        if self.explain and self.trainer.get("fast_dev_run"):
            raise InputError(
                "explain tries changes of a whole run, but trainer.fast_dev_run cuts it to a few batches",
                "leave out one of the two",
            )
        check_at_least("checkpoint_every_n_steps", self.checkpoint_every_n_steps, 1, "100, or leave it out")

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
    """Raise an `InputError` if a run's name is no plain name of a folder, or has characters that nobody sees."""
    if name is None:
        return
    if name in ("", ".", "..") or name != name.strip() or re.search(r"[/\\]", name):
        raise InputError(f"run_name {name!r} is no plain folder name", "type for example --run_name first")
    if printable(name) != name:
        raise InputError(f"run_name {name!r} has a character that cannot be seen", "type for example --run_name first")


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
