"""How often are a study's verdicts false, and how often do they find what is true? python -m benchmarks.statistics

Simulates studies whose truth is known, gives their runs to the code that judges real studies, counts the verdicts, and
writes docs/statistics.md. With 2,000 studies for each figure it takes about half an hour on one core. Changes of the
statistics are chosen with `--draw development`, which draws other random numbers and writes nothing.
"""

import argparse
import platform
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special, stats

from project.pages import markdown_table
from project.runs.saving.provenance import hardware
from project.studies.read_study import parse_study
from project.studies.statistics.estimates import ALPHA
from project.studies.statistics.judge import judge_study
from project.studies.study import RunRecord, Study

PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
DRAWS = ("report", "development", "confirmation")
Array = NDArray[np.float64]

MEAN, SD = 0.88, 0.004
"""An arm's accuracy over seeds: 88 % and 0.4 points."""
NUM_TEST = 1000
"""Test examples of the studies whose verdicts are also meant for new examples."""
COLLAPSE, FALL = 0.1, 0.78
"""One seed in ten of a collapsing arm falls by 78 points, which is down to guessing among ten classes."""
RATES = np.array([0.0, 0.8, 1.2, 1.2, 0.8, 0.0, -2.0]) / 100
"""What each of seven learning rates adds to the accuracy. The validation result of one has an sd of 1.2 points, so that
the choice is often not the best."""

PLANS: dict[str, Any] = {
    **{str(n): n for n in (3, 5, 10, 20)},
    **{f"{low} to {high}": {"at_least": low, "at_most": high} for low, high in ((5, 40), (2, 10), (3, 30), (10, 40))},
}
"""The numbers of seeds, as a study file has them."""
FIXED, SEQUENTIAL, OTHERS = list(PLANS)[:4], "5 to 40", list(PLANS)[5:]


@dataclass(frozen=True)
class Kind:
    """A kind of claim, and two truths about it.

    Attributes:
        claims: What the study expects.
        edge: What is added to the arms' mean accuracy so that it lies on the edge of what the claims allow: neither
            verdict is true there, and nowhere are false ones more frequent.
        inside: What is added so that the claims hold.
        at_edge: Only so many claims, from the first on, are at the edge there; the others are clearly true.
    """

    claims: tuple[str, ...]
    edge: Mapping[str, float]
    inside: Mapping[str, float]
    at_edge: int = 4


KINDS = {
    "a > b": Kind(("a > b",), {}, {"a": 0.01}),
    "a > b by 0.01": Kind(("a > b by 0.01",), {"a": 0.01}, {"a": 0.02}),
    "a ~ b within 0.01": Kind(("a ~ b within 0.01",), {"a": 0.01}, {}),
    "a < 0.88": Kind(("a < 0.88",), {}, {"a": -0.01}),
    "a - b > c - d": Kind(("a - b > c - d",), {}, {"a": 0.01}),
    "four claims": Kind(
        ("a > b", "a > c by 0.01", "a ~ d within 0.01", "b < 0.88"),
        {"c": -0.01, "d": -0.01},
        {"b": -0.01, "c": -0.02},
    ),
    "four claims, two of them true": Kind(
        ("a > b", "a < 0.88", "c > a by 0.01", "a > d"), {"c": 0.06, "d": -0.05}, {}, at_edge=2
    ),
}
"""The claims of the simulated studies; where the claims hold, it is by one point."""
EXAMPLE_KINDS = {
    "a > b": Kind(("a > b",), {}, {"a": 0.03}),
    "a > b by 0.01": Kind(("a > b by 0.01",), {"a": 0.01}, {"a": 0.04}),
    "a ~ b within 0.03": Kind(("a ~ b within 0.03",), {"a": 0.03}, {}),
    "a < 0.88": Kind(("a < 0.88",), {}, {"a": -0.03}),
    "a - b > c - d": Kind(("a - b > c - d",), {}, {"a": 0.03}),
    "four claims": Kind(("a > b", "a > c", "a > d", "a > 0.88"), {}, {"a": 0.03}),
}
"""The same for new test examples; where the claims hold, it is by three points."""

ONCE, TWO_TRUE, EXAMPLES = "tuned once for all seeds", "four claims, two of them true", "new examples"
NOISES = (
    "normal",
    "skewed, one arm",
    "skewed, all arms",
    "collapsing, one arm",
    "collapsing, all arms",
    "tuned for each seed",
    ONCE,
)
"""How an arm's accuracy varies between seeds."""


