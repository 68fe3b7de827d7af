"""Packages that only a part of the project needs; they are imported where that part begins."""

import importlib
from types import ModuleType

from project.errors import InputError


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: The module's full name.
        extra: The extra of setup.cfg that installs the package, such as demo.

    Raises:
        InputError: If the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or package).partition(".")[0] != package:
            raise
        raise InputError(
            f"{package} is not installed ({error}), which this needs", f"type: pip install -e '.[{extra}]'"
        ) from None
