"""Whether a table can be read on a terminal of some width: nothing cut, no word torn apart, nothing lost silently."""

import io
import re
from typing import cast

from rich.table import Table

from project.pages import terminal

WIDTHS = (80, 120, 200)


def shown(table: Table, width: int) -> str:
    console = terminal(file=io.StringIO(), width=width)
    console.print(table)
    return cast(io.StringIO, console.file).getvalue()


def check_readable(table: Table, width: int, *important: str) -> str:
    """Check a table as it is printed, and return that.

    Args:
        table: The table.
        width: Of the terminal, in characters.
        important: The titles of the columns that must be there.
    """
    text = shown(table, width)
    assert max(map(len, text.splitlines())) <= width
    left_out = " ".join(text.partition("Left out because the terminal is narrow: ")[2].split()).rstrip(".").split(", ")
    words = set(re.split(r"[\s│┃]+", text))
    headers = [" ".join(str(column.header).split()) for column in table.columns]
    assert set(important) <= set(headers) - set(left_out)
    for header, column in zip(headers, table.columns, strict=True):
        if header not in left_out:
            for cell in (header, *map(str, column.cells)):
                assert set(cell.split()) <= words, (header, cell, text)
    return text
