"""A study's YAML file, read and checked."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from project.errors import InputError
from project.runs.saving.files import read_yaml
from project.settings import Settings, did_you_mean, flatten
from project.studies.claims import CLAIM_WORDS, check_arm, parse_claim
from project.studies.study import FIRST_TUNING_SEED, OWN_SETTINGS, Range, Search, Study, Tuning

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
QUICK_SEEDS = 2


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
        if re.search(r"\s", arm) or arm in CLAIM_WORDS or _is_number(arm) or not arm:
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
