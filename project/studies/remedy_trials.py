"""Remedies tried out: the network as it is and with each of them, trained briefly."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from project.diagnosis.judgement.findings import Finding, combined_remedy
from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.train import train

TRIAL_EXAMPLES = 10_000
"""Most training examples of a remedy's trial."""
TRIAL_EPOCHS = 3


@dataclass(frozen=True)
class Trial:
    """A remedy that was tried.

    Args:
        flags: What was added to the settings; empty for the network as it is.
        accuracy: On validation after the trial's last epoch, in [0, 1]; None if the run failed.
        error: Why it failed.
    """

    flags: list[str]
    accuracy: float | None
    error: str = ""


def try_remedies(arguments: Sequence[str], findings: Sequence[Finding]) -> list[Trial]:
    """Train the network as it is and with each remedy for a few epochs; the best first.

    Args:
        arguments: The command line's settings.
        findings: Whose remedies are tried, one at a time and all together.
    """
    remedies: list[list[str]] = [[]]
    for flags in [*([flag] for finding in findings for flag in finding.remedy), combined_remedy(findings)]:
        if flags not in remedies:
            remedies.append(flags)
    trials = [_trial(arguments, flags) for flags in remedies]
    return sorted(trials, key=lambda trial: -1.0 if trial.accuracy is None else -trial.accuracy)


def _trial(arguments: Sequence[str], flags: list[str]) -> Trial:
    folder = tempfile.mkdtemp()
    words = [word for flag in flags for word in flag.split(maxsplit=1)]
    short = [
        f"--trainer.max_epochs={TRIAL_EPOCHS}",
        f"--run_root={folder}",
        "--run_name=trial",
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        "--diagnostics.enabled=false",
        "--patience=0",
    ]
    try:
        run = build_run(parse_settings([*arguments, *words, *short]))
        if run.settings.data.num_train is None and len(run.datamodule.splits["train"]) > TRIAL_EXAMPLES:
            few = f"--data.num_train={TRIAL_EXAMPLES}"
            run = build_run(parse_settings([*arguments, *words, *short, "--run_name=short", few]))
        metrics = train(run)
        return Trial(flags, metrics.get("validation/accuracy", metrics["test/accuracy"]))
    except InputError as error:
        return Trial(flags, None, error.cause)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trial_table(trials: Sequence[Trial]) -> Table:
    """Remedies by what they reached."""
    title = f"Remedies tried for {TRIAL_EPOCHS} epochs on up to {TRIAL_EXAMPLES:,} examples"
    table = Table("validation accuracy", "settings added", title=title, title_justify="left")
    for trial in trials:
        reached = f"{trial.accuracy:.1%}" if trial.accuracy is not None else f"failed: {trial.error}"
        table.add_row(reached, " ".join(trial.flags) or "(as it is)")
    return table
