"""The verdicts on a study's claims: at each of its looks, with the level shared by looks and claims."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from project.studies.claims import Claim
from project.studies.statistics.estimates import ALPHA, Estimate, Sample
from project.studies.statistics.evidence import Evidence, Runs, chance_of, final_runs, gather
from project.studies.statistics.looks import look_levels
from project.studies.statistics.needed_seeds import seeds_range
from project.studies.statistics.new_examples import examples_variance, widen
from project.studies.study import RunRecord, Study
from project.studies.tuning import open_edges

VerdictName = Literal["supported", "contradicted", "undecided"]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Question:
    """One of several tests that share a level.

    Attributes:
        sample: Its mean is in question.
        low: The mean is supposed to lie above this.
        high: The mean is supposed to lie below this.
        look: It is tested at this look, counted from 0.
        further_variance: The mean varies by so much more than the sample shows: by the choice of test examples.
    """

    sample: Sample
    low: float
    high: float
    look: int = 0
    further_variance: float = 0.0

    def answer(self, level: float) -> tuple[Estimate, VerdictName]:
        """The estimate at a level, and the verdict that it gives."""
        found = self.sample.estimate(level)
        if self.further_variance:
            found = widen(found, self.further_variance)
        return found, verdict_of(found, self.low, self.high)


@dataclass(frozen=True)
class Judgement:
    """A claim and the verdict on it.

    Attributes:
        claim: The claim as it stands in the study.
        name: It is decided exactly when the estimate's interval lies wholly inside or outside of the claim's region.
        estimate: What the claim is about, with the interval at the level at which the claim was tested; before the
            first look there is a mean and no interval.
        look: After so many seeds the claim was judged; 0 before the first look.
        num_ended: For so many seeds, from the first one on, all runs of the claim's arms have ended.
        num_claims: So many claims share the study's level.
        evidence: The numbers behind the estimate.
        blocked: A sentence that says why there can be no verdict; else it is empty.
        new_examples: The estimate as one for new test examples too; None where the runs do not allow it.
        needed: A range of numbers of seeds that would decide; None where it does not exist or makes no sense.
    """

    claim: Claim
    name: VerdictName
    estimate: Estimate
    look: int
    num_ended: int
    num_claims: int
    evidence: Evidence
    blocked: str = ""
    new_examples: Estimate | None = None
    needed: tuple[int, int | None] | None = field(default=None)

    @property
    def name_for_new_examples(self) -> VerdictName:
        """The verdict where the test examples vary too."""
        return verdict_of(self.new_examples, *self.claim.region) if self.new_examples else "undecided"


def verdict_of(estimate: Estimate, low: float, high: float) -> VerdictName:
    """Supported if the interval lies inside the region between two bounds, contradicted if it lies outside."""
    if estimate.lies_within(low, high):
        return "supported"
    return "contradicted" if estimate.high < low or estimate.low > high else "undecided"


def ask_together(questions: Mapping[Key, Question], looks: tuple[int, ...], num_open: int) -> dict[Key, Estimate]:
    """Estimates at the levels that keep the probability of any false verdict at ALPHA over all looks.

    A question is tested at the level of its look in a plan that has, of ALPHA, one share out of as many as there are
    open questions. Those that are decided leave their shares to the others, which are then asked again.

    Args:
        questions: They are asked now.
        looks: The numbers of seeds at the looks.
        num_open: So many are not decided before; it may be larger than the number of those that are asked now.

    Source: Holm 1979; with looks Maurer & Bretz 2013, "Multiple testing in group sequential trials".
    """
    answers: dict[Key, tuple[Estimate, VerdictName]] = {}
    undecided = dict(questions)
    while undecided:
        levels = look_levels(looks, ALPHA / num_open)
        answers |= {key: question.answer(levels[question.look]) for key, question in undecided.items()}
        still = {key: question for key, question in undecided.items() if answers[key][1] == "undecided"}
        if len(still) == len(undecided):
            break
        num_open -= len(undecided) - len(still)
        undecided = still
    return {key: found for key, (found, _) in answers.items()}


def judge_study(study: Study, records: Iterable[RunRecord]) -> list[Judgement]:
    """Judge a study's claims from its runs, in the order of the claims.

    The looks are replayed: a look takes place when the runs of all claims that are still open have ended for its number
    of seeds, in whatever status. A verdict stays as it was at its look, so that the answer is the same while the study
    runs and afterwards.
    """
    records = list(records)
    runs = final_runs(records)
    chance = chance_of(runs.values())
    judgements = [_before_looks(study, claim, runs, chance) for claim in study.claims]
    open_claims = set(range(len(study.claims)))
    num_open_for_new_examples = len(study.claims)
    for look, number in enumerate(study.looks):
        asked = [index for index in sorted(open_claims) if not judgements[index].blocked]
        if not asked or any(judgements[index].num_ended < number for index in asked):
            break
        seeds = study.seeds[:number]
        edges = open_edges(study, [r for r in records if r.phase == "tune" or r.seed in seeds])
        evidence = {index: gather(study.claims[index], runs, seeds, chance) for index in asked}
        blocked = {index: _blocked(study.claims[index], evidence[index], edges) for index in asked}
        questions = {i: Question(evidence[i].sample, *study.claims[i].region, look) for i in asked if not blocked[i]}
        estimates = ask_together(questions, study.looks, len(open_claims))
        # verdicts for new examples can be false too: they share a level of their own
        wider = {
            i: replace(question, further_variance=variance)
            for i, question in questions.items()
            if (variance := examples_variance(study.claims[i], evidence[i], runs)) is not None
        }
        widened = ask_together(wider, study.looks, num_open_for_new_examples)
        for index in blocked:
            judgements[index] = judgement = _judgement(
                study,
                judgements[index],
                evidence[index],
                blocked[index],
                estimates.get(index) or evidence[index].sample.estimate(),
                number,
                widened.get(index),
            )
            if judgement.name != "undecided":
                open_claims.remove(index)
            num_open_for_new_examples -= judgement.name_for_new_examples != "undecided"
    return judgements


def arms_still_asking(study: Study, records: Iterable[RunRecord]) -> set[str]:
    """The arms that need more seeds: those of claims that are open, not blocked, and have looks left."""
    judgements = judge_study(study, records)
    still = (j for j in judgements if j.name == "undecided" and not j.blocked and j.look < study.looks[-1])
    return {arm for judgement in still for arm in judgement.claim.arms}


def _before_looks(study: Study, claim: Claim, runs: Runs, chance: float | None) -> Judgement:
    """What is known of a claim before its first look: a mean, and how far the runs are."""
    ended = [all((arm, seed) in runs for arm in claim.arms) for seed in study.seeds]
    number = ended.index(False) if False in ended else len(ended)
    evidence = gather(
        claim, runs, [seed for seed, has_ended in zip(study.seeds, ended, strict=True) if has_ended], chance
    )
    found = Sample(evidence.sample.values[:1]).estimate()
    unknown = Estimate(
        evidence.sample.n, evidence.sample.mean, evidence.sample.sd, found.low, found.high, ALPHA, "none"
    )
    return Judgement(claim, "undecided", unknown, 0, number, len(study.claims), evidence)


def _blocked(claim: Claim, evidence: Evidence, edges: Mapping[str, str]) -> str:
    for arm in evidence.no_worst:
        return f"a training of {arm} diverged, and {claim.metric} has no worst value as which that could count"
    return next((edges[arm] for arm in claim.arms if arm in edges), "")


def _judgement(
    study: Study,
    before: Judgement,
    evidence: Evidence,
    blocked: str,
    found: Estimate,
    look: int,
    new_examples: Estimate | None,
) -> Judgement:
    claim = before.claim
    name = "undecided" if blocked else verdict_of(found, *claim.region)
    needed = None
    if name == "undecided" and not blocked and not study.sequential and found.test == "t":
        needed = seeds_range(found, *claim.region)
    return Judgement(
        claim, name, found, look, before.num_ended, before.num_claims, evidence, blocked, new_examples, needed
    )
