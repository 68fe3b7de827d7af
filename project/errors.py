"""The project's own errors. Each names the cause and the remedy; a script prints both and no traceback."""

from collections.abc import Collection


class InputError(ValueError):
    """Something the user gave is wrong: a setting, a file, a folder. Scripts exit with status 2.

    Args:
        cause: One line: what was found, and what was expected.
        remedy: One line: what to type or do instead.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy


class RunError(RuntimeError):
    """Something failed while running that no check could see before. Scripts exit with status 1.

    Args:
        cause: One line: what happened, and where.
        remedy: One line: what to type or do next.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy


def check_choice(kind: str, name: str, choices: Collection[str]) -> None:
    """Refuse a name that is not among the choices.

    Args:
        kind: What is chosen, for the message, such as `activation`.
        name: The name that the user gave.
        choices: Every name that is known, such as the keys of a table.

    Raises:
        InputError: If the name is unknown; its remedy lists the choices.
    """
    if name not in choices:
        raise InputError(f"unknown {kind} {name!r}", "choose one of: " + ", ".join(choices))
