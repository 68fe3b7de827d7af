"""The project's own errors. Each names the cause and the remedy; a script prints both and no traceback."""


class _Explained(Exception):  # noqa: N818 - the two below are the errors
    """An error in two lines.

    Args:
        cause: One line that says what was found, and what was expected.
        remedy: One line that says what to type or do.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy


class InputError(_Explained, ValueError):
    """Something the user gave is wrong: a setting, a file, a folder. Scripts exit with status 2."""


class RunError(_Explained, RuntimeError):
    """Something failed while running that no check could see before. Scripts exit with status 1."""


class DivergenceError(RunError):
    """The loss or a weight is NaN or infinite."""


def check_at_least(name: str, value: float | None, minimum: float, example: str) -> None:
    """Refuse a setting that is too small; None means that it was not given.

    Args:
        name: The setting's name as it is typed, such as `data.batch_size`.
        value: What was given.
        minimum: The smallest value that makes sense.
        example: A value that the remedy shows.

    Raises:
        InputError: If the value is smaller than the minimum, or not a number.
    """
    if value is not None and not value >= minimum:  # NaN fails every comparison
        raise InputError(
            f"{name} is {value:g}, but must be at least {minimum:g}", f"type for example --{name} {example}"
        )
