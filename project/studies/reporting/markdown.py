"""A report as Markdown and CSV."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from project.studies.reporting.formats import format_difference, format_interval
from project.studies.reporting.report import Judgement, Report
from project.studies.reporting.wording import MARKS, headline, method, provenance_rows, table_rows


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
