"""Single runs as a study: the settings in which their folders differ make the arms."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from project.errors import InputError
from project.runs.saving.checkpointing import load_checkpoint
from project.runs.saving.files import read_json, read_yaml
from project.runs.saving.provenance import origin_of
from project.runs.saving.run_folder import find_run_folder
from project.settings import Settings, flatten
from project.studies.reporting.formats import format_setting
from project.studies.study import OWN_SETTINGS, RunRecord, Study

NO_DIFFERENCE = (*OWN_SETTINGS, "data.root", "data.download", "trainer.default_root_dir", "config")
"""Settings in which runs may differ without being different arms."""


def compare_runs(paths: Sequence[Path], metric: str) -> tuple[Study, list[RunRecord]]:
    """Read run folders and group them into arms by the settings in which they differ; seeds make no arm.

    Args:
        paths: Run folders.
        metric: What is compared.

    Raises:
        InputError: If there are fewer than two runs, one has not finished, or two are the same arm and seed.
    """
    folders = [find_run_folder(path) for path in paths]
    if len(folders) < 2:
        raise InputError("one run is no comparison", "name two run folders or more, or a study's folder")
    settings = [flatten(read_yaml(folder / "config.yaml")) for folder in folders]
    keys = list(dict.fromkeys(key for one in settings for key in one if key not in NO_DIFFERENCE))
    varied = [key for key in keys if len({json.dumps(one.get(key), default=str) for one in settings}) > 1]
    arms: dict[str, Settings] = {}
    records = []
    seen: dict[tuple[str, int], Path] = {}
    for folder, one in zip(folders, settings, strict=True):
        levels = [f"{key.rsplit('.', 1)[-1]}={format_setting(one.get(key)).replace(' ', '')}" for key in varied]
        arm = ",".join(levels) or "run"
        arms.setdefault(arm, {key: one.get(key) for key in varied})
        seed = int(one.get("seed_everything", 0))
        if (arm, seed) in seen:
            raise InputError(
                f"{seen[arm, seed]} and {folder} have the same settings and the same seed", "name one of them"
            )
        seen[arm, seed] = folder
        records.append(_record(folder, arm, seed, one))
    base = {key: settings[0][key] for key in keys if key not in varied and key in settings[0]}
    name = "runs"
    question = "What do these runs differ in, and does it matter?"
    seeds = tuple(sorted({record.seed for record in records}))
    return Study(name, question, base, arms, seeds, metric, reference=next(iter(arms))), records


def _record(folder: Path, arm: str, seed: int, settings: Settings) -> RunRecord:
    metrics = read_json(folder / "metrics.json")
    if not metrics:
        raise InputError(f"{folder} has no metrics.json: the run has not ended", "wait for it, or leave it out")
    numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    history: list[dict[str, Any]] = []
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        history = load_checkpoint(last)["history"]
    classes: Any = metrics.get("test/class_accuracy") or ()
    return RunRecord(
        arm,
        seed,
        status=metrics.get("status", "completed"),
        settings=settings,
        metrics=numbers,
        history=history,
        num_classes=len(classes),
        origin=origin_of(read_json(folder / "provenance.json")),
        folder=str(folder),
    )
