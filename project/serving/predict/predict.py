"""Predictions of a trained network for picture files: found, read in threads, answered in batches, written out."""

import csv
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TextIO

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from project.errors import InputError, check_in_range, counted, printable
from project.pages import FittingTable, terminal
from project.serving.predict import OutputFormat
from project.serving.predict.picture_reader import PictureBatch, PictureReader, read_batches, suitable_threads
from project.serving.restore import RestoredRun
from project.training.familiarity import UNLIKE_FRACTION

MAX_NAMES = 5
"""How many pictures are named, of those that were inverted and of those that are unlike; the rest is only counted."""
UNLIKE = f"unlike anything it was trained on, as are {UNLIKE_FRACTION:.0%} of its validation pictures"


@dataclass(frozen=True)
class ClassProbability:
    """One class and its probability in [0, 1]; the index is that of the network's output."""

    index: int
    name: str
    probability: float


class Prediction(NamedTuple):
    """What a network answers to one picture.

    Args:
        file: The file as it was given, with [n] for picture n of an IDX file.
        inverted: Whether the picture was inverted for the network.
        top: The most probable classes, the most probable one first; empty for regression.
        value: The value in the target's unit; None for classification.
        unlike: Whether the picture is unlike anything that the network was trained on; None if that is not known.
    """

    file: str
    inverted: bool
    top: tuple[ClassProbability, ...] = ()
    value: float | None = None
    unlike: bool | None = None

    def record(self) -> dict[str, object]:
        """The prediction as plain data: file, class, name, probability, unlike and top, or file, value and unlike."""
        if not self.top:
            return {"file": self.file, "value": self.value, "unlike": self.unlike}
        rows = [{"class": one.index, "name": one.name, "probability": one.probability} for one in self.top]
        return {"file": self.file, **rows[0], "unlike": self.unlike, "top": rows}

    @property
    def answer(self) -> str:
        """The class and its probability, or the value."""
        return f"{self.top[0].name} {self.top[0].probability:.1%}" if self.top else f"{self.value:.4g}"


def predict_files(
    run: RestoredRun,
    files: Sequence[str],
    reader: PictureReader,
    top: int = 3,
    batch_size: int = 256,
    num_threads: int | None = None,
) -> Iterator[tuple[list[Prediction], PictureBatch]]:
    """Predict pictures batch by batch, in the order of the files.

    Args:
        run: The trained network.
        files: The files, as `find_files` returns them.
        reader: The reader that turns files into pictures.
        top: How many of the most probable classes to give, at least 1.
        batch_size: The maximum number of pictures in one forward pass.
        num_threads: How many threads read files; None chooses by the files' sizes.

    Returns:
        For each batch its predictions, one per picture, and the batch itself with the files that could not be read.

    Raises:
        InputError: If `top`, `batch_size` or `num_threads` is below 1, or beyond all bounds.
    """
    if num_threads is None:
        num_threads = suitable_threads(files)
    for name, value in (("top", top), ("batch_size", batch_size), ("num_threads", num_threads)):
        check_in_range(name, value, 1, "3")
    batches = read_batches(reader, files, batch_size, num_threads)
    return ((_predict_batch(run, batch, top) if batch.names else [], batch) for batch in batches)


def _predict_batch(run: RestoredRun, batch: PictureBatch, top: int) -> list[Prediction]:
    answers, inverted, names = run.predict(batch.images), batch.inverted.tolist(), run.class_names
    found = run.unlike(batch.images)
    unlike = [None] * len(answers) if found is None else found.tolist()
    if not names:
        return [
            Prediction(name, turned, value=value, unlike=strange)
            for name, turned, value, strange in zip(batch.names, inverted, answers.tolist(), unlike, strict=True)
        ]
    best = answers.topk(min(top, answers.shape[1]), dim=1)
    tops = [
        tuple(ClassProbability(index, names[index], share) for index, share in zip(indices, shares, strict=True))
        for indices, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return [
        Prediction(name, turned, classes, unlike=strange)
        for name, turned, classes, strange in zip(batch.names, inverted, tops, unlike, strict=True)
    ]


def print_predictions(
    answered: Iterable[tuple[list[Prediction], PictureBatch]],
    num_files: int,
    kind: OutputFormat,
    out: TextIO,
    console: Console,
) -> list[InputError]:
    """Write predictions as they come, and report progress, what was inverted and what could not be read.

    Args:
        answered: The predictions, as `predict_files` returns them.
        num_files: How many files they are from.
        kind: The format of the predictions.
        out: The stream that gets the predictions and nothing else.
        console: The console that gets the rest.

    Returns:
        The errors of the files that could not be read.
    """
    failures: list[InputError] = []
    inverted: list[str] = []
    unlike: list[str] = []
    num_pictures = 0
    columns = (TextColumn("{task.completed:,.0f} of {task.total:,.0f} files"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=num_files)

        def each() -> Iterator[Prediction]:
            nonlocal num_pictures
            for predictions, batch in answered:
                yield from predictions
                num_pictures += len(predictions)
                inverted.extend(one.file for one in predictions if one.inverted)
                unlike.extend(one.file for one in predictions if one.unlike)
                failures.extend(batch.failures)
                progress.advance(task, batch.num_files)

        with warnings.catch_warnings():  # Pillow's warning becomes the picture's own error
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            {"table": _write_table, "json": _write_json, "csv": _write_csv}[kind](each(), out)
    out.flush()
    for done, named in (("inverted", inverted), (UNLIKE, unlike)):
        if named:
            shown = ", ".join(named[:MAX_NAMES]) + (", …" if len(named) > MAX_NAMES else "")
            console.print(f"{done}: {len(named):,} of {num_pictures:,} pictures: {shown}", soft_wrap=True)
    for error in failures:
        console.print(f"error: {error.cause}\n  fix: {error.remedy}", soft_wrap=True)
    if failures:
        console.print(f"{len(failures):,} of {counted(num_files, 'file')} could not be read")
    return failures


def _write_json(predictions: Iterable[Prediction], out: TextIO) -> None:
    separator = "["
    for prediction in predictions:
        out.write(f"{separator}\n{printable(json.dumps(prediction.record(), ensure_ascii=False, allow_nan=False))}")
        separator = ","
    out.write("[]\n" if separator == "[" else "\n]\n")


def _write_csv(predictions: Iterable[Prediction], out: TextIO) -> None:
    writer: csv.DictWriter[str] | None = None
    for prediction in predictions:
        row: dict[str, object] = {"file": printable(prediction.file)} if prediction.top else prediction.record()
        for place, one in enumerate(prediction.top, 1):
            end = f"_{place}" if place > 1 else ""
            row |= {f"class{end}": one.index, f"name{end}": printable(one.name), f"probability{end}": one.probability}
        row["unlike"] = "" if prediction.unlike is None else str(prediction.unlike).lower()
        if writer is None:
            writer = csv.DictWriter(out, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)


def _write_table(predictions: Iterable[Prediction], out: TextIO) -> None:
    table: FittingTable | None = None
    for file, _, top, value, unlike in predictions:
        if table is None:
            columns = ("class", "probability", "then") if top else ("value",)
            table = FittingTable("file", *columns, "unlike", least=("then",))
            table.right("probability", "value")
        strange = {True: "yes", False: "no", None: "unknown"}[unlike]
        if top:
            then = ", ".join(f"{one.name} {one.probability:.1%}" for one in top[1:])
            table.add_row(file, top[0].name, f"{top[0].probability:.1%}", then, strange)
        else:
            table.add_row(file, f"{value:.4g}", strange)
    if table is not None:
        terminal(file=out).print(table)
