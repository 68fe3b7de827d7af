"""The judgement of a whole training: how it went, which settings caused it, and what else is good to know."""

import math
from collections.abc import Iterator

from project.diagnosis.judgement import thresholds
from project.diagnosis.judgement.data import judge_data
from project.diagnosis.judgement.findings import Finding, Severity, by_severity
from project.diagnosis.judgement.fit import suspect_fit
from project.diagnosis.judgement.network import note_units, suspect_network
from project.diagnosis.judgement.optimization import suspect_optimization
from project.diagnosis.measurement.evidence import Evidence


def judge(e: Evidence) -> list[Finding]:
    """Judge a training by everything that was measured of it.

    A setting is blamed when it is far from what suits *and* the training has been harmed: the product of the two
    decides, so that an unusual setting which does no harm is left alone. What follows from a cause is not reported.

    Returns:
        Findings, the most severe first; among equals the one that explains most.
    """
    harm, lost = harm_of(e), is_lost(e)
    suspects = [*suspect_network(e), *suspect_optimization(e), *suspect_fit(e)]
    suspects = sorted(suspects, key=lambda suspect: suspect.strength, reverse=True)
    certain = [s for s in suspects if s.strength >= thresholds.CERTAIN]
    blamed = certain[:1] or [s for s in suspects if s.strength * harm >= thresholds.BLAME]
    # a weak suspect beside a strong one explains nothing more
    blamed = [s for s in blamed if s.strength >= thresholds.WEAK_SUSPECT * blamed[0].strength][:3]
    severity: Severity = "severe" if lost else "warning"
    findings = [Finding(s.finding.code, severity, s.finding.sentence, s.finding.remedy) for s in blamed]
    if not findings and harm >= 1:
        findings.append(_unexplained(e, lost))
    findings += _judge_test(e)
    known = {finding.code for finding in findings}
    findings += (note for note in note_units(e) if note.code not in known)
    if not known:
        findings += _judge_length(e)
    return by_severity([*findings, *(f for f in judge_data(e.data) if f.code != "inputs_not_normalized")])


def is_lost(e: Evidence) -> bool:
    """Whether the network knows no more than which class is the most frequent, or has diverged."""
    if e.status == "diverged" or not math.isfinite(e.last.loss) or not math.isfinite(e.train_error):
        return True
    return e.error > e.chance_error - thresholds.CHANCE_MARGIN


def harm_of(e: Evidence) -> float:
    """How badly the training went, from 0 (well) over 1 (certainly not well) to 3 (nothing was learned).

    The closed-form reference says what can be learned of these data: a healthy network's error is below that on
    validation, and far below it on its own examples.
    """
    if is_lost(e):
        return 3.0
    reference = max(e.reference_error, 0.01)
    by_validation = (e.error / reference - thresholds.HEALTHY_ERROR) / thresholds.HEALTHY_ERROR_SPREAD
    by_training = (e.train_error / reference - thresholds.HEALTHY_FIT) / thresholds.HEALTHY_FIT_SPREAD
    return min(max(by_validation, by_training, 0.0), 3.0)


def _unexplained(e: Evidence, lost: bool) -> Finding:
    what = "Nothing was learned" if lost else "The network learned less than these data allow"
    share = max(e.decided_classes, default=0.0)
    if lost and share > thresholds.ONE_ANSWER:
        what += f", and {share:.0%} of the examples get the same answer"
    sentence = (
        f"{what}: its error is {_error(e, e.error)}, that of a least-squares fit on random features "
        f"{_error(e, e.reference_error)}. No setting stands out as the cause; --explain tries what would help."
    )
    return Finding("nothing_learned" if lost else "underfitting", "severe" if lost else "warning", sentence)


def _error(e: Evidence, error: float) -> str:
    return f"{error:.1%}" if e.num_classes else f"{error:.2g} sd"


def _judge_test(e: Evidence) -> Iterator[Finding]:
    """Validation and test come from the same source, or one of them is not what it should be."""
    if e.validation_error is None or e.test_error is None or not e.num_validation:
        return
    difference = e.test_error - e.validation_error
    if e.num_classes:
        pooled = (e.test_error + e.validation_error) / 2
        noise = math.sqrt(pooled * (1 - pooled) * (1 / e.num_validation + 1 / e.num_test))
    else:  # the standard error of a root mean squared error, for errors that are normally distributed
        noise = e.validation_error * math.sqrt(0.5 / e.num_validation + 0.5 / e.num_test)
    margin = thresholds.TEST_MARGIN if e.num_classes else thresholds.TEST_MARGIN * 3 * e.validation_error
    if abs(difference) > thresholds.TEST_NOISE * noise + margin:
        worse = "worse" if difference > 0 else "better"
        sentence = (
            f"The test set is not like the validation set: the error is {_error(e, e.test_error)} there and "
            f"{_error(e, e.validation_error)} here, {abs(difference) / max(noise, 1e-9):.0f} standard errors {worse}. "
            "Look at the data before the network: python scripts/diagnose.py --data"
        )
        yield Finding("test_differs", "severe" if abs(difference) > 0.2 else "warning", sentence)


def _judge_length(e: Evidence) -> Iterator[Finding]:
    """The number of epochs (N31): stopped early, too many, or too few, by the value that chooses the best epoch."""
    losses = [record["validation/loss"] for record in e.history if "validation/loss" in record]
    errors = [1 - record["validation/accuracy"] for record in e.history if "validation/accuracy" in record]
    values = errors if e.num_classes and not str(e.settings.get("monitor")).endswith("loss") else losses
    num = len(values)
    best = min(range(num), key=values.__getitem__) if num else 0
    if e.status == "early_stopped":
        yield Finding("early_stopped", "note", f"Training stopped early, after epoch {num}, as nothing improved.")
    elif e.status == "out_of_time":
        yield Finding("out_of_time", "note", f"The limit on time ended the training after epoch {num}.")
    elif num >= 2 and best == num - 1 and losses[-2] - losses[-1] > thresholds.LATE_IMPROVEMENT * abs(losses[-2]):
        sentence = "Validation was still getting better in the last epoch: more epochs would help."
        yield Finding("too_few_epochs", "note", sentence, [f"--trainer.max_epochs {2 * num}"])
    if values is errors and num:
        rise, noise = errors[-1] - errors[best], math.sqrt(errors[best] * (1 - errors[best]) / max(e.num_validation, 1))
        if rise > max(thresholds.WORSE_AGAIN, 3 * noise) and e.train_error < errors[best]:
            sentence = (
                f"The network overfits after epoch {best + 1} of {num}: from there on, the validation error rose by "
                f"{rise:.1%}. The weights of that epoch were kept."
            )
            yield Finding("overfitting", "note", sentence)
