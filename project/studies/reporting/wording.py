"""What a report says in words."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from project.errors import counted
from project.studies.read_study import MAX_LOOKS
from project.studies.reporting.formats import (
    format_confidence,
    format_difference,
    format_difference_interval,
    format_interval,
    format_p,
    format_share,
    format_value,
)
from project.studies.reporting.report import Report
from project.studies.statistics.estimates import (
    ALPHA,
    MIN_EQUAL,
    Estimate,
    seeds_for_sign_flips,
    share_not_excluded,
)
from project.studies.statistics.judge import Judgement, VerdictName
from project.studies.statistics.needed_seeds import CONFIDENCE, MAX_SEEDS
from project.studies.study import Range, Study, format_setting

MARKS: dict[VerdictName, str] = {"supported": "✔", "contradicted": "✘", "undecided": "?"}


def headline(report: Report) -> str:
    """How many claims held, in one sentence."""
    counts = {name: sum(j.name == name for j in report.judgements) for name in MARKS}
    if not report.judgements:
        known = [arm for arm in report.arms if math.isfinite(arm.result.mean)]
        best = (max if report.study.maximize else min)(known, key=lambda arm: arm.result.mean)
        mean = format_value(best.result.mean, report.study.metric)
        return f"The study makes no claim. The best mean has {best.name}: {mean}."
    said = [f"{count} {name}" for name, count in counts.items() if count]
    late = sum(bool(judgement.claim.late) for judgement in report.judgements)
    late_words = f" {late} written only after runs had ended." if late else ""
    return f"Of {counted(len(report.judgements), 'claim')}: {', '.join(said)}.{late_words}"


def sentence(study: Study, judgement: Judgement) -> str:
    """A verdict in words, with its numbers."""
    claim, found = judgement.claim, judgement.estimate
    parts = [f"{_verdict_words(study, judgement)}."]
    if found.n:
        parts.append(f"{claim.metric}, {_sides(claim.text)}: {_numbers(study, judgement)}.")
    seeds = counted(found.n, "seed")
    if judgement.evidence.left_out and judgement.look:
        left_out = len(judgement.evidence.left_out)
        parts.append(
            f"Left out: {left_out} of {judgement.look} seeds, with a run that failed or has no {claim.metric}."
        )
    for arm, number in judgement.evidence.collapsed.items():
        parts.append(f"{arm} collapsed in {number} of {seeds}, so sign flips are the test.")
    if not judgement.look or judgement.blocked or not found.n:
        return " ".join(parts)
    if found.test == "equal":
        share = share_not_excluded(found.n)
        parts.append(
            f"All {seeds} agree, which decides without a test; up to {format_share(share)} of seeds may still differ."
        )
    elif found.sd == 0 and found.n > 1:
        parts.append(f"All {seeds} agree, but fewer than {MIN_EQUAL} decide nothing.")
    if found.test == "sign flips" and not found.bounded:
        parts.append(f"Sign flips need at least {seeds_for_sign_flips(found.level)} seeds.")
    decided = judgement.name != "undecided"
    parts.append(_generalization(study, judgement) if decided else _what_would_decide(study, judgement))
    return " ".join(filter(None, parts))


def _verdict_words(study: Study, judgement: Judgement) -> str:
    if judgement.blocked:
        return f"Undecided: {judgement.blocked}"
    if not judgement.look:
        return f"Undecided: runs of {judgement.num_ended} seeds have ended, and {study.looks[0]} are judged together"
    if not judgement.estimate.n:
        return f"Undecided: no seed has {judgement.claim.metric} for every arm that the claim is about"
    word = judgement.name.capitalize()
    return f"{word} after {judgement.look} of at most {study.looks[-1]} seeds" if study.sequential else word


def _sides(text: str) -> str:
    """The claim's left side minus its right side, as text."""
    words = text.split()
    sign = next(index for index, word in enumerate(words) if word in (">", "<", "~", "=="))
    end = next((index for index, word in enumerate(words) if word in ("by", "within", "on")), len(words))
    left, right = (
        f"({' '.join(side)})" if len(side) > 1 else side[0] for side in (words[:sign], words[sign + 1 : end])
    )
    # a claim about a difference is compared with 0, which needs no mention
    return " ".join(words[:sign]) if right in ("0", "0.0") else f"{left} minus {right}"


