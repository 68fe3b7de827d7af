"""What was found by trying, in words: advice with measured effects, the flags to type, a table, and plain data."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from project.errors import counted
from project.pages import FittingTable, markdown, markdown_table
from project.settings import Settings
from project.studies.explain.candidates import key, short_words, shown_value, typed_value
from project.studies.explain.effects import Effect
from project.studies.explain.search import Search
from project.studies.explain.sizes import Size, resize

MAX_ROWS = 14
"""Rows of the table; metrics.json has all trials."""
WORDS = {"num_train": "training examples", "gradient_clip_val": "gradient clipping", "max_epochs": "epochs"}


def explanation(search: Search, seconds: float, typed: str) -> dict[str, Any]:
    """What metrics.json keeps of a search under `explanation`.

    Args:
        search: It has ended.
        seconds: How long it took.
        typed: The command that trains the run as it is.
    """
    effects = [_effect_record(search, changes, size) for changes, size in _compared(search)]
    chosen = [_advice(search, changes) for changes in (search.chosen, search.keeping) if changes]
    helping = [advice for advice in chosen if advice["helps"]]
    longer = [_advice(search, changes) for changes in search.longer]
    longer_helping = [advice for advice in longer if advice["helps"]]
    flags: list[str] = (helping or longer_helping or [{"flags": []}])[0]["flags"]
    return {
        "sentence": _sentence(search, chosen, longer, effects),
        "flags": flags,
        "command": " ".join([typed, *flags]) if flags else "",
        "only_longer_helps": not helping and bool(longer_helping),
        "advice": chosen,
        "longer": longer,
        "effects": effects,
        "trials": [_trial_record(search, index) for index in range(len(search.bench.trials))],
        "seconds": seconds,
    }


def flag_words(changes: Settings) -> list[str]:
    """The flags to type for some changes, each as one text for a shell."""
    return [f"--{name} {shlex.quote(typed_value(value))}" for name, value in changes.items()]


def change_words(settings: Settings, changes: Settings) -> str:
    """Some changes in words: weight decay 0 instead of 0.5."""
    parts = []
    for name, value in changes.items():
        last = name.rpartition(".")[2]
        parts.append(
            f"{WORDS.get(last, last.replace('_', ' '))} {shown_value(name, value)} instead of "
            f"{shown_value(name, settings.get(name))}"
        )
    return ", ".join(parts)


def effect_words(effect: Effect) -> str:
    """The points with their interval: +3.1 points (2.6 to 3.6)."""
    if not effect.seeds:
        return "not tried in time"
    interval = (
        "" if effect.low is None or effect.high is None else f" ({_points(effect.low)} to {_points(effect.high)})"
    )
    return f"{effect.points:+.1f} points{interval}".replace("-", "−")


def effects_table(explained: dict[str, Any]) -> Table:
    """The best changes and what they are worth, in 80 columns."""
    rows = explained["effects"]
    title = "Changes tried, and the points that each gains over the run's own settings"
    headings = ("change", "points", "95 % interval", "seeds", "trained for")
    table = FittingTable(*headings, title=title, least=("trained for", "seeds"))
    table.right(*headings[1:])
    for row, following in zip(rows[:MAX_ROWS], [*rows[1:], None], strict=False):
        interval = "–" if row["low"] is None else f"{_points(row['low'])} to {_points(row['high'])}"
        length = f"{row['epochs']} × {row['examples'] or 0:,}"
        short = short_words(row["changes"])
        points = f"{row['points']:+.1f}".replace("-", "−")
        failed = f" ({row['status']})" if row["status"] in ("diverged", "failed") else ""
        last = following is not None and following["screened_only"] != row["screened_only"]
        table.add_row(short + failed, points, interval, str(row["seeds"]), length, end_section=last)
    more = f"The best {MAX_ROWS} of {len(rows)}. " if len(rows) > MAX_ROWS else ""
    table.caption = f"{more}Trained for: epochs × examples."
    return table


def explanation_markdown(explained: dict[str, Any]) -> str:
    """The advice and all effects for TensorBoard's Text tab."""
    rows = [
        (
            f"`{' '.join(row['flags'])}`",
            f"{row['points']:+.1f}",
            "–" if row["low"] is None else f"{row['low']:.1f} to {row['high']:.1f}",
            row["seeds"],
        )
        for row in explained["effects"]
    ]
    table = markdown_table(["change", "points", "95 % interval", "seeds"], rows)
    return f"{markdown(explained['sentence'])}\n\n{table}"


