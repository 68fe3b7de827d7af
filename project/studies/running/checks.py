"""What is checked of a study before anything runs."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from project.errors import InputError
from project.runs.parser import settings_of
from project.settings import Settings, nest
from project.studies.claims import naming
from project.studies.study import Range, Study


def check_settings(study: Study, with_trainer: bool = False) -> None:
    """Refuse a study with a wrong setting in any of its runs before anything runs.

    Args:
        study: The study.
        with_trainer: Whether the values of the Trainer's settings are checked too, for which Lightning is loaded.

    Raises:
        InputError: If a setting is wrong, or if a run needs several devices; the cause names the arm.
    """
    points: Sequence[Settings] = study.tuning.points if study.tuning else [{}]
    if study.search is not None:
        # every value of a list, and the ends of a range
        spaces = {key: [s.low, s.high] if isinstance(s, Range) else s for key, s in study.search.spaces.items()}
        rows = zip_longest(*spaces.values())
        points = [{k: v for k, v in zip(spaces, row, strict=True) if v is not None} for row in rows]
    for arm in study.arms:
        for point in points:
            with naming(f"study {study.name}, arm {arm}"):
                trainer = settings_of(nest(study.settings(arm, 0) | point), with_trainer).trainer
                _check_devices(trainer)


def _check_devices(trainer: Mapping[str, Any]) -> None:
    devices = trainer.get("devices", "auto")
    several = devices not in (None, "auto", 1, "1", [0], "0") or trainer.get("num_nodes", 1) not in (None, 1)
    if several:
        raise InputError(
            "its runs need several devices, but each run of a study has one worker, which is one process",
            "leave out trainer.devices and trainer.num_nodes; --workers 4 trains four runs at the same time",
        )
