"""What a study's runs say: a table, paired differences, and a verdict on every claim in words.

    python scripts/report.py runs/studies/NAME
    python scripts/report.py runs/fashion_mnist/FIRST runs/fashion_mnist/SECOND

The report is one HTML page that needs nothing beside it, the same as Markdown, and a CSV of every run.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from project.errors import InputError
from project.settings import Settings
from project.studies.claims import Claim
from project.studies.reporting.figures import Values
from project.studies.reporting.formats import format_difference, format_interval, format_p
from project.studies.reporting.statistics import (
    MAX_SEEDS,
    Difference,
    Estimate,
    Verdict,
    VerdictName,
    estimate,
    holm,
    judge,
    paired_difference,
    region_test,
)
from project.studies.study import RunRecord, Study

SPLIT_SETTINGS = [f"data.{name}" for name in ("dataset", "num_train", "num_validation", "split_seed", "classes")]
SPLIT_SETTINGS += ["model.task"]
"""Runs that agree in these must have been given the very same examples."""


@dataclass(frozen=True)
class ArmSummary:
    """One arm's row of the table.

    Attributes:
        name: The arm's name.
        result: The study's metric over seeds.
        difference: The difference from the reference, paired by seed; None for the reference itself.
        p: The p of that difference, after Holm's correction over the table.
        seconds: The mean time of a training.
        parameters: How many parameters the network has.
        chosen: The settings that tuning or searching chose.
    """

    name: str
    result: Estimate
    difference: Difference | None
    p: float
    seconds: float
    parameters: int
    chosen: Settings


@dataclass(frozen=True)
class Judgement:
    """A claim and the verdict on it.

    Attributes:
        claim: The claim as it stands in the study.
        verdict: The verdict; None if no run has what the claim is about.
        sentence: The verdict in words, with its numbers.
    """

    claim: Claim
    verdict: Verdict | None
    sentence: str

    @property
    def name(self) -> VerdictName:
        return self.verdict.name if self.verdict else "undecided"


@dataclass(frozen=True)
class Report:
    """A study's outcome.

    Attributes:
        study: The study.
        records: All runs of the study, tuning included.
        values: The study's metric by arm and seed.
        arms: The table's rows.
        judgements: One judgement per claim.
        warnings: What the reader must know before believing any of it.
        chance: The accuracy of guessing; None for regression.
        folder: The folder that the report was written to, if it was.
    """

    study: Study
    records: list[RunRecord]
    values: Values
    arms: list[ArmSummary]
    judgements: list[Judgement]
    warnings: list[str]
    chance: float | None
    folder: Path | None = field(default=None, compare=False)

    @property
    def final(self) -> list[RunRecord]:
        """The runs that are compared."""
        return [record for record in self.records if record.phase == "final"]


def make_report(study: Study, records: Sequence[RunRecord]) -> Report:
    """Compare a study's runs.

    Raises:
        InputError: If no run has ended, if the metric does not exist, or if runs saw different data.
    """
    final = [record for record in records if record.phase == "final"]
    if not any(record.status != "failed" for record in final):
        first = next((record.error for record in records if record.error), "none has ended yet")
        raise InputError(
            f"study {study.name} has no run to compare: {first.strip().splitlines()[-1]}",
            "run it first: python scripts/study.py STUDY.yaml",
        )
    check_same_data(final)
    values = metric_values(study, final, study.metric)
    if not any(values.values()):
        names = sorted({name for record in final for name in record.metrics})
        raise InputError(f"no run has the metric {study.metric}", "choose one of: " + ", ".join(names))
    chance = next((1 / record.num_classes for record in final if record.num_classes), None)
    return Report(
        study,
        list(records),
        values,
        _summarize_arms(study, final, values),
        _judge_claims(study, final, chance),
        [*_failures(records), *_differences(final), *_tuning_edges(study, final)],
        chance,
    )


def metric_values(study: Study, records: Iterable[RunRecord], metric: str) -> dict[str, dict[int, float]]:
    """A metric by arm and seed; runs without it are left out."""
    values: dict[str, dict[int, float]] = {arm: {} for arm in study.arms}
    for record in records:
        value = record.value(metric)
        if value is not None and math.isfinite(value):
            values[record.arm][record.seed] = value
    return values


def _summarize_arms(study: Study, records: Sequence[RunRecord], values: Values) -> list[ArmSummary]:
    reference = values[study.reference]
    differences: dict[str, Difference] = {}
    for arm in study.arms:
        common = sorted(values[arm].keys() & reference.keys())
        if arm != study.reference and common:
            differences[arm] = paired_difference([values[arm][s] for s in common], [reference[s] for s in common])
    corrected = dict(zip(differences, holm([d.p for d in differences.values()]), strict=True))
    summaries = []
    for arm in study.arms:
        runs = [record for record in records if record.arm == arm]
        seconds = [record.metrics["train_seconds"] for record in runs if "train_seconds" in record.metrics]
        parameters = [record.metrics["parameters"] for record in runs if "parameters" in record.metrics]
        spaces = study.tuning.spaces if study.tuning else study.search.spaces if study.search else {}
        settings = next((record.settings for record in runs if record.status != "failed"), {})
        summaries.append(
            ArmSummary(
                arm,
                estimate(list(values[arm].values())),
                differences.get(arm),
                corrected.get(arm, math.nan),
                fmean(seconds) if seconds else math.nan,
                int(parameters[0]) if parameters else 0,
                {key: settings[key] for key in spaces if key in settings},
            )
        )
    return summaries


def _judge_claims(study: Study, records: Sequence[RunRecord], chance: float | None) -> list[Judgement]:
    tests = []
    for claim in study.claims:
        values = metric_values(study, records, claim.metric)
        seeds = set.intersection(*(set(values[arm]) for arm in claim.arms))
        numbers = []
        for seed in sorted(seeds):
            total = 0.0
            for arm, weight in claim.weights.items():
                value = chance if arm == "chance" else values[arm][seed] if arm else 1.0
                if value is None:
                    raise InputError(f"claim {claim.text!r}: regression has no chance", "name a number in its place")
                total += weight * value
            numbers.append(round(total, 12))  # 0.3 − 0.1 must not differ from 0.2 by rounding alone
        tests.append(region_test(numbers, *claim.region) if numbers else None)
    verdicts = iter(judge([test for test in tests if test is not None]))
    judgements = []
    for claim, test in zip(study.claims, tests, strict=True):
        verdict = next(verdicts) if test is not None else None
        judgements.append(Judgement(claim, verdict, _sentence(claim, verdict)))
    return judgements


def _sentence(claim: Claim, verdict: Verdict | None) -> str:
    """A verdict in words."""
    if verdict is None:
        return f"Undecided: no run has {claim.metric} for every arm that the claim is about."
    found, metric = verdict.test.estimate, claim.metric
    words = claim.text.split()
    sign = next(index for index, word in enumerate(words) if word in (">", "<", "~", "=="))
    end = next((index for index, word in enumerate(words) if word in ("by", "within", "on")), len(words))
    left, right = (
        f"({' '.join(side)})" if len(side) > 1 else side[0] for side in (words[:sign], words[sign + 1 : end])
    )
    # a claim about a difference is compared with 0, which needs no mention
    gap = " ".join(words[:sign]) if right in ("0", "0.0") else f"{left} minus {right}"
    seeds = f"{found.n} seed{'' if found.n == 1 else 's'}"
    numbers = f"{metric}, {gap}: {format_difference(found.mean, metric)}"
    if found.n > 1:
        interval = format_interval(found, format_difference, metric)
        numbers += f" (95 % interval {interval}, {seeds}, p {format_p(verdict.p)})"
    if verdict.name != "undecided":
        return f"{verdict.name.capitalize()}. {numbers}."
    if found.n < 2:
        return f"Undecided. {numbers} with {seeds}: one seed cannot tell."
    more = f"about {verdict.seeds_to_decide} seeds would probably decide"
    if verdict.seeds_to_decide is None:
        more = f"more than {MAX_SEEDS:,} seeds would be needed to decide"
    return f"Undecided. {numbers}; {more}."


def check_same_data(records: Sequence[RunRecord]) -> None:
    """Refuse to compare runs that were given different examples without saying so.

    Raises:
        InputError: If runs with the same data settings differ in their data or splits.
    """
    seen: dict[str, tuple[RunRecord, Any]] = {}
    for record in records:
        if not record.origin:
            continue
        key = json.dumps([record.settings.get(name) for name in SPLIT_SETTINGS])
        data = (record.origin["data"], record.origin["split"])
        first, first_data = seen.setdefault(key, (record, data))
        if data != first_data:
            what = "data" if data[0] != first_data[0] else "splits"
            raise InputError(
                f"the runs {first.folder} and {record.folder} saw different {what} under the same settings",
                "compare runs of the same data, or run the study again in a new folder",
            )


def _differences(records: Sequence[RunRecord]) -> list[str]:
    """Warnings of everything in which the runs differ although no arm declares it."""
    warnings = []
    flat = [(r, {**r.origin, **r.origin["versions"]}) for r in records if r.origin]
    for name in [name for name in flat[0][1] if name not in ("versions", "data", "split")] if flat else ():
        by_value: dict[str, list[RunRecord]] = {}
        for record, origin in flat:
            by_value.setdefault(json.dumps(origin.get(name)), []).append(record)
        if len(by_value) > 1:
            parts = []
            for value, runs in sorted(by_value.items(), key=lambda item: -len(item[1])):
                arms = sorted({record.arm for record in runs})
                whose = f"{len(runs)} runs" + (f" of {', '.join(arms)}" if len(arms) <= 3 else "")
                parts.append(f"{json.loads(value)} ({whose})")
            effect = (
                "times cannot be compared" if name in ("processor", "gpus") else "it may be the cause of what differs"
            )
            warnings.append(f"The runs differ in {name}, which no arm declares: {' against '.join(parts)}; {effect}.")
    return warnings


def _failures(records: Sequence[RunRecord]) -> list[str]:
    warnings = []
    for arm, group in groupby(sorted(records, key=lambda r: r.arm), key=lambda r: r.arm):
        runs = list(group)
        failed = [record for record in runs if record.status == "failed"]
        if failed:
            lines = failed[0].error.strip().splitlines()
            why = lines[-1] if lines else "no reason was recorded"
            warnings.append(f"{len(failed)} of {len(runs)} runs of {arm} failed: {why}")
        diverged = [r for r in runs if r.status == "diverged" and r.phase == "final"]
        if diverged:
            number = sum(record.phase == "final" for record in runs)
            warnings.append(f"{len(diverged)} of {number} runs of {arm} diverged; their accuracy counts as chance.")
    return warnings


def _tuning_edges(study: Study, records: Sequence[RunRecord]) -> list[str]:
    """Warnings where the best value that was tried lies at the edge: a better one may lie beyond."""
    if study.tuning is None:
        return []
    warnings = []
    for key in study.tuning.spaces:
        tried = sorted({point[key] for point in study.tuning.points if isinstance(point[key], int | float)})
        if len(tried) < 2:
            continue
        for end, word in ((tried[0], "smallest"), (tried[-1], "largest")):
            arms = list(dict.fromkeys(r.arm for r in records if r.settings.get(key) == end))
            if arms and end != 0:  # there is nothing below 0
                warnings.append(
                    f"For {', '.join(arms)} the {word} {key} that was tried, {end:g}, was the best: a "
                    f"{'smaller' if word == 'smallest' else 'larger'} one might be better."
                )
    return warnings


def arms_still_asking(study: Study, records: Sequence[RunRecord]) -> set[str]:
    return set()