def _sentence(
    search: Search,
    chosen: Sequence[dict[str, Any]],
    longer: Sequence[dict[str, Any]],
    effects: Sequence[dict[str, Any]],
) -> str:
    count = len({key(trial.changes) for trial in search.bench.trials if trial.changes})
    if not count:
        return "There was no time to try anything: give it more --explain_seconds."
    helping = [advice for advice in chosen if advice["helps"]]
    sentences = []
    if helping:
        sentences.append(f"What helps: {helping[0]['words']}.")
        sentences += [f"With the network as it is: {other['words']}." for other in helping[1:]]
    else:
        least = f" The best of them: {chosen[0]['words']}." if chosen else ""
        sentences.append(f"None of the {count} changes that were tried helps beyond noise.{least}")
    singles = [
        f"{change_words(search.bench.settings, row['changes'])}: {effect_words(_effect_of(row))}"
        for row in effects
        if row["points"] >= 0.1
        and len(row["changes"]) == 1
        and all(row["changes"] != advice["changes"] for advice in [*helping, *longer])
    ][:2]
    if helping and singles:
        sentences.append(f"One at a time: {'; '.join(singles)}.")
    sentences += [f"A longer training: {advice['words']}." for advice in longer]
    return " ".join(sentences)


def _advice(search: Search, changes: Settings) -> dict[str, Any]:
    """What was chosen, with its effect on the seeds that did not choose it."""
    effect = search.bench.effect(changes, search.size, search.fresh_seeds)
    seeds = counted(effect.seeds, "seed")
    amount = effect_words(effect).rstrip(")")
    joint = "; " if "(" in amount else " ("
    words = f"{change_words(search.bench.settings, changes)}: {amount}{joint}{seeds}, {_length(search, changes)})"
    return {"changes": changes, "flags": flag_words(changes), "words": words, "helps": effect.helps} | asdict(effect)


def _length(search: Search, changes: Settings) -> str:
    trial = next((t for t in search.bench.trials if t.size == search.size and t.changes == changes), None)
    if trial is None:
        return "no trial"
    batches = f" in batches of {trial.settings['data.batch_size']}" if search.size.batch_divisor > 1 else ""
    epochs = trial.settings.get("trainer.max_epochs")
    return f"{counted(epochs or 0, 'epoch')} on {counted(trial.examples or 0, 'example')}{batches}"


def _compared(search: Search) -> list[tuple[Settings, Size]]:
    """Every change that was tried with the size of its longest trials, the best first."""
    found: dict[str, tuple[Settings, Size]] = {}
    for size in (search.screening, search.size):
        for trial in search.bench.trials:
            if trial.size == size and trial.changes and search.bench.effect(trial.changes, size).seeds:
                found[key(trial.changes)] = (trial.changes, size)
    fully = {name: search.bench.effect(*pair) for name, pair in found.items()}
    # those of the longer trials come first: the short ones only chose them
    return [
        found[name] for name in sorted(found, key=lambda name: (found[name][1] != search.size, -fully[name].points))
    ]


def _effect_record(search: Search, changes: Settings, size: Size) -> dict[str, Any]:
    effect = search.bench.effect(changes, size)
    trials = [trial for trial in search.bench.trials if trial.size == size and trial.changes == changes]
    bad = next((trial.status for trial in trials if trial.status in ("diverged", "failed")), trials[0].status)
    settings = resize(search.bench.settings | changes, size)
    return {
        "changes": changes,
        "flags": flag_words(changes),
        **asdict(effect),
        "status": bad,
        "epochs": settings.get("trainer.max_epochs"),
        "examples": trials[0].examples,
        "screened_only": size != search.size,
    }


def _effect_of(record: dict[str, Any]) -> Effect:
    return Effect(**{name: record[name] for name in ("points", "low", "high", "seeds", "worst")})


def _trial_record(search: Search, index: int) -> dict[str, Any]:
    trial = search.bench.trials[index]
    return {
        "changes": trial.changes,
        "seed": trial.seed,
        "score": trial.score,
        "status": trial.status,
        "epochs": trial.settings.get("trainer.max_epochs"),
        "examples": trial.examples,
        "batch_size": trial.settings["data.batch_size"],
        "seconds": trial.seconds,
    }


def _points(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")
