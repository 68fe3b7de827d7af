"""How text is shown: on the terminal, in Markdown, and by Jinja2 templates that lie beside the module that fills them.

What a run folder or a study contains may be a stranger's. On a terminal it goes through `terminal`, in Markdown through
`markdown`, and HTML is escaped by the templates: so it is seen as text, whatever it is.
"""

import copy
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Column, Table

from project.errors import InputError, printable

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure


class _AsText(RenderHook):
    """Makes what a console prints printable, after it was laid out."""

    def process_renderables(self, renderables: "list[ConsoleRenderable]") -> "list[ConsoleRenderable]":
        return [_Filtered(renderable) for renderable in renderables]


class _Filtered:
    def __init__(self, inner: "ConsoleRenderable") -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        for part in console.render(self.inner, options):
            yield part if part.control else Segment(printable(part.text, kept="\n"), part.style)


def terminal(stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console that shows every text as it is: no markup, and no escape sequence but its own colours."""
    console = Console(stderr=stderr, file=file, width=width, highlight=False, markup=False, emoji=False)
    console.push_render_hook(_AsText())
    return console


class FittingTable(Table):
    """A table that leaves out columns where the terminal is too narrow, and says which, instead of cutting cells.

    A column that may wrap needs its longest word. What does not fit when all that may be left out is left out is
    folded.

    Args:
        headers: The columns' titles.
        least: The titles of the columns that may be left out, the least important first.
        options: What a `rich.table.Table` takes.
    """

    def __init__(self, *headers: str, least: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*headers, title_justify="left", caption_justify="left", **options)
        self.least = tuple(least)
        for column in self.columns:
            column.overflow = "fold"

    def right(self, *headers: str) -> None:
        """Align columns of numbers to the right, and never wrap them."""
        for column in self.columns:
            if column.header in headers:
                column.justify, column.no_wrap = "right", True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, left_out = copy.copy(self), list[str]()
        for header in self.least:
            if shown.needed_width(console) <= options.max_width:
                break
            shown.columns = [column for column in shown.columns if column.header != header]
            left_out.append(" ".join(header.split()))
        if left_out:
            said = f"Left out because the terminal is narrow: {', '.join(left_out)}."
            shown.caption = f"{self.caption} {said}" if self.caption else said
        if shown.needed_width(console) <= options.max_width:
            # rich narrows the widest column first, and would tear its words: where they are single, it must not
            sizes = [(column, *_longest(console, column)) for column in shown.columns]
            shown.columns = [replace(column, no_wrap=True) if word == line else column for column, word, line in sizes]
        yield from Table.__rich_console__(shown, console, options)

    def needed_width(self, console: Console) -> int:
        """Characters of a line in which no word is torn apart."""
        sizes = [(column.no_wrap, *_longest(console, column)) for column in self.columns]
        beside = self.padding[1] + self.padding[3] + 1  # with a line between
        return sum((line if whole else word) + beside for whole, word, line in sizes) + 1


def _longest(console: Console, column: Column) -> tuple[int, int]:
    """The lengths of a column's longest word and of its longest line."""
    wide = console.options.update(max_width=10_000)
    sizes = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
    return max(size.minimum for size in sizes), max(size.maximum for size in sizes)


class Markdown(str):
    """A text that is Markdown already."""

    __slots__ = ()


def markdown(value: object) -> "Markdown":
    """A value as Markdown shows it in one line, without HTML, pictures and links of its own."""
    if isinstance(value, Markdown):
        return value
    text = printable(" ".join(str(value).split("\n")))
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)  # a lone < is no HTML
    return Markdown(text.replace("](", "]\\("))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[int] = ()) -> Markdown:
    """A Markdown table. What would break a cell, a bar or a line's end, is escaped.

    Args:
        header: The columns' titles.
        rows: The cells of each row, as many as there are titles.
        right: The numbers of the columns that are aligned to the right.
    """
    rule = ["---:" if number in right else "---" for number in range(len(header))]
    cells = [[markdown(cell).replace("|", "\\|") for cell in row] for row in (header, rule, *rows)]
    return Markdown("\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in cells))


@lru_cache
def template(package: str, path: str) -> "Template":
    """A Jinja2 template. One whose name ends in .html.jinja escapes every value that it is given, and
    one whose name ends in .md.jinja lets each pass through `markdown`.

    Args:
        package: The package whose folder holds it, such as `project.serving.demo`.
        path: The file's path in that folder.
    """
    # imported when asked for: most of what writes tables fills no template
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=select_autoescape(("html.jinja",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=markdown if path.endswith(".md.jinja") else None,
    )
    environment.globals["markdown_table"] = markdown_table
    return environment.get_template(path)


def save_picture(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, and make its folder where needed.

    Raises:
        InputError: If it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise InputError(
            f"the figure cannot be written to {path}: {error.strerror}", "type --figure FILE.png"
        ) from None
