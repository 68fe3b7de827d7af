"""Which changes are tried: what the findings name, every setting back to its default, and a few usual experiments."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Literal

from project.data.settings import DataSettings
from project.errors import InputError
from project.network.norms import is_normed
from project.network.optimization.optimizers import resolved_numbers
from project.plain_data import DataError, parse_yaml
from project.runs.parser import TRAINER_DEFAULTS, trainer_settings
from project.runs.settings import RunSettings, settings_from
from project.settings import Settings, flatten, nest
from project.training.settings import ModelSettings

Kind = Literal["suspect", "back", "together", "rate", "other", "longer"]
"""suspect: a finding's remedy; back: to the default; together: several of those; rate: another learning rate; other: a
usual experiment; longer: it trains longer or on more examples, which nearly always helps a little."""

# fmt: off
BACK_SETTINGS = (
    *(f"model.{field.name}" for field in fields(ModelSettings) if field.name not in ("task", "compile")),
    "data.normalization", "data.augmentation", "data.batch_size", "patience", "monitor",
    *(f"trainer.{name}" for name in (
        "max_steps", "max_time", "min_epochs", "min_steps", "limit_train_batches", "overfit_batches",
        "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "precision",
        "check_val_every_n_epoch", "val_check_interval",
    )),
)
# fmt: on
"""Settings that are put back to their default. What is learned, from which examples and with which seed is not here."""
LONGER_SETTINGS = ("trainer.max_epochs", "data.num_train")
CHANGEABLE = (*BACK_SETTINGS, *LONGER_SETTINGS)
SAME_AS_NONE = {
    "trainer.precision": ("32", "32-true", 32),
    "trainer.gradient_clip_val": (0,),
    "trainer.accumulate_grad_batches": (1,),
    "trainer.limit_train_batches": (1.0,),
    "trainer.val_check_interval": (1.0,),
}
"""Values that mean the same as a default of None."""
OPTIMIZER_NUMBERS = ("model.learning_rate", "model.momentum", "model.weight_decay")
TOGETHER = {
    "model.optimizer": OPTIMIZER_NUMBERS,
    "model.activation": ("model.activation_parameter", "model.init"),
    "model.depth": ("model.width",),
}
"""What goes back to its default with a setting, because it suits nothing else; of depth, a list of widths alone."""
SHAPE = ("model.network", "model.depth", "model.width", "model.activation", "model.norm")
"""What makes another network of it: whoever chose one may want to keep it."""
FEW_STEPS = 1000
"""Optimizer steps below which smaller batches are tried."""


@dataclass(frozen=True)
class Candidate:
    """One change, of one setting or of several.

    Args:
        kind: Where it comes from.
        changes: New values of settings by their flags' names.
        parts: The single changes of which it consists; empty if it cannot be divided.
    """

    kind: Kind
    changes: Settings
    parts: tuple[Settings, ...] = ()


def key(changes: Settings) -> str:
    """The same text for the same changes; 0 and 0.0 are the same."""
    same = {name: float(value) if type(value) is int else value for name, value in changes.items()}
    return json.dumps(same, sort_keys=True)


def keeps_network(changes: Settings) -> bool:
    """Whether the network stays as it is: its layers, their activation and their norm."""
    return not set(changes) & set(SHAPE)


def num_changes(changes: Settings) -> int:
    """How much a set of changes asks of the user: one for each, two for another network; what goes along is free."""
    free = {name for name in changes for name in TOGETHER.get(name, ())}
    return sum(2 if name in SHAPE else 1 for name in changes if name not in free)


def suited_numbers(settings: Settings) -> Settings:
    """Learning rate, momentum and weight decay that suit the run's own optimizer and loss."""
    normed = is_normed(settings["model.norm"], settings["model.depth"])
    numbers = resolved_numbers(
        settings["model.optimizer"], loss=settings["model.loss"], task=settings["model.task"], normed=normed
    )
    return dict(zip(OPTIMIZER_NUMBERS, numbers, strict=True))


def defaults_for(settings: Settings) -> Settings:
    """The project's defaults for what this run learns, by their flags' names."""
    data = DataSettings(classes=settings["data.classes"], target=settings["data.target"])
    defaults = RunSettings(model=ModelSettings(task=settings["model.task"]), data=data)
    # -1 is no plain constant in Lightning's source
    plain = trainer_settings() | {"max_steps": -1} | TRAINER_DEFAULTS
    trainer = {f"trainer.{name}": value for name, value in plain.items()}
    return flatten(defaults.as_dict()) | trainer


def merge(settings: Settings, *changes: Settings) -> Settings:
    """Several changes as one, the later ones over the earlier, without what the run has already."""
    merged: Settings = {}
    for change in changes:
        merged |= change
    return {name: value for name, value in merged.items() if not _same(name, settings.get(name), value)}


