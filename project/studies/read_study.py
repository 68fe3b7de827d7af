"""A study's YAML file is read and checked here."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from project.errors import InputError
from project.runs.saving.files import read_yaml, write_text
from project.settings import Settings, did_you_mean, flatten
from project.studies.claims import CLAIM_WORDS, check_arm, naming, parse_claim
from project.studies.study import FIRST_TUNING_SEED, OWN_SETTINGS, Range, Search, Space, Study, Tuning, level_name

KEYS: tuple[str, ...] = ("question", "notes", "lesson", "base", "arms", "vary", "tune", "search", "reference", "seeds")
KEYS += ("resample", "metric", "expect", "quick")
"""A study file can have these keys; docs/studies.md says what they mean."""
QUICK_SEEDS = 2
MAX_LOOKS = 20
"""How often a study may judge its claims while it runs; each look costs all others some of the 5 %."""
MAX_RUNS = 10_000
"""A study with more runs than this is refused: the number is a slip more often than a plan."""
_GUIDE = "see docs/studies.md for an example"


def read_study(path: Path, seeds: int | None = None, quick: bool = False) -> Study:
    """Read and check a study file; `seeds` replaces its number of seeds.

    With `quick`, the study takes the file's `quick` settings, or a fifth of the epochs, and 2 seeds.

    Raises:
        InputError: If something in the file is wrong; the remedy names the most similar correct name.
    """
    study = parse_study(path.stem, read_yaml(path, is_typed=True), quick)
    if seeds is None:
        return study
    with naming("--seeds"):
        chosen, looks = _seeds(seeds)
    return replace(study, seeds=chosen, looks=looks, content={**study.content, "seeds": list(chosen)})


def write_study(study: Study, folder: Path) -> None:
    """Write a study, with seeds and quick settings worked in, as study.yaml into the study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(study.content, sort_keys=False, allow_unicode=True, width=120)
    write_text(folder / "study.yaml", text)


def stored_study(folder: Path) -> Study:
    """Read the study that a study's folder holds.

    Raises:
        InputError: If the folder holds no study.
    """
    if not (folder / "study.yaml").is_file():
        raise InputError(f"{folder} holds no study", "name a study's folder, such as runs/studies/NAME")
    return parse_study(folder.resolve().name, read_yaml(folder / "study.yaml"))


def parse_study(name: str, content: Mapping[str, Any], quick: bool = False) -> Study:
    """Check a study's content, see `read_study`."""
    with naming(f"study {name}"):
        return _parse(name, content, quick)