def draw(noise: str, generator: np.random.Generator, shape: tuple[int, int]) -> Array:
    """What one arm's accuracies add to its mean, (studies, seeds); zero on average over all studies."""
    if noise.startswith("skewed"):
        return SD * (1 - generator.exponential(1.0, shape))  # most are good, a few are bad
    normal = SD * generator.standard_normal(shape)
    if noise.startswith("collapsing"):
        return normal + FALL * (COLLAPSE - (generator.random(shape) < COLLAPSE))
    if noise.startswith("tuned"):
        shared = noise == ONCE
        rows = (shape[0], 1) if shared else shape
        validation = RATES + 0.012 * generator.standard_normal((*rows, len(RATES)))
        normal += RATES[validation.argmax(axis=-1)] - MEAN_OF_CHOICE
    return normal


def _mean_of_choice() -> float:
    """The mean of the rates that validation results choose, by integration over the chosen one's result."""
    x = np.linspace(-0.1, 0.1, 4001)
    density = stats.norm.pdf(x[:, None], RATES, 0.012)
    others = np.stack([stats.norm.cdf(x[:, None], np.delete(RATES, i), 0.012).prod(axis=1) for i in range(7)], axis=1)
    return float(RATES @ (density * others).sum(axis=0) * (x[1] - x[0]))


MEAN_OF_CHOICE = _mean_of_choice()


@dataclass(frozen=True)
class Cell:
    """One figure of the page."""

    kind: str
    noise: str
    plan: str
    truth: str

    @property
    def content(self) -> Kind:
        return (EXAMPLE_KINDS if self.noise == EXAMPLES else KINDS)[self.kind]

    @property
    def study(self) -> Study:
        """The study, as its file would say it."""
        claims = self.content.claims
        arms = [arm for arm in "abcd" if any(arm in claim.split() for claim in claims)]
        made = {"question": "?", "arms": {arm: {} for arm in arms}, "seeds": PLANS[self.plan], "expect": list(claims)}
        return parse_study("simulated", made)


@dataclass(frozen=True)
class Outcome:
    """What the verdicts of many studies were.

    Attributes:
        studies: So many were simulated.
        decided: In so many a claim that is neither true nor false, being at the edge, got a verdict.
        supported: The share of claims that were supported.
        decided_on_examples: As `decided`, by the verdict for the very test examples that there were.
        confirmed: Whether a second draw of as many studies had too many false verdicts as well: among so many figures
            one draw alone has some by chance.
    """

    studies: int
    decided: int
    supported: float
    decided_on_examples: int = 0
    confirmed: bool = False

    @property
    def error(self) -> float:
        return self.decided / self.studies

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper & Pearson's 95 % interval of the error."""
        found = stats.binomtest(self.decided, self.studies).proportion_ci(0.95, "exact")
        return float(found.low), float(found.high)

    @property
    def is_above(self) -> bool:
        """Whether the error is larger than it may be, beyond what chance explains."""
        return self.interval[0] > ALPHA


def cells() -> Iterator[Cell]:
    """All figures: every kind of claim with every noise, and several claims where the number matters."""
    for kind, noise, plan in product(KINDS, NOISES, FIXED):
        same_as_all = kind == "a < 0.88" and noise.endswith("one arm")
        is_contrast = noise == ONCE and kind != "a > b"
        several = kind.startswith("four") and noise not in ("normal", "skewed, one arm")
        if not (same_as_all or is_contrast or several or (kind == TWO_TRUE and noise != "normal")):
            yield Cell(kind, noise, plan, "edge")
    for noise in NOISES[1:-1]:
        yield Cell("a > b by 0.01", noise, SEQUENTIAL, "edge")
    for kind in KINDS:
        yield Cell(kind, "normal", SEQUENTIAL, "edge")
    for plan in OTHERS:
        yield Cell("a > b", "normal", plan, "edge")
    for kind, plan in product(KINDS, (*FIXED, SEQUENTIAL)):
        if kind != TWO_TRUE:
            yield Cell(kind, "normal", plan, "inside")
    for noise, plan in product(NOISES[1:-1], FIXED):
        yield Cell("a > b", noise, plan, "inside")
    for kind, plan, truth in product(EXAMPLE_KINDS, FIXED, ("edge", "inside")):
        yield Cell(kind, EXAMPLES, plan, truth)
    yield Cell("a > b", EXAMPLES, SEQUENTIAL, "edge")


