"""Whether a verdict also holds for new test examples: seeds and examples vary both."""

import json
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from project.studies.claims import Claim
from project.studies.statistics.estimates import Estimate
from project.studies.statistics.evidence import Evidence, Runs
from project.studies.study import RunRecord


def examples_variance(claim: Claim, evidence: Evidence, runs: Runs) -> float | None:
    """The variance that the choice of test examples gives to a claim's estimate; None where the runs do not tell.

    Arms that were tested on the same examples are compared example by example; arms with examples of their own, such as
    those of another data set, add their variances.

    Args:
        claim: It is about the accuracy on the test set; every other claim gets None.
        evidence: What the runs say of the claim.
        runs: The runs, which know what they classified correctly.
    """
    if claim.metric != "test/accuracy" or len(evidence.values) < 2:
        return None
    tested = {arm: [runs[arm, seed] for seed in evidence.values] for arm in claim.arms}
    groups: dict[str, list[str]] = {}
    for arm, records in tested.items():
        examples = {_examples_of(record) for record in records if record.status != "diverged"}
        if len(examples) > 1 or "" in examples:  # they are not known, or every seed has others
            return None
        if examples:  # an arm that always diverged guesses: its accuracy is the same on all examples
            groups.setdefault(examples.pop(), []).append(arm)
    variance = 0.0
    for arms in groups.values():
        num_test = max(record.num_test for record in tested[arms[0]])
        table = np.zeros((len(evidence.values), num_test))
        for arm in arms:
            table += claim.weights[arm] * np.stack([_correct(record, num_test) for record in tested[arm]])
        variance += table_variance(table)
    return variance


def table_variance(table: NDArray[np.float64]) -> float:
    """The variance that the choice of examples gives to the mean of a table of numbers, (seeds, examples).

    It is the variance of the examples' means without the part that comes from the seeds, in the two-way random effects
    model: `σ²_examples / m`, estimated by mean squares and never below 0. Source: Searle, Casella & McCulloch 1992,
    "Variance Components", section 4.5.
    """
    n, m = table.shape
    of_examples = table.mean(axis=0)
    rest = table - table.mean(axis=1, keepdims=True) - of_examples + table.mean()
    from_seeds = float(np.square(rest).sum()) / ((n - 1) * (m - 1)) / n
    variance: float = max(of_examples.var(ddof=1) - from_seeds, 0.0) / m
    return variance


def widen(found: Estimate, variance: float) -> Estimate:
    """An estimate's interval with a further, independent normal error of a known variance.

    Both errors' distances to an end of the interval are added as squares. Source: the method of variance estimates
    recovery, Zou & Donner 2008, eq. 4. With 3 to 20 seeds it keeps its level better than Satterthwaite's degrees of
    freedom, and it works for the interval of every test.
    """
    further = float(special.ndtri(1 - found.level / 2)) * math.sqrt(variance)
    low = found.mean - math.hypot(found.mean - found.low, further)
    return replace(found, low=low, high=found.mean + math.hypot(found.high - found.mean, further))


def _examples_of(record: RunRecord) -> str:
    """What tells whether two runs were tested on the same examples; empty if that is not known."""
    if not record.num_test:
        return ""
    split = record.origin.get("split", {}).get("test", "")
    return json.dumps([record.num_test, split, record.origin.get("data"), record.settings.get("data.classes")])


def _correct(record: RunRecord, num_test: int) -> NDArray[np.float64]:
    """For each test example 1 if it was classified correctly, else 0; a training that diverged guesses."""
    if not record.correct:
        return np.full(num_test, 1 / record.num_classes)
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(record.correct), dtype=np.uint8), count=num_test)
    return bits.astype(np.float64)
