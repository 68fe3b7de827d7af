"""Reports as pages, as CSV and on the terminal."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from project.pages import FittingTable, Markdown, markdown, template, terminal
from project.runs.saving.files import write_text
from project.studies.reporting import figures
from project.studies.reporting.formats import format_confidence, format_difference, format_difference_interval
from project.studies.reporting.report import Report, make_report, metric_values
from project.studies.reporting.wording import MARKS, headline, method, provenance_rows, sentence, table_rows
from project.studies.statistics.judge import Judgement
from project.studies.study import RunRecord, Study, format_setting


def write_report(study: Study, records: Sequence[RunRecord], folder: Path) -> Report:
    """Write report.html, report.md, results.csv and the figures into a folder.

    Raises:
        InputError: As `make_report` does.
    """
    report = make_report(study, records)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures.draw(study, _claimed_values(report), report.final, report.chance)
    for name, figure in drawn.items():
        figures.save(figure, folder, name)
    drawings = {name: (folder / f"{name}.svg").read_text(encoding="utf-8") for name in drawn}
    write_text(folder / "report.html", to_html(report, drawings))
    write_text(folder / "report.md", to_markdown(report, [f"{name}.png" for name in drawn]))
    write_text(folder / "results.csv", to_csv(report))
    return replace(report, folder=folder)


def publish(report: Report, folder: Path, command: str) -> None:
    """Write a lesson: README.md with verdicts and table, one figure, and the CSV.

    Args:
        report: The report of the lesson's study.
        folder: The folder of all lessons.
        command: The command that runs the study.
    """
    place = folder / report.study.name
    place.mkdir(parents=True, exist_ok=True)
    figure = figures.overview_figure(report.study, _claimed_values(report), report.final, report.chance)
    figures.save(figure, place, "figure")
    (place / "figure.svg").unlink()
    write_text(place / "README.md", to_markdown(report, ["figure.png"], command))
    write_text(place / "results.csv", to_csv(report))


def report_table(report: Report) -> FittingTable:
    """Every arm with its mean and its difference from the reference, for the terminal."""
    _, rows = table_rows(report)
    headings = ("arm", "n", "mean", "95 % interval", "difference", "p")
    table = FittingTable(*headings, least=("n", "95 % interval"))
    table.title = f"{report.study.metric} by arm; differences from {report.study.reference}, p corrected"
    table.right(*headings[1:])
    for row in rows:
        table.add_row(*(row[column] for column in (0, 1, 2, 4, 5, 7)))
    return table


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the verdicts and the table on the terminal."""
    console = console or terminal()
    study = report.study
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    console.print(report_table(report))
    if study.lesson:
        console.print(f"The notes say: {study.lesson}", style="italic", soft_wrap=True)
    colours = {"supported": "green", "contradicted": "red", "undecided": "yellow"}
    for judgement in report.judgements:
        console.print(f"{MARKS[judgement.name]} {judgement.claim.text}", style=colours[judgement.name], soft_wrap=True)
        if judgement.claim.late:
            console.print(f"  written later: {judgement.claim.late}", style="bold red", soft_wrap=True)
        console.print(f"  {sentence(study, judgement)}", soft_wrap=True)
    console.print(headline(report), style="bold", soft_wrap=True)
    if report.folder is not None:
        console.print(f"report       {report.folder / 'report.html'}", soft_wrap=True)


def to_html(report: Report, drawings: Mapping[str, str]) -> str:
    """The report as one page with its figures inside.

    Args:
        report: The report.
        drawings: The figures as SVG by their names.
    """
    study, inside = report.study, {}
    for name, drawing in drawings.items():
        # ids are unique within a file, but the page holds several
        inside[name] = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", drawing[drawing.index("<svg") :])
    facts = [*provenance_rows(report), *((f"base: {key}", format_setting(value)) for key, value in study.base.items())]
    for arm, settings in study.arms.items():
        said = ", ".join(f"{key} {format_setting(value)}" for key, value in settings.items())
        facts.append((f"arm {arm}", said or "as base"))
    return _fill("report.html.jinja", report, drawings=inside, facts=facts)


