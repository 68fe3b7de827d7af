"""Predictions of a trained network for picture files: found, read in threads, answered in batches, written out."""

import csv
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from project.errors import InputError
from project.serving.predict.picture_reader import PictureBatch, PictureReader, read_batches, suitable_threads
from project.serving.restore import RestoredRun

OutputFormat = Literal["table", "json", "csv"]
MOST_NAMES = 5
"""Inverted pictures that are named; more are counted."""


@dataclass(frozen=True)
class ClassProbability:
    """One class and how probable it is.

    Args:
        index: Of the network's output.
        name: The class's.
        probability: In [0, 1].
    """

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture.

    Args:
        file: The file as it was given, with [n] for picture n of an IDX file.
        inverted: Whether it was inverted before.
        top: The most probable classes, most probable first; empty for regression.
        value: In the target's unit; None for classification.
    """

    file: str
    inverted: bool
    top: tuple[ClassProbability, ...] = ()
    value: float | None = None


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
        files: From `find_files`.
        reader: How files become pictures.
        top: Most probable classes to tell, at least 1.
        batch_size: Most pictures in one forward pass.
        num_threads: That read files; what suits their sizes if None.

    Returns:
        For each batch its predictions, one for each of its pictures, and the batch with what could not be read.

    Raises:
        InputError: If `top`, `batch_size` or `num_threads` is below 1.
    """
    if num_threads is None:
        num_threads = suitable_threads(files)
    for name, value in (("top", top), ("batch_size", batch_size), ("num_threads", num_threads)):
        if value < 1:
            raise InputError(f"{name} is {value}, but must be at least 1", f"type for example --{name} 3")
    batches = read_batches(reader, files, batch_size, num_threads)
    return ((_predict_batch(run, batch, top) if batch.names else [], batch) for batch in batches)


def _predict_batch(run: RestoredRun, batch: PictureBatch, top: int) -> list[Prediction]:
    answers, inverted = run.predict(batch.images), batch.inverted.tolist()
    if not run.class_names:
        values = answers.tolist()
        return [Prediction(*row) for row in zip(batch.names, inverted, [()] * len(values), values, strict=True)]
    best = answers.topk(min(top, answers.shape[1]), dim=1)
    names = run.class_names
    return [
        Prediction(
            file,
            turned,
            tuple(ClassProbability(index, names[index], share) for index, share in zip(indices, shares, strict=True)),
        )
        for file, turned, indices, shares in zip(
            batch.names, inverted, best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]


def print_predictions(
    answered: Iterable[tuple[list[Prediction], PictureBatch]],
    num_files: int,
    kind: OutputFormat,
    out: TextIO,
    console: Console,
) -> list[InputError]:
    """Write predictions as they come, and beside them a progress bar, what was inverted and what could not be read.

    Args:
        answered: From `predict_files`.
        num_files: How many files that are.
        kind: How to write the predictions.
        out: Gets the predictions and nothing else.
        console: Gets the rest.

    Returns:
        What was wrong with each file that could not be read.
    """
    failures: list[InputError] = []
    inverted: list[str] = []
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
                failures.extend(batch.failures)
                progress.advance(task, batch.num_files)

        with warnings.catch_warnings():  # Pillow's warning becomes the picture's own error
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            write_predictions(each(), kind, out)
    out.flush()
    if inverted:
        shown = ", ".join(inverted[:MOST_NAMES]) + (", …" if len(inverted) > MOST_NAMES else "")
        console.print(f"inverted {len(inverted):,} of {num_pictures:,} pictures: {shown}", markup=False, soft_wrap=True)
    for error in failures:
        console.print(f"error: {error.cause}\n  fix: {error.remedy}", markup=False, soft_wrap=True)
    if failures:
        console.print(f"{len(failures):,} of {num_files:,} files could not be read", markup=False)
    return failures


def record(prediction: Prediction) -> dict[str, object]:
    """A prediction as plain data: file, class, name, probability and top, or file and value."""
    if not prediction.top:
        return {"file": prediction.file, "value": prediction.value}
    rows = [{"class": one.index, "name": one.name, "probability": one.probability} for one in prediction.top]
    return {"file": prediction.file, **rows[0], "top": rows}


def write_predictions(predictions: Iterable[Prediction], kind: OutputFormat, out: TextIO) -> None:
    """Write predictions: a table for people, a list of objects, or rows with a header."""
    {"table": _write_table, "json": _write_json, "csv": _write_csv}[kind](predictions, out)


def _write_json(predictions: Iterable[Prediction], out: TextIO) -> None:
    separator = "["
    for prediction in predictions:
        out.write(f"{separator}\n{json.dumps(record(prediction), ensure_ascii=False, allow_nan=False)}")
        separator = ","
    out.write("[]\n" if separator == "[" else "\n]\n")


def _write_csv(predictions: Iterable[Prediction], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    header: list[str] = []
    for prediction in predictions:
        row: list[object] = [prediction.file]
        for one in prediction.top:
            row += [one.index, one.name, one.probability]
        if not header:
            header = ["file"]
            for place in range(1, len(prediction.top) + 1):
                header += [name if place == 1 else f"{name}_{place}" for name in ("class", "name", "probability")]
            if not prediction.top:
                header.append("value")
            writer.writerow(header)
        writer.writerow(row if prediction.top else [*row, prediction.value])


def _write_table(predictions: Iterable[Prediction], out: TextIO) -> None:
    table: Table | None = None
    for prediction in predictions:
        if table is None:
            words = ("class", "probability", "then") if prediction.top else ("value",)
            table = Table("file", *words)
            table.columns[0].overflow = "fold"
            table.columns[2 if prediction.top else 1].justify = "right"
        if prediction.top:
            first, *others = prediction.top
            then = ", ".join(f"{escape(one.name)} {one.probability:.1%}" for one in others)
            table.add_row(escape(prediction.file), escape(first.name), f"{first.probability:.1%}", then)
        else:
            table.add_row(escape(prediction.file), f"{prediction.value:.4g}")
    if table is not None:
        Console(file=out, highlight=False).print(table)
