"""What a study's runs say: table, paired differences, figures and a verdict on every claim, in words.

    python scripts/report.py runs/studies/NAME
    python scripts/report.py runs/fashion_mnist/FIRST runs/fashion_mnist/SECOND

The report is one HTML page that needs nothing beside it, the same as Markdown, and a CSV of every run.
"""

import csv
import html
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from project import figures
from project.errors import InputError
from project.figures import Values, percent_metric
from project.statistics import (
    LEVEL,
    MOST_SEEDS,
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
from project.study import Claim, Range, RunRecord, Settings, Study

SPLIT_SETTINGS = (
    "data.dataset",
    "data.num_train",
    "data.num_validation",
    "data.split_seed",
    "data.classes",
    "model.task",
)
"""Runs that agree in these must have been given the very same examples."""
MARKS: dict[VerdictName, str] = {"supported": "✔", "contradicted": "✘", "undecided": "?"}


@dataclass(frozen=True)
class ArmSummary:
    """One arm's row of the table.

    Attributes:
        name: Of the arm.
        result: Of the study's metric, over seeds.
        difference: From the reference, paired by seed; None for the reference itself.
        p: Of that difference, after Holm's correction over the table.
        seconds: Mean time of a training.
        parameters: Of the network.
        num_failed: Runs without a result.
        num_diverged: Runs whose loss became NaN or infinite.
        chosen: What tuning or searching chose.
    """

    name: str
    result: Estimate
    difference: Difference | None
    p: float
    seconds: float
    parameters: int
    num_failed: int
    num_diverged: int
    chosen: Settings


@dataclass(frozen=True)
class Judgement:
    """A claim and what became of it.

    Attributes:
        claim: As it stands in the study.
        verdict: None where there are no runs to judge by.
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
        records: All its runs, tuning included.
        values: Its metric by arm and seed.
        arms: The table.
        judgements: One for each claim.
        warnings: What the reader must know before believing any of it.
        chance: What guessing gets; None for regression.
        folder: Where it was written, if it was.
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
                sum(record.value(study.metric) is None for record in runs),
                sum(record.status == "diverged" for record in runs),
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
            for term in claim.terms:
                value = term.number if not term.arm else chance if term.arm == "chance" else values[term.arm][seed]
                if value is None:
                    raise InputError(f"claim {claim.text!r}: regression has no chance", "name a number in its place")
                total += term.sign * value
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
    left, right = _sides(claim)
    gap = f"{left} minus {right}" if right else left
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
        more = f"more than {MOST_SEEDS:,} seeds would be needed to decide"
    return f"Undecided. {numbers}; {more}."


def _sides(claim: Claim) -> tuple[str, str]:
    """What is compared, in words: without the 0 that a claim about a difference is held against."""
    sign = next(index for index, word in enumerate(claim.text.split()) if word in (">", "<", "~", "=="))
    words = claim.text.split()
    end = next((i for i, word in enumerate(words) if word in ("by", "within", "on")), len(words))
    left, right = " ".join(words[:sign]), " ".join(words[sign + 1 : end])
    bracket: Callable[[str], str] = lambda side: f"({side})" if " " in side else side  # noqa: E731
    return (left, "") if right in ("0", "0.0") else (bracket(left), bracket(right))


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
    """Warnings of everything in which runs differ and no arm does."""
    warnings = []
    origins = [(record, record.origin) for record in records if record.origin]
    flat = [
        (r, {**{k: v for k, v in o.items() if k not in ("versions", "data", "split")}, **o["versions"]})
        for r, o in origins
    ]
    for name in flat[0][1] if flat else ():
        by_value: dict[str, list[RunRecord]] = {}
        for record, origin in flat:
            by_value.setdefault(json.dumps(origin.get(name)), []).append(record)
        if len(by_value) > 1:
            parts = []
            for value, runs in sorted(by_value.items(), key=lambda item: -len(item[1])):
                arms = sorted({record.arm for record in runs})
                whose = f"{len(runs)} runs" + (f" of {', '.join(arms)}" if len(arms) <= 3 else "")
                parts.append(f"{json.loads(value)} ({whose})")
            effect = "times cannot be compared" if name in ("processor", "gpus") else "what differs may be its doing"
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
    """Warnings where the best of what was tried lies at the edge: the best of all may lie beyond."""
    if study.tuning is None:
        return []
    warnings = []
    for key in study.tuning.spaces:
        tried = sorted({point[key] for point in study.tuning.points if isinstance(point[key], int | float)})
        if len(tried) < 2:
            continue
        for end, word in ((tried[0], "smallest"), (tried[-1], "largest")):
            arms = list(dict.fromkeys(r.arm for r in records if r.settings.get(key) == end))
            if arms and end != 0:  # of nothing there is no less
                warnings.append(
                    f"For {', '.join(arms)} the {word} {key} that was tried, {end:g}, was the best: a "
                    f"{'smaller' if word == 'smallest' else 'larger'} one might be better still."
                )
    return warnings


def format_value(value: float, metric: str) -> str:
    """A metric's value for people: shares as percentages."""
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.2f} %" if percent_metric(metric) else f"{value:.4g}"


