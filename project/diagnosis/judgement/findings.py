"""What a finding is, and how findings become a verdict."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from project.errors import counted

Severity = Literal["severe", "warning", "note"]
"""severe: it will not learn, or has not; warning: it costs accuracy or time; note: it is good to know."""
SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One judgement.

    Attributes:
        code: What was found, for programs: `vanishing_gradient`, `overfitting`, ….
        severity: How much it matters.
        sentence: What was found, with its numbers, for people.
        remedy: The flags to type, the best first; empty where no setting would help.
    """

    code: str
    severity: Severity
    sentence: str
    remedy: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Suspect:
    """A setting that may be the cause of a bad training.

    Attributes:
        strength: How far it is from what suits, in powers of ten; together with the harm that was done it decides
            whether it is reported, and which suspect comes first.
        finding: What is said of it.
    """

    strength: float
    finding: Finding


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The same findings, the most severe first, otherwise in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def combined_remedy(findings: Iterable[Finding]) -> list[str]:
    """All remedies as one set of flags: where two findings set the same flag, the more severe one decides."""
    flags: dict[str, str] = {}
    for finding in by_severity(findings):
        for flag in finding.remedy:
            flags.setdefault(flag.split()[0], flag)
    return list(flags.values())


def reported(findings: Iterable[Finding]) -> list[Finding]:
    """Those findings that the verdict says: two causes at most, and a note only where there is nothing else."""
    ordered = by_severity(findings)
    return [finding for finding in ordered if finding.severity != "note"][:2] or ordered[:1]


def verdict(findings: Iterable[Finding], results: Mapping[str, Any]) -> str:
    """What happened, in a sentence or two, for metrics.json.

    Args:
        findings: What was found in network, training and data. The two most severe are reported, a note only if there
            is no other.
        results: What metrics.json holds: `status`, `epochs`, `best`, `test/accuracy`, `validation/accuracy`, for
            regression `test/rmse`, `validation/rmse`; what is missing is left out.
    """
    happened = str(results.get("status", "completed")).replace("_", " ").capitalize()
    if (epochs := results.get("epochs")) is not None:
        happened += f" after {counted(epochs, 'epoch')}"
    scores = [
        f"{split} {name} {results[f'{split}/{name}']:{form}}"
        for split in ("test", "validation")
        for name, form in (("accuracy", ".2%"), ("rmse", ".4g"))
        if isinstance(results.get(f"{split}/{name}"), int | float)
    ]
    if scores:
        happened += ": " + ", ".join(scores)
    best = results.get("best") or {}
    if "epoch" in best:
        happened += f" (best epoch {best['epoch']})"
    said = reported(findings)
    if not said:
        return f"{happened}. Nothing stands out."
    sentences = [f"{happened}.", *(finding.sentence for finding in said)]
    if remedy := combined_remedy(said):
        sentences.append(f"Try {' '.join(remedy)}.")
    return " ".join(sentences)
