"""What a finding is, and how findings become a verdict."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["severe", "warning", "note"]
"""severe: it will not learn, or has not; warning: it costs accuracy or time; note: good to know."""
SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One judgement.

    Attributes:
        code: What it is, for programs: `vanishing_gradient`, `overfitting`, ….
        severity: How much it matters.
        sentence: What was found, with its numbers, for people.
        remedy: Flags to type, the best first; empty where no setting would help.
    """

    code: str
    severity: Severity
    sentence: str
    remedy: list[str] = field(default_factory=list)


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The same findings, the severest first, otherwise in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def combined_remedy(findings: Iterable[Finding]) -> list[str]:
    """All remedies as one set of flags: where two findings set the same flag, the severer one decides."""
    flags: dict[str, str] = {}
    for finding in by_severity(findings):
        for flag in finding.remedy:
            flags.setdefault(flag.split()[0], flag)
    return list(flags.values())


def verdict(findings: Iterable[Finding], results: Mapping[str, Any]) -> str:
    """What happened, in a sentence or two, for metrics.json.

    Args:
        findings: Of network, training and data; the severest is reported, a note only if there is no other, and
            if it has no remedy, also the next that has one.
        results: As in metrics.json: `status`, `epochs`, `best`, `test/accuracy`, `validation/accuracy`, for regression
            `test/rmse`, `validation/rmse`; what is missing is left out.
    """
    parts = []
    for split in ("test", "validation"):
        for name, form in (("accuracy", ".2%"), ("rmse", ".4g")):
            if isinstance(results.get(f"{split}/{name}"), int | float):
                parts.append(f"{split} {name} {results[f'{split}/{name}']:{form}}")
    status = str(results.get("status", "completed")).replace("_", " ")
    epochs = results.get("epochs")
    happened = status.capitalize()
    if epochs is not None:
        happened += f" after {epochs} epoch{'' if epochs == 1 else 's'}"
    if parts:
        happened += ": " + ", ".join(parts)
    best = results.get("best") or {}
    if "epoch" in best:
        happened += f" (best epoch {best['epoch']})"
    ordered = by_severity(findings)
    if not ordered:
        return f"{happened}. Nothing stands out."
    told = ordered[:1]
    if not told[0].remedy:  # what goes with it may tell the cause
        told += [finding for finding in ordered[1:] if finding.severity != "note" and finding.remedy][:1]
    sentences = [f"{happened}.", *(finding.sentence for finding in told)]
    if told[-1].remedy:
        sentences.append(f"Try {' '.join(told[-1].remedy)}.")
    return " ".join(sentences)
