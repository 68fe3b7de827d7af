"""What a study asks: its question, its arms, its seeds and its claims, read from one YAML file.

    question: Does the activation decide how deep a network may be?
    base: {data.num_train: 10000, trainer.max_epochs: 5}
    vary: {model.activation: [relu, sigmoid], model.depth: [1, 8]}
    seeds: 5
    expect:
      - relu,depth=8 > sigmoid,depth=8 by 0.1
      - sigmoid,depth=8 == chance within 0.02

`project.engine` runs it, `project.report` says what came out; docs/studies.md explains every key.
"""

import difflib
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from project.errors import InputError
from project.run_folder import read_yaml

Settings = dict[str, Any]
"""Settings by their flags' names, such as `model.depth`."""
Phase = Literal["tune", "final"]

KEYS = {
    "question": "what is asked, in one sentence",
    "notes": "rows of the notes that the study serves, such as [N12, N13]",
    "lesson": "what the notes say, to be held against the outcome",
    "base": "settings that all arms share",
    "arms": "named arms, each with the settings that make it",
    "vary": "settings with a list of values each: their grid makes the arms",
    "tune": "settings to be tuned for each arm before it is compared",
    "search": "settings to be searched, in place of arms",
    "reference": "the arm that all others are compared with; the first one if left out",
    "seeds": "how many seeds, or which",
    "resample": "true: the choice of training and validation examples follows the seed too",
    "metric": "what is compared, such as test/accuracy",
    "expect": "claims that can fail",
    "quick": "settings and seeds of a quick look",
}
"""A study file's keys and what they mean."""

FIRST_TUNING_SEED = 1000
"""Tuning and searching use seeds from here on, the comparison those below: no result is scored on what chose it."""
QUICK_SEEDS = 2
STUDY_DEFAULTS: Settings = {
    "trainer.logger": False,
    "trainer.enable_checkpointing": False,
    "trainer.enable_progress_bar": False,
    "diagnostics.enabled": False,
    "patience": 0,
}
"""A study's runs all train equally long and are scored as they end; a study that wants the best epoch asks for it."""
OWN_SETTINGS = ("seed_everything", "run_name", "run_root", "resume", "debug")
"""Settings that the study itself decides."""
LOWER_IS_BETTER = ("loss", "rmse", "mae", "error", "seconds", "gap")
"""A metric whose last part holds one of these is to be small."""

Operator = Literal[">", "<", "~"]
_OPERATORS: dict[str, Operator] = {">": ">", "<": "<", "~": "~", "==": "~"}
_WORDS = (">", "<", "~", "==", "+", "-", "by", "within", "on", "chance")


