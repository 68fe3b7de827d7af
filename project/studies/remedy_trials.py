"""Remedies are tried: the network is trained briefly as it is, and with each of the remedies."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from project.diagnosis.judgement.findings import Finding, combined_remedy
from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.train import train

MAX_TRIAL_EXAMPLES = 10_000
"""A trial takes at most so many training examples."""
TRIAL_EPOCHS = 3


@dataclass(frozen=True)
class Trial:
    """A remedy that was tried.

    Args:
        flags: These were added to the settings; there are none for the network as it is.
        accuracy: The accuracy on validation after the trial's last epoch, in [0, 1]; it is None if the run failed.
        error: It says why the run failed.
    """

    flags: list[str]
    accuracy: float | None
    error: str = ""


def try_remedies(arguments: Sequence[str], findings: Sequence[Finding]) -> list[Trial]:
    """Train the network for a few epochs as it is, and with each remedy; return the trials with the best one first.

    Args:
        arguments: These are the settings on the command line.
        findings: Their remedies are tried one at a time, and all together.
    """
    remedies: list[list[str]] = [[]]
    for flags in [*([flag] for finding in findings for flag in finding.remedy), combined_remedy(findings)]:
        if flags not in remedies:
            remedies.append(flags)
    trials = [_trial(arguments, flags) for flags in remedies]
    return sorted(trials, key=lambda trial: -1.0 if trial.accuracy is None else trial.accuracy, reverse=True)


def _trial(arguments: Sequence[str], flags: list[str]) -> Trial:
    words = [*arguments, *(word for flag in flags for word in flag.split(maxsplit=1))]
    words += [f"--trainer.max_epochs={TRIAL_EPOCHS}", "--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    words += ["--diagnostics.enabled=false", "--patience=0"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        words.append(f"--run_root={folder}")
        try:
            run = build_run(parse_settings([*words, "--run_name=trial"]))
            if run.settings.data.num_train is None and len(run.datamodule.splits["train"]) > MAX_TRIAL_EXAMPLES:
                few = f"--data.num_train={MAX_TRIAL_EXAMPLES}"
                run = build_run(parse_settings([*words, "--run_name=short", few]))
            metrics = train(run)
        except InputError as error:
            return Trial(flags, None, error.cause)
    return Trial(flags, metrics.get("validation/accuracy", metrics["test/accuracy"]))


def trial_table(trials: Sequence[Trial]) -> Table:
    """The trials as a table, with the accuracy that each reached."""
    title = f"Remedies tried for {TRIAL_EPOCHS} epochs on up to {MAX_TRIAL_EXAMPLES:,} examples"
    table = Table("validation accuracy", "settings added", title=title, title_justify="left")
    for trial in trials:
        reached = f"{trial.accuracy:.1%}" if trial.accuracy is not None else f"failed: {trial.error}"
        table.add_row(reached, " ".join(trial.flags) or "(as it is)")
    return table
