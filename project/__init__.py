"""A research template for multilayer perceptrons on PyTorch Lightning.

from project import load_run
run = load_run("runs/fashion_mnist/NAME")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from project.serving.restore import restore as load_run

__version__ = "0.1.0"
__all__ = ["__version__", "load_run"]


def __getattr__(name: str) -> Any:
    # imported when asked for: Lightning takes seconds, and most modules of the project do without it
    if name == "load_run":
        from project.serving.restore import restore

        return restore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