@dataclass(frozen=True)
class Term:
    """One part of a claim's side: an arm, `chance`, or a number, added or taken away.

    Attributes:
        sign: 1 or −1.
        arm: Name of the arm, `chance`, or empty for a number.
        number: The number, 0 for an arm.
    """

    sign: int
    arm: str
    number: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A statement that a study can refute: left minus right lies in a region.

    Attributes:
        text: As it was written.
        terms: Left side, and the right side with its signs turned.
        operator: >, < or ~ (also written ==).
        margin: By how much, or within how much.
        metric: What is compared.
    """

    text: str
    terms: tuple[Term, ...]
    operator: Operator
    margin: float
    metric: str

    @property
    def region(self) -> tuple[float, float]:
        """Lower and upper bound that the claim sets to left minus right."""
        if self.operator == ">":
            return self.margin, math.inf
        if self.operator == "<":
            return -math.inf, -self.margin
        return -self.margin, self.margin

    @property
    def arms(self) -> list[str]:
        """The arms that it is about."""
        return [term.arm for term in self.terms if term.arm not in ("", "chance")]


@dataclass(frozen=True)
class Range:
    """Numbers from low to high; whole ones if both ends are whole.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether factors count, not differences.
    """

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> float:
        """The value at a share in [0, 1) of the way, four significant digits."""
        high = self.high + 1 if self.whole else self.high
        value = self.low * (high / self.low) ** share if self.log else self.low + (high - self.low) * share
        return min(int(value), int(self.high)) if self.whole else float(f"{value:.4g}")


@dataclass(frozen=True)
class Tuning:
    """Settings that are chosen for each arm on validation, with the same budget for all.

    Attributes:
        points: The settings to try, the same for every arm.
        seeds: On which each is tried.
        spaces: What each setting was drawn from.
    """

    points: tuple[Settings, ...]
    seeds: tuple[int, ...]
    spaces: dict[str, list[Any] | Range]


@dataclass(frozen=True)
class Search:
    """Settings that are sampled by TPE and pruned on validation.

    Attributes:
        spaces: A list of values or a range for each setting.
        trials: How many settings are tried.
        seed: Of the sampler, and of every trial's run.
    """

    spaces: dict[str, list[Any] | Range]
    trials: int
    seed: int = FIRST_TUNING_SEED


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        phase: tune or final.
        arm: The arm's name.
        seed: Of the run.
        settings: All of the study's settings for it; a tuned arm's final runs lack what tuning will choose.
        point: Which of the tuning's points; −1 for a final run.
        tuning: Fingerprint of the tuning that a final run waits for, else empty.
    """

    phase: Phase
    arm: str
    seed: int
    settings: Settings
    point: int = -1
    tuning: str = ""

    @property
    def key(self) -> str:
        """What makes this run this run: the same key is never run twice, and a changed setting changes it."""
        content = [self.phase, self.arm, self.seed, self.settings, self.tuning]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def run_name(self) -> str:
        """Its run folder's name."""
        arm = re.sub(r"[^\w.=,+-]", "_", self.arm)
        point = f"_point{self.point}" if self.phase == "tune" else ""
        return f"{arm}{point}_seed{self.seed}"


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves to be compared.

    Attributes:
        arm: Name of its arm.
        seed: Of the run.
        phase: tune or final.
        status: As in metrics.json; `failed` for a run that ended with an error.
        settings: The settings that the study gave it.
        metrics: Every number that it ended with, by name.
        history: One record per epoch.
        layers: Before (`start`) and after (`end`) training: every layer's numbers in order.
        num_classes: 0 for regression.
        origin: What must be alike for a comparison: commit, changes, versions, hardware, data, splits.
        folder: The run folder.
        point: Which of the tuning's points; −1 for a final run.
        error: What went wrong, for a failed run.
    """

    arm: str
    seed: int
    phase: Phase = "final"
    status: str = "completed"
    settings: Settings = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    layers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    num_classes: int = 0
    origin: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    point: int = -1
    error: str = ""

    def value(self, metric: str) -> float | None:
        """A metric's value; None where the run has none.

        A training that diverged has lost: its accuracy is that of guessing.
        """
        if metric in self.metrics:
            return self.metrics[metric]
        if self.status == "diverged" and metric.endswith("/accuracy") and self.num_classes:
            return 1 / self.num_classes
        return None


@dataclass(frozen=True)
class Study:
    """A question that runs can answer.

    Attributes:
        name: Of the study and of its folder.
        question: In one sentence.
        base: Settings that all arms share.
        arms: Name → settings that make the arm, in the order of the file.
        seeds: The same for every arm.
        metric: What is compared.
        claims: What is expected.
        factors: With `vary` (or with named arms beside it): each factor's values in order, by its name.
        levels: Arm → its value of each factor.
        reference: The arm that the others are compared with.
        tuning: Of nuisance settings, if any.
        search: In place of arms, if any.
        resample: Whether the split follows the seed.
        notes: Rows of the notes.
        lesson: What the notes say.
        content: The file's content with seeds and quick settings worked in.
    """

    name: str
    question: str
    base: Settings
    arms: dict[str, Settings]
    seeds: tuple[int, ...]
    metric: str
    claims: tuple[Claim, ...] = ()
    factors: dict[str, list[str]] = field(default_factory=dict)
    levels: dict[str, dict[str, str]] = field(default_factory=dict)
    reference: str = ""
    tuning: Tuning | None = None
    search: Search | None = None
    resample: bool = False
    notes: tuple[str, ...] = ()
    lesson: str = ""
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def maximize(self) -> bool:
        """Whether a larger metric is a better one."""
        return larger_is_better(self.metric)

    @property
    def selection_metric(self) -> str:
        """The metric by which tuning and searching choose: of validation, never of the test set."""
        split, _, name = self.metric.partition("/")
        if split == "validation":
            return self.metric
        return f"validation/{name}" if split == "test" else "validation/loss"

    def settings(self, arm: str, seed: int) -> Settings:
        """All of the study's settings for one run."""
        split = {"data.split_seed": seed} if self.resample else {}
        return STUDY_DEFAULTS | self.base | split | self.arms[arm] | {"seed_everything": seed}

    def tuning_cells(self) -> list[Cell]:
        """The runs that tuning needs, all arms for each point and seed."""
        if self.tuning is None:
            return []
        return [
            Cell("tune", arm, seed, self.settings(arm, seed) | point, index)
            for seed in self.tuning.seeds
            for index, point in enumerate(self.tuning.points)
            for arm in self.arms
        ]

    def final_cells(self) -> list[Cell]:
        """The runs that are compared, all arms for each seed: what is there after a while is balanced."""
        tuning = ""
        if self.tuning is not None:
            content = [self.tuning.points, self.tuning.seeds, self.selection_metric]
            tuning = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        return [
            Cell("final", arm, seed, self.settings(arm, seed), tuning=tuning)
            for seed in self.seeds
            for arm in self.arms
        ]


