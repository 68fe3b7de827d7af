"""A research template for multilayer perceptrons on PyTorch Lightning.

from project import build_run, load_run, train
run = build_run({"model": {"depth": 3}})
metrics = train(run)
restored = load_run(run.folder)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from project.threads import bound_waiting

if TYPE_CHECKING:
    from project.data.datamodule import ImageDataModule
    from project.runs.build import build_run
    from project.runs.train import train
    from project.serving.restore import restore as load_run
    from project.training.module import ImageModule

__version__ = "0.1.0"
__all__ = ["ImageDataModule", "ImageModule", "__version__", "build_run", "load_run", "train"]
_PLACES = {
    "ImageDataModule": ("project.data.datamodule", "ImageDataModule"),
    "ImageModule": ("project.training.module", "ImageModule"),
    "build_run": ("project.runs.build", "build_run"),
    "load_run": ("project.serving.restore", "restore"),
    "train": ("project.runs.train", "train"),
}

bound_waiting()  # here, because it must come before torch is loaded


def __getattr__(name: str) -> Any:
    # imported when asked for: Lightning takes seconds, and most modules of the project do without it
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