def simulate(cell: Cell, studies: int, draw_name: str) -> Outcome:
    """Judge many studies of one kind."""
    key = [DRAWS.index(draw_name), zlib.crc32(repr(cell).encode())]
    generator = np.random.default_rng(key)
    study, kind = cell.study, cell.content
    decided = decided_on_examples = 0
    supported = 0.0
    made = _with_examples if cell.noise == EXAMPLES else _with_accuracies
    for records in made(cell, study, studies, generator):
        judgements = judge_study(study, records)
        on_examples = [judgement.name for judgement in judgements]
        names = [j.name_for_new_examples for j in judgements] if cell.noise == EXAMPLES else on_examples
        decided += any(name != "undecided" for name in names[: kind.at_edge])
        decided_on_examples += any(name != "undecided" for name in on_examples[: kind.at_edge])
        supported += names.count("supported") / len(names)
    return Outcome(studies, decided, supported / studies, decided_on_examples)


def _with_accuracies(
    cell: Cell, study: Study, studies: int, generator: np.random.Generator
) -> Iterator[list[RunRecord]]:
    """The runs of one study after the other, of which only the accuracy is known."""
    means = getattr(cell.content, cell.truth)
    tables = {}
    for number, arm in enumerate(study.arms):
        noise = "normal" if cell.noise.endswith("one arm") and number else cell.noise
        tables[arm] = MEAN + means.get(arm, 0.0) + draw(noise, generator, (studies, len(study.seeds)))
    for row in range(studies):
        yield [
            RunRecord(arm, seed, metrics={"test/accuracy": value}, num_classes=10)
            for arm, table in tables.items()
            for seed, value in enumerate(table[row].tolist())
        ]


def _with_examples(cell: Cell, study: Study, studies: int, generator: np.random.Generator) -> Iterator[list[RunRecord]]:
    """The runs of one study after the other, with what they say of each test example, which are drawn anew for each.

    An example is classified correctly if a sum of normal numbers is positive: how easy it is for all arms (variance
    0.5), how easy for this arm (0.2), how good the seed is (sd 0.02, which makes 0.4 points), and chance (the rest).
    """
    means = getattr(cell.content, cell.truth)
    num_seeds = len(study.seeds)
    for _ in range(studies):
        records = []
        shared = np.sqrt(0.5) * generator.standard_normal(NUM_TEST)
        for arm in study.arms:
            ease = special.ndtri(MEAN + means.get(arm, 0.0)) + shared
            ease += np.sqrt(0.2) * generator.standard_normal(NUM_TEST)
            of_seeds = 0.02 * generator.standard_normal((num_seeds, 1))
            rest = np.sqrt(0.3 - 0.02**2) * generator.standard_normal((num_seeds, NUM_TEST), dtype=np.float32)
            correct = ease + of_seeds + rest > 0  # (seeds, examples)
            bits = np.packbits(correct, axis=1)
            for seed, accuracy in enumerate(correct.mean(axis=1).tolist()):
                metrics = {"test/accuracy": accuracy}
                records.append(
                    RunRecord(
                        arm,
                        seed,
                        metrics=metrics,
                        num_classes=10,
                        correct=bits[seed].tobytes().hex(),
                        num_test=NUM_TEST,
                    )
                )
        yield records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated for each figure")
    parser.add_argument("--draw", choices=DRAWS, default=DRAWS[0], help="which random numbers")
    parser.add_argument("--only", default="", help="only figures whose description holds this text; writes nothing")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file that is written")
    options = parser.parse_args()
    start, outcomes = time.perf_counter(), {}
    for cell in cells():
        if options.only in repr(cell):
            found = simulate(cell, options.studies, options.draw)
            if found.is_above and cell.truth == "edge":
                found = replace(found, confirmed=simulate(cell, options.studies, "confirmation").is_above)
            outcomes[cell] = found
            print(
                f"{found.error:6.1%} {found.supported:6.1%} {'above' if found.confirmed else '':5} {cell}", flush=True
            )
    minutes = (time.perf_counter() - start) / 60
    print(f"{len(outcomes)} figures in {minutes:.1f} minutes")
    if options.draw == DRAWS[0] and not options.only:
        options.page.write_text(page(outcomes, options.studies, minutes), encoding="utf-8")
        print(f"written: {options.page}")