def larger_is_better(metric: str) -> bool:
    """Whether a larger value of a metric is a better one, by its name."""
    return not any(word in metric.rsplit("/", 1)[-1] for word in LOWER_IS_BETTER)


def read_study(path: Path, seeds: int | None = None, quick: bool = False) -> Study:
    """Read and check a study file.

    Args:
        path: The YAML file.
        seeds: How many seeds, in place of the file's.
        quick: Take the file's `quick` settings, or a fifth of the epochs, and 2 seeds.

    Raises:
        InputError: If something in it is wrong, with the nearest right name.
    """
    study = parse_study(path.stem, read_yaml(path), quick)
    if seeds is not None:
        if seeds < 1:
            raise InputError(f"--seeds is {seeds}, but must be at least 1", "type for example --seeds 5")
        chosen = tuple(range(seeds))
        study = replace(study, seeds=chosen, content={**study.content, "seeds": list(chosen)})
    return study


def write_study(study: Study, folder: Path) -> None:
    """Keep a study's file, with seeds and quick settings worked in, in the study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(study.content, sort_keys=False, allow_unicode=True, width=120)
    (folder / "study.yaml").write_text(text, encoding="utf-8")


def stored_study(folder: Path) -> Study:
    """The study that a folder holds.

    Raises:
        InputError: If it holds none.
    """
    if not (folder / "study.yaml").is_file():
        raise InputError(f"{folder} holds no study", "name a study's folder, such as runs/studies/NAME")
    return parse_study(folder.resolve().name, read_yaml(folder / "study.yaml"))


def parse_study(name: str, content: Mapping[str, Any], quick: bool = False) -> Study:
    """Check a study's content, see `read_study`."""
    for key in content:
        if key not in KEYS:
            raise InputError(
                f"study {name}: there is no key {key!r}", did_you_mean(key, KEYS) + "keys: " + ", ".join(KEYS)
            )
    if not isinstance(content.get("question"), str):
        raise InputError(f"study {name} has no question", "add a line such as question: Does dropout help?")
    base = _settings(name, "base", content.get("base") or {})
    seeds = _seeds(name, content.get("seeds", 5))
    search = _search(name, content["search"]) if "search" in content else None
    if quick:
        changes = _settings(name, "quick", {k: v for k, v in (content.get("quick") or {}).items() if k != "seeds"})
        seeds = _seeds(name, (content.get("quick") or {}).get("seeds", QUICK_SEEDS))
        if not changes:
            changes = {"trainer.max_epochs": max(1, round(base.get("trainer.max_epochs", 15) / 5))}
        base |= changes
        name += "-quick"
    if search is not None:
        if quick:
            search = replace(search, trials=max(3, search.trials // 5))
            content = {**content, "search": {**content["search"], "trials": search.trials}}
        if content.keys() & {"arms", "vary", "tune", "reference"}:
            raise InputError(
                f"study {name} has search beside arms, vary, tune or reference", "keep the one or the others"
            )
        arms: dict[str, Settings] = {"base": {}, "best": {}}
        factors: dict[str, list[str]] = {}
        levels: dict[str, dict[str, str]] = {}
    else:
        arms, factors, levels = _arms(name, content.get("arms"), content.get("vary"))
    reference = str(content.get("reference", next(iter(arms))))
    check_arm(name, reference, arms)
    metric = str(content.get("metric", "test/accuracy"))
    claims = content.get("expect") or []
    if not isinstance(claims, list):
        raise InputError(f"study {name}: expect must be a list of claims", "write each after a dash: - a > b by 0.01")
    tuning = _tuning(name, content["tune"]) if "tune" in content else None
    notes = content.get("notes") or []
    return Study(
        name=name,
        question=content["question"].strip(),
        base=base,
        arms=arms,
        seeds=seeds,
        metric=metric,
        claims=tuple(parse_claim(str(text), arms, metric) for text in claims),
        factors=factors,
        levels=levels,
        reference=reference,
        tuning=tuning,
        search=search,
        resample=bool(content.get("resample", False)),
        notes=tuple(str(row) for row in (notes if isinstance(notes, list) else [notes])),
        lesson=str(content.get("lesson", "")).strip(),
        content={**{k: v for k, v in content.items() if k != "quick"}, "base": base, "seeds": list(seeds)},
    )


def parse_claim(text: str, arms: Iterable[str], metric: str) -> Claim:
    """Read a claim.

    A claim is `SIDE > SIDE [by NUMBER]`, the same with `<`, or `SIDE ~ SIDE within NUMBER` (also written `==`), and
    may end with `on METRIC`. A side is an arm, `chance` or a number, or several of them with + or - between. Words are
    set apart by blanks.

    Args:
        text: Such as `relu > sigmoid by 0.02 on validation/accuracy`.
        arms: The study's arms.
        metric: What is compared unless the claim says so.

    Raises:
        InputError: If it is none, or if an arm does not exist.
    """
    words, arms = text.split(), list(arms)
    example = "write for example: relu > sigmoid by 0.02, or zeros == chance within 0.01"
    if len(words) >= 2 and words[-2] == "on":
        metric, words = words[-1], words[:-2]
    margin, margin_word = 0.0, ""
    if len(words) >= 2 and words[-2] in ("by", "within"):
        margin_word = words[-2]
        try:
            margin = float(words[-1])
        except ValueError:
            margin = math.nan
        if not (margin >= 0 and math.isfinite(margin)):
            raise InputError(f"claim {text!r}: {words[-1]!r} is no margin", "write a number of 0 or more, such as 0.02")
        words = words[:-2]
    places = [index for index, word in enumerate(words) if word in _OPERATORS]
    if len(places) != 1:
        raise InputError(f"claim {text!r} does not compare two sides with one of >, <, ~, ==", example)
    operator = _OPERATORS[words[places[0]]]
    if operator == "~" and (margin_word != "within" or margin == 0):
        raise InputError(
            f"claim {text!r}: nothing measured is ever exactly equal",
            "say how near is near enough: add within 0.01",
        )
    if operator != "~" and margin_word == "within":
        raise InputError(f"claim {text!r}: within belongs to ~", "write by in its place")
    left = _side(text, words[: places[0]], arms, example)
    right = _side(text, words[places[0] + 1 :], arms, example)
    terms = (*left, *(replace(term, sign=-term.sign) for term in right))
    if not any(term.arm not in ("", "chance") for term in terms):
        raise InputError(f"claim {text!r} is about no arm", example)
    return Claim(" ".join(text.split()), terms, operator, margin, metric)


def _side(text: str, words: Sequence[str], arms: list[str], example: str) -> list[Term]:
    terms = []
    for position, word in enumerate(words):
        if position % 2:
            if word not in ("+", "-"):
                raise InputError(f"claim {text!r}: {word!r} is where + or - should be", example)
            continue
        sign = -1 if position and words[position - 1] == "-" else 1
        if word in arms or word == "chance":
            terms.append(Term(sign, word))
            continue
        try:
            terms.append(Term(sign, "", float(word)))
        except ValueError:
            check_arm(f"claim {text!r}", word, arms)
    if not len(words) % 2:
        raise InputError(f"claim {text!r} lacks an arm or a number", example)
    return terms


def check_arm(where: str, arm: str, arms: Iterable[str]) -> None:
    """Refuse an arm that does not exist, with the nearest one that does."""
    names = list(arms)
    if arm not in names:
        raise InputError(f"{where}: there is no arm {arm!r}", did_you_mean(arm, names) + "arms: " + ", ".join(names))


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """`did you mean …? ` with the nearest of some names, or nothing."""
    nearest = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}? " if nearest else ""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings by their flags' names: {"model": {"depth": 2}} gives {"model.depth": 2}."""
    flat: Settings = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def nest(settings: Settings) -> dict[str, Any]:
    """The reverse of `flatten`, as the command line's parser takes it."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, last = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return nested


def settings_yaml(settings: Settings) -> str:
    """Settings as YAML that `train.py --config` accepts."""
    return str(yaml.safe_dump(nest(settings), sort_keys=False))


def _settings(name: str, where: str, given: Any) -> Settings:
    if not isinstance(given, Mapping):
        raise InputError(f"study {name}: {where} holds no settings", "write one per line, such as model.depth: 3")
    settings = flatten({str(key): value for key, value in given.items()})
    for key in settings:
        if key in OWN_SETTINGS:
            raise InputError(f"study {name}: {where} sets {key}, which the study decides itself", "leave it out")
    return settings


def _seeds(name: str, given: Any) -> tuple[int, ...]:
    seeds = tuple(range(given)) if isinstance(given, int) and not isinstance(given, bool) else given
    whole = isinstance(seeds, list | tuple) and all(isinstance(s, int) and not isinstance(s, bool) for s in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) < FIRST_TUNING_SEED:
        raise InputError(
            f"study {name}: seeds is {given}, but must be how many, or a list of different ones below "
            f"{FIRST_TUNING_SEED} (from there on they are for tuning)",
            "write for example seeds: 5",
        )
    return tuple(seeds)


def _arms(
    name: str, given: Any, vary: Any
) -> tuple[dict[str, Settings], dict[str, list[str]], dict[str, dict[str, str]]]:
    """Arms by name, and the factors with their levels where there are any."""
    if not given and not vary:
        raise InputError(f"study {name} compares nothing", "add vary: {model.depth: [1, 2]}, or named arms")
    if not isinstance(given or {}, Mapping) or not isinstance(vary or {}, Mapping):
        raise InputError(f"study {name}: arms and vary must be mappings", "see docs/studies.md for an example")
    # each factor: its name, and for each of its values a name and the settings that it means
    factors: list[tuple[str, dict[str, Settings]]] = []
    if given:
        factors.append(
            ("arm", {str(arm): _settings(name, f"arm {arm}", settings or {}) for arm, settings in given.items()})
        )
    for key, values in (vary or {}).items():
        if not isinstance(values, list) or len(values) < 1:
            raise InputError(
                f"study {name}: vary.{key} is {values}, but must be a list", f"write {key}: [first, second]"
            )
        _settings(name, "vary", {key: None})
        short = str(key).rsplit(".", 1)[-1]
        factors.append((short, {_value_name(short, value): {str(key): value} for value in values}))
        if len(factors[-1][1]) < len(values):
            raise InputError(f"study {name}: vary.{key} holds a value twice", "keep each value once")
    arms: dict[str, Settings] = {}
    levels: dict[str, dict[str, str]] = {}
    for combination in itertools.product(*(factor[1].items() for factor in factors)):
        arm = ",".join(value for value, _ in combination)
        arms[arm] = {key: value for _, settings in combination for key, value in settings.items()}
        levels[arm] = {factor: value for (factor, _), (value, _) in zip(factors, combination, strict=True)}
    for arm in arms:
        if re.search(r"\s", arm) or arm in _WORDS or _is_number(arm) or not arm:
            raise InputError(
                f"study {name}: {arm!r} cannot be an arm's name", "use a word without blanks that is no number"
            )
    return arms, {factor: list(values) for factor, values in factors}, levels


def _value_name(short: str, value: Any) -> str:
    """How a value is called in an arm's name: activations by their name, anything that needs it with its setting's."""
    if isinstance(value, str) and value not in ("none", "auto") and not _is_number(value):
        return value.replace(" ", "_")
    words = {None: "none", True: "true", False: "false"}
    text = (
        words[value] if value is None or isinstance(value, bool) else f"{value:g}" if _is_number(value) else str(value)
    )
    return f"{short}={text.replace(' ', '')}"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def _spaces(name: str, where: str, given: Any) -> dict[str, list[Any] | Range]:
    if not isinstance(given, Mapping) or not given:
        raise InputError(
            f"study {name}: {where} names no settings",
            "write settings: {model.learning_rate: {low: 0.0001, high: 0.1, log: true}}",
        )
    spaces: dict[str, list[Any] | Range] = {}
    for key, space in given.items():
        if isinstance(space, list) and space:
            spaces[str(key)] = list(space)
            continue
        known = isinstance(space, Mapping) and {"low", "high"} <= space.keys() <= {"low", "high", "log"}
        if not known or not _is_number(space["low"]) or not _is_number(space["high"]):
            raise InputError(
                f"study {name}: {where}.{key} is {space}, but must be a list of values, or low, high and perhaps log",
                f"write {key}: {{low: 0.001, high: 0.1, log: true}}",
            )
        # YAML takes 1e-4 for a text
        low, high = (value if isinstance(value, int) else float(value) for value in (space["low"], space["high"]))
        if not low < high or (space.get("log") and low <= 0):
            raise InputError(
                f"study {name}: {where}.{key} goes from {low} to {high}", "low must be below high, and above 0 with log"
            )
        spaces[str(key)] = Range(low, high, bool(space.get("log", False)))
    return spaces


def _tuning(name: str, given: Any) -> Tuning:
    if not isinstance(given, Mapping) or not given.keys() <= {"settings", "trials", "seeds"}:
        raise InputError(f"study {name}: tune knows settings, trials and seeds", "see docs/studies.md for an example")
    spaces = _spaces(name, "tune.settings", given.get("settings"))
    num_seeds = given.get("seeds", 1)
    if not isinstance(num_seeds, int) or num_seeds < 1:
        raise InputError(f"study {name}: tune.seeds is {num_seeds}, but must be 1 or more", "write seeds: 1")
    lists = {key: space for key, space in spaces.items() if isinstance(space, list)}
    if len(lists) == len(spaces):
        points = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
        if given.get("trials", len(points)) != len(points):
            raise InputError(
                f"study {name}: tune.trials is {given['trials']}, but the lists make {len(points)} settings to try",
                "leave trials out, or give a range in place of a list",
            )
    else:
        trials = given.get("trials")
        if not isinstance(trials, int) or trials < 2:
            raise InputError(
                f"study {name}: tune.trials is {trials}, but a range needs 2 or more", "write for example trials: 8"
            )
        # a Latin hypercube: every setting is tried evenly over its whole range (McKay et al. 1979)
        generator = np.random.default_rng(FIRST_TUNING_SEED)
        shares = np.stack([(generator.permutation(trials) + 0.5) / trials for _ in spaces], axis=1)
        points = [
            {
                key: space.at(share) if isinstance(space, Range) else space[int(share * len(space))]
                for (key, space), share in zip(spaces.items(), row, strict=True)
            }
            for row in shares.tolist()
        ]
    seeds = tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + num_seeds))
    return Tuning(tuple(points), seeds, spaces)


def _search(name: str, given: Any) -> Search:
    if not isinstance(given, Mapping) or not given.keys() <= {"settings", "trials"}:
        raise InputError(f"study {name}: search knows settings and trials", "see docs/studies.md for an example")
    trials = given.get("trials", 30)
    if not isinstance(trials, int) or trials < 1:
        raise InputError(f"study {name}: search.trials is {trials}, but must be 1 or more", "write trials: 30")
    return Search(_spaces(name, "search.settings", given.get("settings")), trials)