def to_markdown(report: Report, pictures: Sequence[str] = (), command: str = "") -> str:
    """The report as Markdown, with pictures by their files' names, and the command that runs the study."""
    claims = [(MARKS[j.name], _claim_cell(j), sentence(report.study, j)) for j in report.judgements]
    values = {"claims": claims, "pictures": pictures, "command": command, "provenance": provenance_rows(report)}
    return _fill("report.md.jinja", report, **values)


def to_csv(report: Report) -> str:
    """Every run as a line: arm, seed, phase, status, the settings that differ, metrics."""
    records = report.records
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    keys = list(dict.fromkeys(key for record in records for key in record.settings if key != "seed_everything"))
    varied = [key for key in keys if len({json.dumps(record.settings.get(key)) for record in records}) > 1]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["arm", "seed", "phase", "status", *varied, *metrics])
    for record in records:
        numbers = [f"{record.metrics[name]:.6g}" if name in record.metrics else "" for name in metrics]
        settings = [record.settings.get(key) for key in varied]
        writer.writerow([record.arm, record.seed, record.phase, record.status, *settings, *numbers])
    return buffer.getvalue()


def to_index(reports: Sequence[Report]) -> str:
    """The index of all lessons, in the order of the notes: every verdict at a glance."""
    reports = sorted(reports, key=lambda report: [int(row) for row in re.findall(r"\d+", " ".join(report.study.notes))])
    judgements = [judgement for report in reports for judgement in report.judgements]
    rows = []
    for report in reports:
        study = report.study
        minutes = sum(record.metrics.get("seconds", 0.0) for record in report.records) / 60
        about = (
            Markdown(f"[{markdown(study.question)}]({study.name}/README.md)"),
            ", ".join(study.notes),
            f"{len(report.records)}, {minutes:.1f} min",
        )
        for judgement in report.judgements:
            rows.append((*about, MARKS[judgement.name], _claim_cell(judgement), _short_outcome(judgement)))
            about = (Markdown(""), "", "")  # said once for each study
    return template("project.studies.reporting", "templates/index.md.jinja").render(
        reports=reports,
        num_runs=sum(len(report.records) for report in reports),
        judgements=judgements,
        counts=", ".join(f"{sum(j.name == name for j in judgements)} {name}" for name in MARKS),
        rows=rows,
        hardware=sorted({value for report in reports for name, value in provenance_rows(report) if name == "hardware"}),
    )


def _claimed_values(report: Report) -> dict[str, figures.Values]:
    """The study's metric, and each further one that claims are about, of the arms that they name."""
    study, values = report.study, {report.study.metric: report.values}
    for claim in study.claims:
        if claim.metric not in values:
            arms = {arm for one in study.claims if one.metric == claim.metric for arm in one.arms}
            found = metric_values(study, report.final, claim.metric)
            values[claim.metric] = {arm: found[arm] if arm in arms else {} for arm in study.arms}
    return {metric: found for metric, found in values.items() if any(found.values())}


def _claim_cell(judgement: Judgement) -> str:
    late = f" **written later: {judgement.claim.late}**" if judgement.claim.late else ""
    return f"`{judgement.claim.text}`{late}"


def _short_outcome(judgement: Judgement) -> str:
    found, metric = judgement.estimate, judgement.claim.metric
    if not found.n:
        return "no runs"
    outcome = f"{judgement.name}: {format_difference(found.mean, metric)}"
    if not found.bounded:
        return outcome
    return f"{outcome} ({format_confidence(found.level)}: {format_difference_interval(found, metric)})"


def _fill(name: str, report: Report, **values: Any) -> str:
    header, rows = table_rows(report)
    return template("project.studies.reporting", f"templates/{name}").render(
        report=report,
        study=report.study,
        headline=headline(report),
        method=method(report),
        marks=MARKS,
        sentence=sentence,
        header=header,
        rows=rows,
        **values,
    )