def format_difference(value: float, metric: str) -> str:
    """A difference for people: of shares in percentage points."""
    if not math.isfinite(value):
        return "–"
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{100 * abs(value):.2f} points" if percent_metric(metric) else f"{sign}{abs(value):.3g}"


def format_p(p: float) -> str:
    """A p value for people."""
    return "–" if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def format_interval(found: Estimate, formatter: Callable[[float, str], str], metric: str) -> str:
    """An interval for people; a dash where nothing is known."""
    if found.n < 2:
        return "–"
    low, high = formatter(found.low, metric), formatter(found.high, metric)
    for unit in (" %", " points"):
        if low.endswith(unit):
            low = low.removesuffix(unit)
    return f"{low} to {high}"


def headline(report: Report) -> str:
    """How many claims held, in one sentence."""
    counts = {name: sum(j.name == name for j in report.judgements) for name in MARKS}
    if not report.judgements:
        best = _best(report)
        mean = format_value(best.result.mean, report.study.metric)
        return f"The study makes no claim. The best mean has {best.name}: {mean}."
    said = [f"{count} {name}" for name, count in counts.items() if count]
    return f"Of {len(report.judgements)} claim{'' if len(report.judgements) == 1 else 's'}: {', '.join(said)}."


def _best(report: Report) -> ArmSummary:
    known = [arm for arm in report.arms if math.isfinite(arm.result.mean)]
    return (max if report.study.maximize else min)(known, key=lambda arm: arm.result.mean)


def table_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """The table by arm: header and rows."""
    study, metric = report.study, report.study.metric
    header = [
        "arm",
        "n",
        "mean",
        "sd",
        "95 % interval",
        f"against {study.reference}",
        "95 % interval",
        "effect size g",
        "p",
    ]
    header += ["training", "parameters"]
    has_choice = any(arm.chosen for arm in report.arms)
    header += ["chosen"] if has_choice else []
    rows = []
    for arm in report.arms:
        found, difference = arm.result, arm.difference
        row = [
            arm.name,
            str(found.n),
            format_value(found.mean, metric),
            format_value(found.sd, metric),
            format_interval(found, format_value, metric),
        ]
        if difference is None:
            row += ["", "", "", ""]
        else:
            g = difference.effect_size
            row += [
                format_difference(difference.mean, metric),
                format_interval(difference, format_difference, metric),
                f"{g:+.1f}".replace("-", "−") if math.isfinite(g) else "–",
                format_p(arm.p),
            ]
        row += [f"{arm.seconds:.1f} s" if math.isfinite(arm.seconds) else "–", f"{arm.parameters:,}"]
        if has_choice:
            row.append(", ".join(f"{key.rsplit('.', 1)[-1]} {_short(value)}" for key, value in arm.chosen.items()))
        rows.append(row)
    return header, rows


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def method(report: Report) -> str:
    """How the numbers were made, in a few sentences."""
    study = report.study
    first = report.final[0]
    epochs, seeds = first.settings.get("trainer.max_epochs", 15), len(study.seeds)
    text = (
        f"{len(study.arms)} arms with the same {seeds} seeds each (weights, order of batches, dropout), "
        f"{epochs} epochs unless an arm says otherwise. "
    )
    text += (
        "The choice of training and validation examples follows the seed. "
        if study.resample
        else "All runs share one choice of training and validation examples. "
    )
    if study.tuning is not None:
        tried = "; ".join(
            f"{key} from {s.low:g} to {s.high:g}"
            if isinstance(s, Range)
            else f"{key} out of {', '.join(map(_short, s))}"
            for key, s in study.tuning.spaces.items()
        )
        text += (
            f"Tuned for every arm alike by {study.selection_metric}, {len(study.tuning.points)} settings on "
            f"{len(study.tuning.seeds)} seed(s) that the comparison does not use: {tried}. "
        )
    if study.search is not None:
        text += (
            f"Searched with {study.search.trials} trials (TPE, pruned by the median) by {study.selection_metric} on a "
            f"seed that the comparison does not use; what is reported are fresh runs of the winner. "
        )
    text += (
        f"Intervals are Student's t at {LEVEL:.0%} over seeds; they do not hold the chance of which test examples "
        "there are. Differences are paired by seed; their p is of the paired t test, corrected by Holm over the table. "
        "A claim is supported if the interval of its difference lies inside what it allows, contradicted if outside, "
        "with Holm's correction over the claims. Effect size g: mean difference over its own sd (Hedges)."
    )
    return text


