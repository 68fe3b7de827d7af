"""Reports written to a folder or printed."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from project.studies.reporting import figures
from project.studies.reporting.html import to_html
from project.studies.reporting.markdown import to_csv, to_markdown
from project.studies.reporting.report import Report, make_report
from project.studies.reporting.wording import MARKS, headline, table_rows
from project.studies.study import RunRecord, Study


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
