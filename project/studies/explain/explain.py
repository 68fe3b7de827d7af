"""`--explain`: try changes of a run's settings in worker processes, print what they are worth, and write it down.

    python scripts/train.py --model.weight_decay 0.5 --explain
    python scripts/diagnose.py runs/fashion_mnist/NAME --explain

docs/diagnostics.md says how to read what it prints.
"""

import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from project.extensions import extension_flags
from project.pages import terminal
from project.runs.parser import trainer_settings
from project.runs.saving.contents import read_metrics
from project.runs.saving.files import write_json
from project.runs.saving.platform_differences import usable_cores
from project.runs.settings import RunSettings
from project.settings import Settings, flatten
from project.studies.explain.bench import Bench, Budget
from project.studies.explain.report import effects_table, explanation, explanation_markdown
from project.studies.explain.search import Search
from project.studies.explain.trials import TrialWorkers
from project.studies.running.progress import LINE_EVERY_S
from project.training.internals import next_event_file

MAX_WORKERS = 8
LAST_WORDS_S = 1.0
"""Seconds of the budget that are kept for ending the processes, the table and the files."""


def explain(
    settings: Settings, remedies: Sequence[Sequence[str]], seconds: float, typed: str, console: Console | None = None
) -> dict[str, Any]:
    """Try changes of settings, print what they are worth, and return it as plain data.

    Args:
        settings: All of the run's settings, by their flags' names.
        remedies: The flags of each finding's remedy, the most severe finding first.
        seconds: How long it may take.
        typed: The command that trains the run as it is.
        console: Where it is printed; standard output, if it is not given.
    """
    console = console or terminal()
    workers = max(1, min(usable_cores(), MAX_WORKERS))
    budget = Budget(seconds - LAST_WORDS_S, workers)
    progress, last_line = terminal(stderr=True), -math.inf
    status = progress.status("") if progress.is_terminal else None
    if status is not None:
        status.start()
    try:
        with TrialWorkers(workers, budget.end) as processes:

            def show(doing: str) -> None:
                nonlocal last_line
                now = time.monotonic()
                line = f"{max(budget.end - now, 0):.0f} s left, {doing}"
                if status is not None:
                    status.update(Text(line))
                elif now - last_line >= LINE_EVERY_S:
                    progress.print(line, soft_wrap=True)
                    last_line = now

            search = Search(Bench(trial_settings(settings), processes.run, budget, show), remedies)
            search.search()
    finally:
        if status is not None:
            status.stop()
    explained = explanation(search, time.monotonic() - budget.start, typed)
    if explained["effects"]:
        console.print(effects_table(explained))
    console.print(explained["sentence"], style="bold")
    if explained["command"]:
        console.print("try  " + explained["command"], soft_wrap=True)
    return explained


def explain_run(folder: Path, settings: RunSettings, seconds: float) -> None:
    """Explain a run that has ended: print it, and write it into its metrics.json and its TensorBoard files.

    Args:
        folder: The run folder.
        settings: Its settings.
        seconds: How long it may take.
    """
    remedies = [finding["remedy"] for finding in read_metrics(folder).get("findings", [])]
    typed = shlex.join(["python", "scripts/train.py", *extension_flags(), "--config", str(folder / "config.yaml")])
    explained = explain(flatten(settings.as_dict()), remedies, seconds, typed)
    # read again: minutes may have passed
    write_json(folder / "metrics.json", read_metrics(folder) | {"explanation": explained})
    from torch.utils.tensorboard import SummaryWriter

    with next_event_file(folder), SummaryWriter(str(folder)) as writer:
        writer.add_text("5_explanation", explanation_markdown(explained))


def trial_settings(settings: Settings) -> Settings:
    """A run's settings as its trials have them: on one device, and without what could name a class."""
    known = {f"trainer.{name}" for name in trainer_settings()}
    plain = {
        name: value
        for name, value in settings.items()
        if not name.startswith("trainer.")
        or (name in known and (value is None or isinstance(value, str | int | float)))
    }
    own = {"trainer.devices": 1, "trainer.num_nodes": 1, "trainer.strategy": "auto", "trainer.callbacks": None}
    own |= {"trainer.profiler": None, "trainer.default_root_dir": None, "trainer.fast_dev_run": False}
    # a shorter trial may end before what these ask for
    own |= {"trainer.min_epochs": None, "trainer.min_steps": None, "trainer.val_check_interval": None}
    own |= {"trainer.check_val_every_n_epoch": 1}
    own |= {"diagnostics.enabled": False, "trainer.limit_test_batches": 0.125}  # the test score decides nothing
    return plain | own | {"run_name": None, "resume": None, "checkpoint_every_n_steps": None}
