"""Single runs as a study: each run is an arm, or the runs that differ in their seed alone make one."""

import json
from collections.abc import Sequence
from pathlib import Path

from project.errors import InputError
from project.runs.saving.checkpointing import load_checkpoint
from project.runs.saving.contents import read_metrics, read_provenance
from project.runs.saving.files import read_yaml
from project.runs.saving.provenance import origin_of
from project.runs.saving.run_folder import find_run_folder
from project.settings import Settings, flatten
from project.studies.study import OWN_SETTINGS, RunRecord, Study, level_name, numbers_of

NO_DIFFERENCE = (*OWN_SETTINGS, "data.root", "data.download", "trainer.default_root_dir", "config")
"""Runs that differ only in these settings belong to the same arm."""


def compare_runs(paths: Sequence[Path], metric: str) -> tuple[Study, list[RunRecord]]:
    """Read run folders and group them into arms by the settings in which they differ; runs of one arm differ in seed.

    An arm is named by these settings, or, if no two runs belong together, by its run's folder.

    Raises:
        InputError: If there are fewer than two runs, one has not ended, or two have the same arm and seed.
    """
    folders = [find_run_folder(path) for path in paths]
    if len(folders) < 2:
        raise InputError("one run is not a comparison", "name two run folders or more, or a study's folder")
    settings = [flatten(read_yaml(folder / "config.yaml")) for folder in folders]
    keys = list(dict.fromkeys(key for one in settings for key in one if key not in NO_DIFFERENCE))
    varied = [key for key in keys if len({json.dumps(one.get(key), default=str) for one in settings}) > 1]
    names = [",".join(level_name(key, one.get(key)) for key in varied) or "run" for one in settings]
    if len(set(names)) == len(folders):
        own = [folder.resolve() for folder in folders]
        alike = len({folder.name for folder in own}) < len(own)
        names = [f"{folder.parent.name}/{folder.name}" if alike else folder.name for folder in own]
    arms: dict[str, Settings] = {}
    records: dict[tuple[str, int], RunRecord] = {}
    for folder, arm, one in zip(folders, names, settings, strict=True):
        arms.setdefault(arm, {key: one.get(key) for key in varied})
        record = _record(folder, arm, one)
        same = records.setdefault((arm, record.seed), record)
        if same is not record:
            cause = f"{same.folder} and {folder} have the same settings and the same seed"
            raise InputError(cause, "name only one of them")
    question = "What do these runs differ in, and does it matter?"
    base = {key: settings[0][key] for key in keys if key not in varied and key in settings[0]}
    seeds = tuple(sorted({seed for _, seed in records}))
    return Study("runs", question, base, arms, seeds, (len(seeds),), metric, reference=next(iter(arms))), list(
        records.values()
    )


def _record(folder: Path, arm: str, settings: Settings) -> RunRecord:
    metrics = read_metrics(folder)
    if not metrics:
        raise InputError(f"{folder} has no metrics.json: the run has not ended", "wait for it, or leave it out")
    seed = settings.get("seed_everything", 0)
    if not isinstance(seed, int):
        raise InputError(f"{folder / 'config.yaml'}: seed_everything is no whole number", "restore the file")
    last = folder / "checkpoints" / "last.ckpt"
    return RunRecord(
        arm,
        seed=seed,
        status=metrics.get("status", "completed"),
        settings=settings,
        metrics=numbers_of(metrics),
        history=load_checkpoint(last, folder).get("history", []) if last.is_file() else [],
        num_classes=len(metrics.get("test/class_accuracy") or ()),
        origin=origin_of(read_provenance(folder)),
        folder=str(folder),
    )