def _numbers(study: Study, judgement: Judgement) -> str:
    found, metric = judgement.estimate, judgement.claim.metric
    seeds = counted(found.n, "seed")
    mean = format_difference(found.mean, metric)
    if not found.bounded:
        return f"{mean} ({seeds})"
    name = interval_name(found, judgement.num_claims, len(study.looks))
    return f"{mean} ({name} {format_difference_interval(found, metric)}; {seeds})"


def interval_name(found: Estimate, num_claims: int, num_looks: int) -> str:
    """An interval's confidence, and for what it is adjusted: 98.8 % interval, adjusted for 4 claims."""
    name = f"{format_confidence(found.level)} interval"
    if found.level == ALPHA:
        return name
    sharing = [f"{number} {what}" for number, what in ((num_claims, "claims"), (num_looks, "looks")) if number > 1]
    return f"{name}, adjusted for {' and '.join(sharing)}:"


def _what_would_decide(study: Study, judgement: Judgement) -> str:
    found = judgement.estimate
    if study.sequential:
        return "" if judgement.look < study.looks[-1] else f"at_most is reached: {study.looks[-1]} seeds."
    if found.n < 2:
        return "One seed cannot tell."
    if found.test != "t":
        return ""
    if judgement.needed is None:
        return f"More than {MAX_SEEDS:,} seeds would be needed to decide."
    fewest, most = judgement.needed
    at_least = max(5, -(-(most or MAX_SEEDS) // MAX_LOOKS))
    plan = f"{{at_least: {at_least}, at_most: {max(most or MAX_SEEDS, 2 * at_least)}}}"
    seeds = f"{fewest} to {most} seeds" if most else f"{fewest} to more than {MAX_SEEDS:,} seeds"
    return (
        f"{seeds} would probably decide ({format_share(CONFIDENCE)} confidence): for example seeds: {plan} in a new "
        f"study. Seeds added here, after a look at the result, would raise the error above {format_share(ALPHA)}."
    )


def _generalization(study: Study, judgement: Judgement) -> str:
    """For which runs the verdict is meant."""
    metric = judgement.claim.metric
    new = "For new seeds and splits into training and validation" if study.resample else "For new seeds"
    if not metric.startswith("test/"):
        return f"{new}."
    wider = judgement.new_examples
    if wider is None:
        return f"{new} on these test examples."
    name = judgement.name_for_new_examples
    interval = format_difference_interval(wider, metric)
    said = f"{name}, interval {interval}" if wider.bounded else name
    return f"{new} on these test examples; for new test examples too: {said}."


def table_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """The table by arm: header and rows."""
    study, metric = report.study, report.study.metric
    header = ["arm", "n", "mean", "sd", "95 % interval", f"against {study.reference}", "interval", "p"]
    has_ranks = any(math.isfinite(arm.middle) for arm in report.arms)
    header += ["interquartile mean", "probability of improvement"] if has_ranks else []
    header += ["training", "parameters"]
    has_choice = any(any(arm.chosen.values()) for arm in report.arms)
    header += ["chosen"] if has_choice else []
    rows = []
    for arm in report.arms:
        found, difference = arm.result, arm.difference
        row = [arm.name, str(found.n), format_value(found.mean, metric), format_value(found.sd, metric)]
        row.append(format_interval(found, metric))
        if difference is None:
            row += ["", "", ""]
        else:
            interval = format_difference_interval(difference, metric)
            interval += f" ({format_confidence(difference.level)})" if difference.bounded else ""
            row += [format_difference(difference.mean, metric), interval, format_p(arm.p)]
        if has_ranks:
            row.append(format_value(arm.middle, metric))
            row.append(format_share(arm.improvement) if math.isfinite(arm.improvement) else "–" if difference else "")
        row += [f"{arm.seconds:.1f} s" if math.isfinite(arm.seconds) else "–", f"{arm.parameters:,}"]
        if has_choice:
            row.append(", ".join(_choice(key, values) for key, values in arm.chosen.items() if values))
        rows.append(row)
    return header, rows


def _choice(key: str, values: Counter[Any]) -> str:
    """What was chosen, and for how many seeds if not for all the same: learning_rate 0.1 (4), 0.01 (1)."""
    number = "" if len(values) == 1 else " ({})"
    said = [format_setting(value) + number.format(count) for value, count in values.most_common()]
    return f"{key.rsplit('.', 1)[-1]} {', '.join(said)}"


def method(report: Report) -> str:
    """How the numbers were made, in a few sentences."""
    study = report.study
    first = report.final[0]
    epochs = first.settings.get("trainer.max_epochs", 15)
    seeds = "seed" if len(study.seeds) == 1 else f"{len(study.seeds)} seeds each"
    if study.sequential:
        seeds = f"seeds (weights, order of batches, dropout), {study.looks[0]} or more and at most {study.looks[-1]}"
    text = f"{len(study.arms)} arms with the same {seeds}, {epochs} epochs unless an arm says otherwise. "
    text += (
        "The choice of training and validation examples follows the seed. "
        if study.resample
        else "All runs share one choice of training and validation examples. "
    )
    if study.tuning is not None:
        tried = "; ".join(
            f"{key} from {s.low:g} to {s.high:g}"
            if isinstance(s, Range)
            else f"{key} out of {', '.join(map(format_setting, s))}"
            for key, s in study.tuning.spaces.items()
        )
        text += (
            f"Tuned anew for every arm and seed by {study.selection_metric}, so that the choice is part of what varies "
            f"between seeds, out of at least {len(study.tuning.points)} settings: {tried}. "
        )
    if study.search is not None:
        text += (
            f"Searched with {study.search.trials} trials (TPE, pruned by the median) by {study.selection_metric} on a "
            f"seed that the comparison does not use; what is reported are fresh runs of the winner. "
        )
    correction = "Holm's correction"
    if study.sequential:
        correction += ", with looks as by Maurer & Bretz 2013, which share it by a spending function"
    text += (
        "Differences are paired by seed. Intervals are Student's t, or of sign flips where seeds of an arm collapse. A "
        "claim is supported if its interval lies inside what it allows, and contradicted if outside. The "
        f"tests are made so that at most {format_share(ALPHA)} of studies reach any false verdict, and so are those of "
        f"verdicts for new test examples and those in the table; where simulated studies reach more, "
        f"docs/statistics.md says so. Each interval has the level at which it was tested ({correction})."
    )
    number = max((arm.result.n for arm in report.arms), default=0)
    if number > 1:
        share = format_share(share_not_excluded(number))
        text += f" Where none of {number} seeds collapsed, up to {share} of all seeds may still do so."
    return text


def provenance_rows(report: Report) -> list[tuple[str, str]]:
    """Where the runs come from: the code and machine of the first, and the data of all."""
    origins = [record.origin for record in report.final if record.origin]
    if not origins:
        return []
    origin = origins[0]
    versions = origin["versions"]
    # arms may have data of their own, which may share files
    data = dict.fromkeys((name, digest) for each in origins for name, digest in each["data"].items())
    change = f" with uncommitted change {origin['uncommitted change']}" if origin["uncommitted change"] else ""
    rows = [
        ("code", f"{(origin['commit'] or 'not in git')[:12]}{change}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("hardware", ", ".join([origin["processor"], *origin["gpus"]])),
        ("data", _digests(data)),
    ]
    if extensions := origin.get("extensions"):
        rows.append(("extensions", _digests(extensions.items())))
    frozen = report.study.content.get("frozen", "")
    return [*rows, ("claims", str(frozen))] if frozen else rows


def _digests(files: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {digest[:12]}" for name, digest in files)
