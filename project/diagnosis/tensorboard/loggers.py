"""Text and pictures for every logger that can take them: TensorBoard, MLflow, and Weights & Biases."""

from typing import Any, cast

import numpy as np
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

TAKERS = (TensorBoardLogger, MLFlowLogger, WandbLogger)
"""The loggers that take more than numbers."""


def takes_pictures(trainer: Trainer) -> bool:
    """Whether this process has a logger that takes text and pictures, so that it is worth making them."""
    return trainer.is_global_zero and any(isinstance(logger, TAKERS) for logger in trainer.loggers)


def add_text(trainer: Trainer, tag: str, markdown: str, step: int = 0) -> None:
    """Give Markdown to the loggers that take text."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(tag, markdown, step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_text(cast(str, logger.run_id), markdown, f"{tag}.md")
        elif isinstance(logger, WandbLogger):
            logger.log_text(tag, columns=["text"], data=[[markdown]], step=step)


def add_picture(trainer: Trainer, tag: str, picture: "np.ndarray[Any, Any]", step: int) -> None:
    """Give a picture to the loggers that take pictures.

    Args:
        trainer: Its loggers get the picture.
        tag: Group and name, such as `pictures/confusion_matrix`.
        picture: Bytes, (height, width, 3).
        step: The optimizer step that it belongs to.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, picture, step, dataformats="HWC")
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(cast(str, logger.run_id), picture, f"{tag}/step_{step:07d}.png")
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [picture], step=step)