def _error(found: Outcome | None) -> str:
    """An error and its interval as a table's cell; a star where it is above what is promised."""
    if found is None:
        return ""
    low, high = found.interval
    return f"{100 * found.error:.1f} ({100 * low:.1f}–{100 * high:.1f}){'*' if found.confirmed else ''}"


def _table(outcomes: Mapping[Cell, Outcome], plans: list[str], truth: str, first: str = "claim") -> str:
    """One row for each claim and noise, one column for each number of seeds."""
    rows = dict.fromkeys((c.kind, c.noise) for c in outcomes if c.plan in plans and c.truth == truth)
    cells = []
    for kind, noise in rows:
        found = [outcomes.get(Cell(kind, noise, plan, truth)) for plan in plans]
        shown = [f"{100 * o.supported:.0f}" if o else "" for o in found] if truth == "inside" else map(_error, found)
        cells.append((f"`{kind}`" if "claims" not in kind else kind, noise, *shown))
    return markdown_table((first, "noise", *plans), cells, right=range(2, 2 + len(plans)))


TEMPLATE = """# How often is a verdict false?

Written by `python -m benchmarks.statistics`: {studies:,} simulated studies for each figure, {minutes:.0f} minutes on
{hardware}, {versions}. The studies' truth is known, and their runs go to the code that judges real studies.

## False verdicts

The truth lies on the edge of what the claims allow, so that both "supported" and "contradicted" are false, and
nowhere are false verdicts more frequent. Each cell is the share of studies with a false verdict, in percent, with
Clopper and Pearson's 95 % interval. The promise is at most 5. A star marks what is above it beyond chance in this
draw and in a second one: {above} of {figures} cells.

An arm's accuracy over seeds has a mean of 88 % and a standard deviation of 0.4 points. Skewed: an exponential
distribution, most seeds good and a few bad. Collapsing: one seed in ten falls by 78 points. Tuned: each arm takes the
one of seven learning rates that a validation result with a standard deviation of 1.2 points prefers. New examples:
the verdict for new test examples too, with 1,000 of them.

{fixed}

The same where a study goes on until it is decided, by the seeds that it has at least and at most:

{sequential}

## What the stars say

- **Collapses that no seed shows.** An arm collapses in one seed out of ten, and the other does not, or it is held
  against a number: of the studies with five seeds, three in five see no collapse. Nothing in their numbers tells them
  from studies of an arm that never collapses, so no test can keep its level there unless it decides nothing at all
  (Bahadur and Savage 1956). If none of n seeds collapsed, the share that does is below 1 − 0.05^(1/n) with 95 %
  confidence: 63 % for 3 seeds, 45 % for 5, 26 % for 10, 14 % for 20. Read a verdict as one about seeds that do not
  collapse, and take 20 seeds or more where a collapse would matter. If both arms collapse alike, the level is kept.
- **A single skewed arm against a number.** A difference of two arms that are skewed alike is symmetric; an arm
  against a number is not, and Student's t is too sure there. Compare arms, or take more seeds.
- **Tuned once for all seeds** is what a study does not do. It is shown for contrast: the luck of the one choice is in
  all seeds, so that more of them make it worse.

## Power

The share of claims that are supported, in percent, where they hold by one point (for new examples by three, and on
both sides of a `~` by one or three).

{power}
"""


def page(outcomes: Mapping[Cell, Outcome], studies: int, minutes: float) -> str:
    """The page, from all figures."""
    edge = [found for cell, found in outcomes.items() if cell.truth == "edge"]
    return TEMPLATE.format(
        studies=studies,
        minutes=minutes,
        hardware=hardware()["processor"],
        versions=f"Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}",
        above=sum(found.confirmed for found in edge),
        figures=len(edge),
        fixed=_table(outcomes, FIXED, "edge"),
        sequential=_table(outcomes, [SEQUENTIAL, *OTHERS], "edge"),
        power=_table(outcomes, [*FIXED, SEQUENTIAL], "inside"),
    )


if __name__ == "__main__":
    main()
