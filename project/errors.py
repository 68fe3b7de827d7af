"""The project's own errors. Each names the cause and the remedy; a script prints both and no traceback."""

import re

MAX_NUMBER = 10**9
"""The largest number of anything (examples, steps, epochs, …) that a setting can ask for."""
MAX_SEED = 2**32 - 1
"""The largest seed; numpy takes no larger one."""
MAX_LINE = 2000
"""Characters of a line of an error: a value of a file may be of any length."""
_UNSEEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 epoch, 2 epochs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str, kept: str = "") -> str:
    """A text as a terminal may show it, whoever wrote it: what would move the cursor or hide words is spelled out.

    Args:
        text: The text.
        kept: Control characters that stay as they are, such as the ends of lines.

    Returns:
        The text with control characters, signs that change the direction of writing, and parts of characters that no
        text has by themselves, as they stand in JSON: \\u001b.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in kept else f"\\u{ord(found[0]):04x}", text)


class _Explained(Exception):  # noqa: N818 - the two below are the errors
    """An error in two lines.

    Args:
        cause: One line that says what was found, and what was expected.
        remedy: One line that says what to type or do.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause, self.remedy = (_line(text) for text in (cause, remedy))
        super().__init__(f"{self.cause}\n{self.remedy}")


def _line(text: str) -> str:
    line = printable(text.replace("\n", " "))
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…"


class InputError(_Explained, ValueError):
    """Something the user gave is wrong: a setting, a file, a folder. Scripts exit with status 2."""


class RunError(_Explained, RuntimeError):
    """Something failed while running that no check could see before. Scripts exit with status 1."""


class DivergenceError(RunError):
    """The loss or a weight is NaN or infinite."""


def check_in_range(
    name: str, value: float | None, minimum: float, example: str, maximum: float = MAX_NUMBER, remedy: str = ""
) -> None:
    """Refuse a setting that is too small or too large; None means that it was not given.

    Args:
        name: The setting's name as it is typed, such as `data.batch_size`.
        value: What was given.
        minimum: The smallest value that makes sense.
        example: A value that the remedy shows.
        maximum: The largest value that makes sense.
        remedy: What to do, in place of typing the example.

    Raises:
        InputError: If the value is out of range, or not a number.
    """
    if value is None or minimum <= value <= maximum:  # NaN fails every comparison
        return
    bound = f"at most {maximum:,}" if value > maximum else f"at least {minimum:,}"
    raise InputError(f"{name} is {value:g}, but must be {bound}", remedy or f"type for example --{name} {example}")


def check_text(name: str, value: object, example: str) -> None:
    """Refuse a text that is empty, begins or ends with a blank, or has characters that no terminal shows.

    Args:
        name: The setting's name as it is typed, such as `data.root`.
        value: What was given; what is no text is not checked.
        example: What the remedy shows after the setting's name.

    Raises:
        InputError: If the text can only be a mistake.
    """
    if not isinstance(value, str) or (value and value == value.strip() and value.isprintable()):
        return
    found = "empty" if not value else repr(value)
    expected = "a text" if not value else "a text without blanks at its ends and without control characters"
    raise InputError(f"{name} is {found}, but must be {expected}", f"type for example --{name} {example}")