def _parse(name: str, content: Mapping[str, Any], quick: bool) -> Study:
    for key in content:
        if key not in KEYS:
            raise InputError(f"there is no key {key!r}", did_you_mean(key, KEYS) + "keys: " + ", ".join(KEYS))
    if not isinstance(content.get("question"), str):
        raise InputError("it has no question", "add a line such as question: Does dropout help?")
    base = _settings("base", content.get("base") or {})
    seeds, looks = _seeds(content.get("seeds", 5))
    search = _search(content["search"]) if "search" in content else None
    if quick:
        changes = _settings("quick", content.get("quick") or {})
        seeds, looks = _seeds(changes.pop("seeds", QUICK_SEEDS))
        content = {**content, "seeds": list(seeds)}
        fewer = {"trainer.max_epochs": max(1, round(base.get("trainer.max_epochs", 15) / 5))}
        every = base.get("trainer.check_val_every_n_epoch")
        if isinstance(every, int) and every > fewer["trainer.max_epochs"]:  # nothing would be validated
            fewer["trainer.check_val_every_n_epoch"] = fewer["trainer.max_epochs"]
        base |= changes or fewer
        name += "-quick"
    arms: dict[str, Settings] = {"base": {}, "best": {}}
    factors: dict[str, list[str]] = {}
    levels: dict[str, dict[str, str]] = {}
    if search is None:
        arms, factors, levels = _arms(content.get("arms") or {}, content.get("vary") or {})
    elif content.keys() & {"arms", "vary", "tune", "reference"}:
        raise InputError("search cannot stand beside arms, vary, tune or reference", "keep one kind of them")
    elif quick:
        search = replace(search, trials=max(3, search.trials // 5))
        content = {**content, "search": {**content["search"], "trials": search.trials}}
    reference = str(content.get("reference", next(iter(arms))))
    check_arm(reference, arms)
    metric = str(content.get("metric", "test/accuracy"))
    claims = content.get("expect") or []
    if not isinstance(claims, list):
        raise InputError("expect must be a list of claims", "write each after a dash: - a > b by 0.01")
    if len(looks) > 1 and not claims:
        raise InputError(
            "seeds has at_least and at_most, but expect has no claim that could be decided",
            "add expect: [a > b], or write seeds: 5",
        )
    notes = content.get("notes") or []
    tuning = _tuning(content["tune"]) if "tune" in content else None
    trials = (len(tuning.points) if tuning else 0) + 1
    _check_number("runs", len(arms) * len(seeds) * trials + (search.trials if search else 0))
    return Study(
        name=name,
        question=content["question"].strip(),
        base=base,
        arms=arms,
        seeds=seeds,
        looks=looks,
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
        content={**{k: v for k, v in content.items() if k != "quick"}, "base": base},
    )


def _settings(where: str, given: Any) -> Settings:
    if not isinstance(given, Mapping):
        raise InputError(f"{where} holds no settings", "write one per line, such as model.depth: 3")
    settings = flatten({str(key): value for key, value in given.items()})
    for key in settings:
        if key in OWN_SETTINGS:
            raise InputError(f"{where} sets {key}, but the study itself decides this setting", "leave it out")
    return settings


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)  # for Python, true is a whole number


def _count(where: str, given: Any, minimum: int, remedy: str) -> int:
    if not _is_whole(given) or given < minimum:
        raise InputError(f"{where} is {given}, but must be at least {minimum}", remedy)
    return int(given)


def _seeds(given: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The seeds, and the numbers of seeds after which claims are judged."""
    example = "write for example seeds: 5, or seeds: {at_least: 5, at_most: 40} to go on until the claims are decided"
    if isinstance(given, Mapping):
        if given.keys() != {"at_least", "at_most"}:
            raise InputError(f"seeds is {dict(given)}, but needs at_least and at_most", example)
        block, most = _seed_count(given["at_least"], example), _seed_count(given["at_most"], example)
        if not 2 <= block < most:
            raise InputError("seeds.at_least must be 2 or more, and seeds.at_most more than that", example)
        looks = (*range(block, most, block), most)
        if len(looks) > MAX_LOOKS:
            cause = f"seeds from {block} to {most} in blocks of {block} are {len(looks)} looks at the result"
            raise InputError(f"{cause}; at most {MAX_LOOKS} are possible", "raise at_least, or lower at_most")
        return tuple(range(most)), looks
    seeds = list(range(_seed_count(given, example))) if _is_whole(given) else given
    whole = isinstance(seeds, list | tuple) and all(_is_whole(seed) for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) < FIRST_TUNING_SEED:
        raise InputError(
            f"seeds is {given}, but must be a number of seeds, or a list of different ones below {FIRST_TUNING_SEED} "
            "(larger ones are for tuning)",
            example,
        )
    return tuple(seeds), (len(seeds),)


def _seed_count(given: Any, remedy: str) -> int:
    """A number of seeds, checked before anything is made of it."""
    if not _is_whole(given) or not 1 <= given <= FIRST_TUNING_SEED:
        raise InputError(f"{given} is no number of seeds from 1 to {FIRST_TUNING_SEED:,}", remedy)
    return int(given)


def _arms(named: Any, vary: Any) -> tuple[dict[str, Settings], dict[str, list[str]], dict[str, dict[str, str]]]:
    """The arms by name, the factors with the names of their values, and each arm's value of each factor."""
    if not named and not vary:
        raise InputError("it compares nothing", "add vary: {model.depth: [1, 2]}, or named arms")
    if not isinstance(named, Mapping) or not isinstance(vary, Mapping):
        raise InputError("arms and vary must be mappings", _GUIDE)
    # each factor: its name, and the settings that each of its values stands for, by the value's name
    factors: list[tuple[str, dict[str, Settings]]] = []
    if named:
        factors.append(("arm", {str(arm): _settings(f"arm {arm}", given or {}) for arm, given in named.items()}))
    for key, values in vary.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"vary.{key} is {values}, but must be a list", f"write {key}: [first, second]")
        _settings("vary", {key: None})
        factors.append((str(key).rsplit(".", 1)[-1], {_value_name(key, value): {str(key): value} for value in values}))
        if len(factors[-1][1]) < len(values):
            raise InputError(f"vary.{key} holds a value twice", "keep each value once")
    _check_number("arms", math.prod(len(values) for _, values in factors))
    arms: dict[str, Settings] = {}
    levels: dict[str, dict[str, str]] = {}
    for combination in itertools.product(*(values.items() for _, values in factors)):
        arm = ",".join(value for value, _ in combination)
        if re.search(r"\s", arm) or arm in CLAIM_WORDS or _is_number(arm) or not arm:
            raise InputError(f"{arm!r} cannot be an arm's name", "use a word without spaces that is not a number")
        arms[arm] = {key: value for _, settings in combination for key, value in settings.items()}
        levels[arm] = {factor: value for (factor, _), (value, _) in zip(factors, combination, strict=True)}
    return arms, {factor: list(values) for factor, values in factors}, levels


def _check_number(of: str, number: int) -> None:
    """Refuse a number of runs that nobody would wait for, before a list of them is made."""
    if number > MAX_RUNS:
        raise InputError(
            f"that makes {number:,} {of}; at two seconds for a run they would take {2 * number / 86400:,.1f} days",
            f"choose fewer values or seeds: at most {MAX_RUNS:,} runs",
        )


def _value_name(key: str, value: Any) -> str:
    """A value's name in the names of arms: a word such as `relu` stands alone, other values need the setting's name."""
    if isinstance(value, str) and value not in ("none", "auto") and not _is_number(value):
        return value.replace(" ", "_")
    return level_name(str(key), value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def _spaces(where: str, given: Any) -> dict[str, Space]:
    if not isinstance(given, Mapping) or not given:
        example = "write settings: {model.learning_rate: {low: 0.0001, high: 0.1, log: true}}"
        raise InputError(f"{where} names no settings", example)
    return {str(key): _space(where, key, space) for key, space in given.items()}


def _space(where: str, key: str, space: Any) -> Space:
    if isinstance(space, list) and space:
        return list(space)
    known = isinstance(space, Mapping) and {"low", "high"} <= space.keys() <= {"low", "high", "log"}
    if not known or not _is_number(space["low"]) or not _is_number(space["high"]):
        raise InputError(
            f"{where}.{key} is {space}, but must be a list of values, or low and high, perhaps with log",
            f"write {key}: {{low: 0.001, high: 0.1, log: true}}",
        )
    # YAML reads 1e-4 as a text
    low, high = (value if isinstance(value, int) else float(value) for value in (space["low"], space["high"]))
    if not low < high or (space.get("log") and low <= 0):
        raise InputError(f"{where}.{key} goes from {low} to {high}", "low must be below high, and above 0 with log")
    return Range(low, high, bool(space.get("log", False)))


def _tuning(given: Any) -> Tuning:
    if not isinstance(given, Mapping) or not given.keys() <= {"settings", "trials"}:
        cause = "tune can hold settings and trials alone"
        if isinstance(given, Mapping) and "seeds" in given:
            cause = "tune.seeds is gone: tuning is done anew for every seed, so that it counts as noise"
        raise InputError(cause, _GUIDE)
    spaces = _spaces("tune.settings", given.get("settings"))
    if any(isinstance(space, Range) for space in spaces.values()):
        trials = _count("tune.trials", given.get("trials"), 2, "write for example trials: 8")
        _check_number("points to try", trials)
        return Tuning(tuple(_spread(spaces, trials)), spaces)
    values = [space for space in spaces.values() if isinstance(space, list)]
    _check_number("points to try", math.prod(len(space) for space in values))
    points = [dict(zip(spaces, row, strict=True)) for row in itertools.product(*values)]
    if given.get("trials", len(points)) != len(points):
        raise InputError(
            f"tune.trials is {given['trials']}, but the lists make {len(points)} settings to try",
            "leave trials out, or write a range instead of a list",
        )
    return Tuning(tuple(points), spaces)


def _spread(spaces: Mapping[str, Space], trials: int) -> Iterator[Settings]:
    """Points of a Latin hypercube, which tries every setting evenly over its whole range (McKay et al. 1979)."""
    generator = np.random.default_rng(FIRST_TUNING_SEED)
    shares = np.stack([(generator.permutation(trials) + 0.5) / trials for _ in spaces], axis=1)
    for row in shares.tolist():
        yield {
            key: space.at(share) if isinstance(space, Range) else space[int(share * len(space))]
            for (key, space), share in zip(spaces.items(), row, strict=True)
        }


def _search(given: Any) -> Search:
    if not isinstance(given, Mapping) or not given.keys() <= {"settings", "trials"}:
        raise InputError("search can hold settings and trials alone", _GUIDE)
    trials = _count("search.trials", given.get("trials", 30), 1, "write trials: 30")
    _check_number("trials", trials)
    return Search(_spaces("search.settings", given.get("settings")), trials)
