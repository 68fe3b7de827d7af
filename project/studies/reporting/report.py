"""What a study's runs say: a table, paired differences, and a verdict on every claim in words.

    python scripts/report.py runs/studies/NAME
    python scripts/report.py runs/fashion_mnist/FIRST runs/fashion_mnist/SECOND

The report is one HTML page that needs nothing beside it, the same as Markdown, and a CSV of every run.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from project.errors import InputError
from project.studies.claims import Claim
from project.studies.reporting.figures import Values
from project.studies.statistics.collapse import collapsed_seeds
from project.studies.statistics.estimates import (
    Estimate,
    estimate,
    interquartile_mean,
    probability_of_improvement,
)
from project.studies.statistics.evidence import chance_of, final_runs, gather
from project.studies.statistics.judge import Judgement, Question, ask_together, judge_study
from project.studies.study import RunRecord, Study
from project.studies.tuning import open_edges

SPLIT_SETTINGS = [f"data.{name}" for name in ("dataset", "num_train", "num_validation", "split_seed", "classes")]
SPLIT_SETTINGS += ["model.task"]
"""Runs that agree in these must have been given the very same examples."""


@dataclass(frozen=True)
class ArmSummary:
    """One arm's row of the table.

    Attributes:
        name: The arm's name.
        result: The study's metric over seeds, with its 95 % interval.
        middle: The interquartile mean over seeds; NaN for few seeds.
        difference: The difference from the reference, paired by seed, at the level at which it was tested; None for the
            reference itself.
        improvement: The probability that a run of the arm is better than one of the reference; NaN for few seeds.
        p: The p of that difference, after Holm's correction over the table; NaN if the study has several looks.
        seconds: The mean time of a training.
        parameters: How many parameters the network has.
        chosen: For each setting that tuning or searching chose its values with the number of seeds.
    """

    name: str
    result: Estimate
    middle: float
    difference: Estimate | None
    improvement: float
    p: float
    seconds: float
    parameters: int
    chosen: dict[str, Counter[Any]]


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
    edges = [f"{reason[0].upper()}{reason[1:]}." for reason in dict.fromkeys(open_edges(study, records).values())]
    return Report(
        study,
        list(records),
        values,
        _summarize_arms(study, final, values),
        judge_study(study, records),
        [
            *study.content.get("remarks", ()),
            *_progress(study, final),
            *_failures(records),
            *_collapses(study, values),
            *_differences(final),
            *edges,
        ],
        chance_of(final),
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
    differences = _differences_from_reference(study, records)
    summaries = []
    for arm in study.arms:
        runs = [record for record in records if record.arm == arm]
        own, reference = list(values[arm].values()), list(values[study.reference].values())
        seconds = [record.metrics["train_seconds"] for record in runs if "train_seconds" in record.metrics]
        parameters = [record.metrics["parameters"] for record in runs if "parameters" in record.metrics]
        spaces = study.tuning.spaces if study.tuning else study.search.spaces if study.search else {}
        settings = [record.settings for record in runs if record.status != "failed"]
        difference, p = differences.get(arm, (None, math.nan))
        summaries.append(
            ArmSummary(
                arm,
                estimate(own, flips=bool(collapsed_seeds(own, study.maximize))),
                interquartile_mean(own),
                difference,
                probability_of_improvement(own, reference, study.maximize) if arm != study.reference else math.nan,
                p,
                fmean(seconds) if seconds else math.nan,
                int(parameters[0]) if parameters else 0,
                {key: Counter(one[key] for one in settings if key in one) for key in spaces},
            )
        )
    return summaries


def _differences_from_reference(study: Study, records: Sequence[RunRecord]) -> dict[str, tuple[Estimate, float]]:
    """Each arm's difference from the reference and its corrected p, tested together.

    With several looks an arm is tested at the last one that its seeds have reached. The levels of all looks hold
    together, so that the interval is right whatever ended the study (repeated confidence intervals, Jennison & Turnbull
    1989); a p that would agree with it does not exist.
    """
    runs, questions = final_runs(records), {}
    for arm in study.arms:
        ended = [seed for seed in study.seeds if (arm, seed) in runs and (study.reference, seed) in runs]
        if arm == study.reference or not ended:
            continue
        look = max(sum(number <= len(ended) for number in study.looks) - 1, 0)
        weights = {arm: 1.0, study.reference: -1.0}
        sample = gather(Claim("", weights, ">", 0.0, study.metric), runs, ended[: study.looks[look]], None).sample
        if sample.n:
            questions[arm] = Question(sample, 0.0, math.inf, look)
    found = ask_together(questions, study.looks, len(questions))
    p_values = {arm: question.sample.p_of_verdict(0.0, math.inf) for arm, question in questions.items()}
    adjusted, largest = {}, 0.0
    for rank, arm in enumerate(sorted(found, key=lambda arm: p_values[arm])):
        largest = max(largest, min(p_values[arm] * (len(found) - rank), 1.0))  # Holm's correction
        adjusted[arm] = (found[arm], math.nan if study.sequential or found[arm].test == "none" else largest)
    return adjusted


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
            warnings.append(
                f"{len(diverged)} of {number} runs of {arm} diverged; they count as the worst result there is: their "
                "accuracy as chance."
            )
    return warnings


def _progress(study: Study, records: Sequence[RunRecord]) -> list[str]:
    """A warning while a study is at work: what it says so far is no verdict."""
    ended = {(record.arm, record.seed) for record in records}
    number = sum(all((arm, seed) in ended for arm in study.arms) for seed in study.seeds)
    if not study.claims or number >= study.looks[0]:
        return []
    return [
        f"Only {number} of {study.looks[0]} seeds have ended for all arms: no claim about the others is judged yet."
    ]


def _collapses(study: Study, values: Values) -> list[str]:
    warnings = []
    for arm, by_seed in values.items():
        number = collapsed_seeds(list(by_seed.values()), study.maximize)
        if number:
            warnings.append(
                f"{arm} collapsed in {number} of {len(by_seed)} seeds: they end far away from its other seeds, so that "
                "its mean says little, and sign flips take the place of Student's t."
            )
    return warnings
