"""What a report says in words."""

import math

from project.studies.reporting.formats import format_difference, format_interval, format_p, format_value
from project.studies.reporting.report import Report
from project.studies.reporting.statistics import LEVEL, VerdictName
from project.studies.study import Range, format_setting

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
    return f"Of {len(report.judgements)} claim{'' if len(report.judgements) == 1 else 's'}: {', '.join(said)}."


def table_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """The table by arm: header and rows."""
    study, metric = report.study, report.study.metric
    header = ["arm", "n", "mean", "sd", "95 % interval", f"against {study.reference}", "95 % interval"]
    header += ["effect size g", "p", "training", "parameters"]
    has_choice = any(arm.chosen for arm in report.arms)
    header += ["chosen"] if has_choice else []
    rows = []
    for arm in report.arms:
        found, difference = arm.result, arm.difference
        row = [
            arm.name,
            str(found.n),
            format_value(found.mean, metric),
            format_value(found.sd, metric),
            format_interval(found, format_value, metric),
        ]
        if difference is None:
            row += ["", "", "", ""]
        else:
            g = difference.effect_size
            row += [
                format_difference(difference.mean, metric),
                format_interval(difference, format_difference, metric),
                f"{g:+.1f}".replace("-", "−") if math.isfinite(g) else "–",
                format_p(arm.p),
            ]
        row += [f"{arm.seconds:.1f} s" if math.isfinite(arm.seconds) else "–", f"{arm.parameters:,}"]
        if has_choice:
            row.append(
                ", ".join(f"{key.rsplit('.', 1)[-1]} {format_setting(value)}" for key, value in arm.chosen.items())
            )
        rows.append(row)
    return header, rows


def method(report: Report) -> str:
    """How the numbers were made, in a few sentences."""
    study = report.study
    first = report.final[0]
    epochs, seeds = first.settings.get("trainer.max_epochs", 15), len(study.seeds)
    text = (
        f"{len(study.arms)} arms with the same {seeds} seeds each (weights, order of batches, dropout), "
        f"{epochs} epochs unless an arm says otherwise. "
    )
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
            f"Tuned for every arm alike by {study.selection_metric}, {len(study.tuning.points)} settings on "
            f"each seed anew: {tried}. "
        )
    if study.search is not None:
        text += (
            f"Searched with {study.search.trials} trials (TPE, pruned by the median) by {study.selection_metric} on a "
            f"seed that the comparison does not use; what is reported are fresh runs of the winner. "
        )
    text += (
        f"Intervals are Student's t at {LEVEL:.0%}. They cover the variation between seeds, not between samples of "
        "test examples. Differences are paired by seed; their p is of the paired t test, corrected by Holm over the "
        "table. A claim is supported if the interval of its difference lies inside what it allows, contradicted if "
        "outside, with Holm's correction over the claims. Effect size g: mean difference over its own sd (Hedges)."
    )
    return text


def provenance_rows(report: Report) -> list[tuple[str, str]]:
    """Where the runs come from: what all share."""
    origin = next((record.origin for record in report.final if record.origin), None)
    if origin is None:
        return []
    versions = origin["versions"]
    change = f" with uncommitted change {origin['uncommitted change']}" if origin["uncommitted change"] else ""
    return [
        ("code", f"{(origin['commit'] or 'not in git')[:12]}{change}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("hardware", ", ".join([origin["processor"], *origin["gpus"]])),
        ("data", ", ".join(f"{name} {digest[:12]}" for name, digest in origin["data"].items())),
    ]