def provenance_rows(report: Report) -> list[tuple[str, str]]:
    """Where the runs come from: what all share."""
    origin = next((record.origin for record in report.final if record.origin), None)
    if origin is None:
        return []
    versions = origin["versions"]
    change = f" with uncommitted change {origin['uncommitted change']}" if origin["uncommitted change"] else ""
    return [
        ("code", f"{(origin['commit'] or 'not in git')[:12]}{change}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("hardware", ", ".join([origin["processor"], *origin["gpus"]])),
        ("data", ", ".join(f"{name} {digest[:12]}" for name, digest in origin["data"].items())),
    ]


def to_markdown(report: Report, pictures: Sequence[str] = (), command: str = "") -> str:
    """The report as Markdown."""
    study = report.study
    lines = [f"# {study.question}", "", f"**{headline(report)}**", ""]
    if study.notes:
        lines += [f"Serves {', '.join(study.notes)} of the notes.", ""]
    if study.lesson:
        lines += [f"The notes say: {study.lesson}", ""]
    if command:
        lines += ["```bash", command, "```", ""]
    for warning in report.warnings:
        lines += [f"> **Warning:** {warning}", ""]
    if report.judgements:
        lines += ["## Claims", "", "| | claim | verdict |", "| --- | --- | --- |"]
        lines += [f"| {MARKS[j.name]} | `{j.claim.text}` | {j.sentence} |" for j in report.judgements]
        lines.append("")
    header, rows = table_rows(report)
    lines += [f"## {study.metric}", "", "| " + " | ".join(header) + " |"]
    lines += ["| --- |" + " ---: |" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    for picture in pictures:
        lines += [f"![{Path(picture).stem.replace('_', ' ')}]({picture})", ""]
    lines += ["## How", "", method(report), ""]
    lines += [f"- {name}: {value}" for name, value in provenance_rows(report)]
    return "\n".join(lines).rstrip() + "\n"


def to_csv(report: Report) -> str:
    """Every run as a line: arm, seed, phase, status, settings that differ, metrics."""
    records = report.records
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    keys = list(dict.fromkeys(key for record in records for key in record.settings))
    varied = [
        key
        for key in keys
        if key != "seed_everything" and len({json.dumps(record.settings.get(key)) for record in records}) > 1
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["arm", "seed", "phase", "status", *varied, *metrics])
    for record in records:
        numbers = [f"{record.metrics[name]:.6g}" if name in record.metrics else "" for name in metrics]
        settings = ["" if (value := record.settings.get(key)) is None else value for key in varied]
        writer.writerow([record.arm, record.seed, record.phase, record.status, *settings, *numbers])
    return buffer.getvalue()


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.headline { font-size: 1.1rem; font-weight: 600; margin: .4rem 0 1rem; } .muted { color: #59636e; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #d8dee4; text-align: right; white-space: nowrap; }
th { font-weight: 600; border-bottom: 2px solid #8c959f; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child, .claims td, .plain td { text-align: left; }
.claims td, .plain td { white-space: normal; vertical-align: top; } .claims td:first-child { white-space: nowrap; }
.badge { border-radius: 1rem; color: #fff; font-size: .85rem; font-weight: 600; padding: .1rem .7rem; }
.supported { background: #1a7f37; } .contradicted { background: #b3261e; } .undecided { background: #7a6300; }
.warning { background: #fff3d6; border-left: .4rem solid #d4a72c; margin: .5rem 0; padding: .5rem .9rem; }
code { background: #f1f3f5; border-radius: .25rem; padding: .05rem .3rem; } tr.reference td { background: #f6f8fa; }
figure { margin: 1rem 0; } figure svg { height: auto; max-width: 100%; }
figcaption { color: #59636e; font-size: .9rem; }
"""

CAPTIONS = {
    "results": "Every dot is one seed; the tick is the mean, the bar its 95 % interval.",
    "heat_map": "Means over seeds for each combination.",
    "curves": "Mean over seeds after each epoch; the band reaches from the worst to the best seed.",
    "layers": "Mean over seeds by layer, on a fixed batch. Gradient norms are of one example's loss with respect to "
    "the pre-activations.",
}


def to_html(report: Report, drawings: Mapping[str, str]) -> str:
    """The report as one page with its figures inside.

    Args:
        report: The report.
        drawings: Figures as SVG by their name.
    """
    study, escape = report.study, html.escape
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(study.question)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(study.question)}</h1>",
        f'<p class="headline">{escape(headline(report))}</p>',
    ]
    about = [f"study {study.name}"] + ([f"notes {', '.join(study.notes)}"] if study.notes else [])
    parts.append(f'<p class="muted">{escape(" · ".join(about))}</p>')
    if study.lesson:
        parts.append(f"<p>The notes say: {escape(study.lesson)}</p>")
    parts += [f'<p class="warning" role="alert"><b>Warning.</b> {escape(text)}</p>' for text in report.warnings]
    if report.judgements:
        parts.append('<h2>Claims</h2>\n<div class="wide"><table class="claims">')
        for judgement in report.judgements:
            badge = f'<span class="badge {judgement.name}">{MARKS[judgement.name]} {judgement.name}</span>'
            sentence = judgement.sentence.split(". ", 1)[-1]  # the badge has said the rest
            parts.append(
                f"<tr><td>{badge}</td><td><code>{escape(judgement.claim.text)}</code></td><td>{escape(sentence)}</td></tr>"
            )
        parts.append("</table></div>")
    header, rows = table_rows(report)
    parts.append(f'<h2>{escape(study.metric)} by arm</h2>\n<div class="wide"><table><thead><tr>')
    parts += [f"<th>{escape(name)}</th>" for name in header]
    parts.append("</tr></thead><tbody>")
    for row in rows:
        kind = ' class="reference"' if row[0] == study.reference else ""
        parts.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    parts.append("</tbody></table></div>")
    for name, drawing in drawings.items():
        svg = drawing[drawing.index("<svg") :]
        # ids are unique within a file, but the page holds several
        svg = (
            svg.replace('id="', f'id="{name}-').replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
        )
        title = name.replace("_", " ").capitalize()
        parts.append(f'<h2>{title}</h2>\n<figure role="img" aria-label="{title}">{svg}')
        parts.append(f"<figcaption>{escape(CAPTIONS[name])}</figcaption></figure>")
    parts.append(f"<h2>How</h2>\n<p>{escape(method(report))}</p>")
    parts.append('<div class="wide"><table class="plain">')
    facts = [*provenance_rows(report), *((f"base: {key}", _short(value)) for key, value in study.base.items())]
    facts += [
        (f"arm {arm}", ", ".join(f"{key} {_short(value)}" for key, value in settings.items()) or "as base")
        for arm, settings in study.arms.items()
    ]
    parts += [f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts]
    parts.append("</table></div>\n</body>\n</html>\n")
    return "\n".join(parts)


def write_report(study: Study, records: Sequence[RunRecord], folder: Path) -> Report:
    """Write report.html, report.md, results.csv and the figures into a folder.

    Raises:
        InputError: As `make_report`.
    """
    report = make_report(study, records)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures.draw(study, report.values, report.final, report.chance)
    for name, figure in drawn.items():
        figures.save(figure, folder, name)
    drawings = {name: (folder / f"{name}.svg").read_text(encoding="utf-8") for name in drawn}
    (folder / "report.html").write_text(to_html(report, drawings), encoding="utf-8")
    (folder / "report.md").write_text(to_markdown(report, [f"{name}.png" for name in drawn]), encoding="utf-8")
    (folder / "results.csv").write_text(to_csv(report), encoding="utf-8")
    return Report(**{**vars(report), "folder": folder})


def print_report(report: Report, console: Console | None = None) -> None:
    """The verdicts and the table on the terminal."""
    console = console or Console(highlight=False)
    study = report.study
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    _, rows = table_rows(report)
    table = Table("arm", "n", "mean", "95 % interval", "difference", "p", "time", title_justify="left")
    table.title = f"{study.metric} by arm; differences from {study.reference}, p corrected"
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        table.add_row(*(row[column] for column in (0, 1, 2, 4, 5, 8, 9)))
    console.print(table)
    colours = {"supported": "green", "contradicted": "red", "undecided": "yellow"}
    for judgement in report.judgements:
        console.print(f"{MARKS[judgement.name]} {judgement.claim.text}", style=colours[judgement.name], soft_wrap=True)
        console.print(f"  {judgement.sentence}", soft_wrap=True)
    console.print(headline(report), style="bold", soft_wrap=True)
    if report.folder is not None:
        console.print(f"report       {report.folder / 'report.html'}", soft_wrap=True)


def publish(report: Report, folder: Path, command: str) -> None:
    """Write a lesson: README.md with verdicts and table, one figure, and the CSV.

    Args:
        report: Of the lesson's study.
        folder: Of all lessons.
        command: That makes it.
    """
    place = folder / report.study.name
    place.mkdir(parents=True, exist_ok=True)
    figure = figures.overview_figure(report.study, report.values, report.final, report.chance)
    figures.save(figure, place, "figure")
    (place / "figure.svg").unlink()
    (place / "README.md").write_text(to_markdown(report, ["figure.png"], command), encoding="utf-8")
    (place / "results.csv").write_text(to_csv(report), encoding="utf-8")


def to_index(reports: Sequence[Report]) -> str:
    """The index of all lessons, in the order of the notes: every verdict at a glance."""
    reports = sorted(reports, key=lambda report: [int(row) for row in re.findall(r"\d+", " ".join(report.study.notes))])
    judgements = [judgement for report in reports for judgement in report.judgements]
    counts = ", ".join(f"{sum(j.name == name for j in judgements)} {name}" for name in MARKS)
    lines = ["# The notes' lessons, put to the test", ""]
    lines += [
        f"{len(reports)} studies, {sum(len(report.records) for report in reports):,} trainings, {len(judgements)} "
        f"claims: {counts}. Every claim stood in its study file and could have failed; ✘ is where the evidence "
        "contradicts it.",
        "",
        "`make lessons` runs them all again. [How to ask a question of your own](../studies.md).",
        "",
        "| lesson | notes | runs, time | | claim | outcome |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for report in reports:
        study = report.study
        first = f"[{study.question}]({study.name}/README.md)"
        for judgement in report.judgements:
            about = (first, ", ".join(study.notes), _cost(report)) if first else ("", "", "")
            cells = (*about, MARKS[judgement.name], f"`{judgement.claim.text}`", _short_outcome(judgement))
            lines.append(f"| {' | '.join(cells)} |")
            first = ""
    hardware = sorted({value for report in reports for name, value in provenance_rows(report) if name == "hardware"})
    if hardware:
        lines += ["", f"Times are those of all runs one after another, on {' and '.join(hardware)}."]
    return "\n".join(lines) + "\n"


def _cost(report: Report) -> str:
    minutes = sum(record.metrics.get("seconds", 0.0) for record in report.records) / 60
    return f"{len(report.records)}, {minutes:.1f} min"


def _short_outcome(judgement: Judgement) -> str:
    if judgement.verdict is None:
        return "no runs"
    found, metric = judgement.verdict.test.estimate, judgement.claim.metric
    interval = format_interval(found, format_difference, metric)
    return f"{judgement.name}: {format_difference(found.mean, metric)} ({interval})"
