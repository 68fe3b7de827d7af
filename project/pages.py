"""How pages are written: Markdown tables, pictures, and Jinja2 templates that lie beside the module that fills them."""

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from project.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[int] = ()) -> str:
    """A Markdown table. What would break a cell, a bar or a line's end, is escaped.

    Args:
        header: The columns' titles.
        rows: The cells of each row, as many as there are titles.
        right: The numbers of the columns that are aligned to the right.
    """
    rule = ["---:" if number in right else "---" for number in range(len(header))]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, rule, *rows)]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in cells)


@lru_cache
def template(package: str, path: str) -> "Template":
    """A Jinja2 template. One whose name ends in .html.jinja escapes every value that it is given.

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
