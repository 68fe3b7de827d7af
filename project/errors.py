"""The project's own errors. Each names the cause and the remedy; a script prints both and no traceback."""


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