def candidates(settings: Settings, remedies: Iterable[Sequence[str]], num_steps: int) -> list[Candidate]:
    """What is tried for a run, the suspects first; no candidate equals the run's own settings, and none comes twice.

    Args:
        settings: All of the run's settings, by their flags' names.
        remedies: The flags of each finding's remedy, the most severe finding first.
        num_steps: The run's optimizer steps.
    """
    defaults = defaults_for(settings)
    alone = put_back(settings, defaults)
    # another optimizer brings its own numbers, which those of the old one must not replace
    replaced = settings["model.optimizer"] != defaults["model.optimizer"]
    back = [change for change in alone if not (replaced and set(change) <= set(OPTIMIZER_NUMBERS))]
    keeping = [change for change in back if not set(change) & set(SHAPE)]
    found = [
        *_suspects(remedies),
        Candidate("together", merge(settings, *back), tuple(back)),
        Candidate("together", merge(settings, *keeping), tuple(keeping)),
        *(Candidate("back", change) for change in alone),
        *learning_rates(settings),
        *_others(settings, defaults, num_steps),
        *(Candidate("longer", change) for change in _longer(settings)),
    ]
    unique: dict[str, Candidate] = {}
    for candidate in found:
        changes = merge(settings, candidate.changes)
        if changes and set(changes) <= set(CHANGEABLE) and _is_valid(settings | changes):
            kind: Kind = "longer" if set(changes) & set(LONGER_SETTINGS) else candidate.kind
            unique.setdefault(key(changes), Candidate(kind, changes, candidate.parts))
    return list(unique.values())


def put_back(settings: Settings, defaults: Settings) -> list[Settings]:
    """Every setting that differs from its default put back, each with what goes along with it.

    The default of the optimizer's numbers is what suits the run's own optimizer.
    """
    found: list[Settings] = []
    wanted = defaults | suited_numbers(settings)
    for name in BACK_SETTINGS:
        if name not in settings or name not in wanted or _same(name, settings[name], wanted[name]):
            continue
        along = TOGETHER.get(name, ())
        if name == "model.depth" and not isinstance(settings["model.width"], list):
            along = ()
        found.append(merge(settings, {name: wanted[name]} | {other: defaults[other] for other in along}))
    numbers = merge(settings, suited_numbers(settings))
    return [*found, *([numbers] if len(numbers) > 1 else [])]


def learning_rates(settings: Settings) -> list[Candidate]:
    """The learning rate times 1/10, 1/3, 3 and 10."""
    rate = settings["model.learning_rate"]
    factors = (1 / 10, 1 / 3, 3, 10)
    return [Candidate("rate", {"model.learning_rate": float(f"{rate * factor:.2g}")}) for factor in factors]


def _others(settings: Settings, defaults: Settings, num_steps: int) -> list[Candidate]:
    dropout, decay, batch = (settings[name] for name in ("model.dropout", "model.weight_decay", "data.batch_size"))
    changes: list[Settings] = [{"model.dropout": 0.0}, {"model.weight_decay": 0.0}, {"data.augmentation": None}]
    if dropout < 0.5:
        changes.append({"model.dropout": min(0.5, max(0.2, 2 * dropout))})
    changes.append({"model.weight_decay": 10 * decay or defaults["model.weight_decay"]})
    if num_steps < FEW_STEPS and batch >= 64:
        changes.append({"data.batch_size": batch // 4})
    return [Candidate("other", change) for change in changes]


def _longer(settings: Settings) -> list[Settings]:
    epochs = settings.get("trainer.max_epochs")
    more = [{"trainer.max_epochs": 2 * epochs}] if isinstance(epochs, int) and epochs > 0 else []
    return [*more, {"data.num_train": None}]


def _suspects(remedies: Iterable[Sequence[str]]) -> list[Candidate]:
    """Each finding's flags alone and together, then the flags of all findings, of which an earlier one wins."""
    found, everything = list[Candidate](), Settings()
    for flags in remedies:
        parts = [change for flag in flags for change in [_flag_as_change(flag)] if change]
        together = {name: value for part in parts for name, value in part.items()}
        found += [Candidate("suspect", part) for part in parts]
        found.append(Candidate("suspect", together, tuple(parts)))
        everything = together | everything
    shortened = {name: value for name, value in everything.items() if name not in LONGER_SETTINGS}
    parts = [{name: value} for name, value in shortened.items()]
    return [*found, Candidate("suspect", shortened, tuple(parts))]


def _flag_as_change(flag: str) -> Settings:
    """`--model.norm batch` as settings; nothing for what is no flag with a value."""
    name, _, text = flag.removeprefix("--").partition(" ")
    if not flag.startswith("--") or not text:
        return {}
    try:
        return {name: int(text) if text.lstrip("-").isdigit() else float(text)}
    except ValueError:
        # a run's remedies may be a stranger's: a class that one names would be imported
        is_plain = not name.startswith("trainer.") or re.fullmatch(r"[\w:,-]*", text)
        with suppress(DataError):
            return {name: parse_yaml(text)} if is_plain else {}
        return {}


def _same(name: str, one: Any, other: Any) -> bool:
    usual = (None, *SAME_AS_NONE.get(name, ()))
    return one == other or (name in SAME_AS_NONE and one in usual and other in usual)


def _is_valid(settings: Mapping[str, Any]) -> bool:
    try:
        settings_from(nest(dict(settings)))
    except InputError:
        return False
    return True


def short_words(changes: Settings) -> str:
    """Some changes as briefly as a table needs them: weight_decay 0, dropout 0.5."""
    return ", ".join(f"{name.rpartition('.')[2]} {shown_value(name, value)}" for name, value in changes.items())


def typed_value(value: Any) -> str:
    """A value as it is typed after its flag."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", "")


def shown_value(name: str, value: Any) -> str:
    """A setting's value for people."""
    if value is None:
        return {"data.num_train": "all", "trainer.gradient_clip_val": "off"}.get(name, "none")
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else typed_value(value)
