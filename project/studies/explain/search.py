"""In which order changes are tried: many short trials, then fewer and longer ones, then combinations on fresh seeds.

The first rungs are successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943). What helps is then combined, and a
combination of many changes is pruned to those that it needs. The one that is chosen is compared with the run's own
settings on seeds that had no part in choosing it, so that its effect is not the luck of the choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from project.settings import Settings
from project.studies.explain.bench import Bench
from project.studies.explain.candidates import (
    Candidate,
    candidates,
    keeps_network,
    key,
    learning_rates,
    merge,
    num_changes,
)
from project.studies.explain.effects import WORTH
from project.studies.explain.sizes import WHOLE, Size, num_steps

MAX_SEEDS = 5
"""Fresh seeds on which the chosen changes are compared at most."""
SCREENED, PRUNED, COMPARED, COMBINED, CHOSEN = 0.36, 0.44, 0.6, 0.7, 0.78
"""The shares of the time at which the phases end; the rest is for the fresh seeds."""
PLAYOFF = 3
"""So many of the best changes are tried with one seed more, because the luckiest of many looks better than it is."""
CHOOSING_TRIALS = 16
"""About so many trials follow the first rung."""


@dataclass(eq=False)
class Search:
    """A search for the smallest set of changes that gets the gain.

    Args:
        bench: Where changes are tried.
        remedies: The flags of each finding's remedy, the most severe finding first.
        chosen: The best changes, which were tried on fresh seeds; None if nothing looked better.
        keeping: The best that keep the network, if the chosen ones do not.
        longer: Changes that train longer or on more examples and were tried.
        size: Of the trials that chose and compared.
        screening: Of the first trials.
    """

    bench: Bench
    remedies: Sequence[Sequence[str]]
    chosen: Settings | None = None
    keeping: Settings | None = None
    longer: list[Settings] = field(default_factory=list)
    size: Size = WHOLE
    screening: Size = WHOLE

    @property
    def fresh_seeds(self) -> list[int]:
        """The seeds on which the chosen changes are compared with the run's own settings."""
        return [self.bench.seed(1001 + number) for number in range(MAX_SEEDS)]

    @property
    def _seeds(self) -> list[int]:
        """The seeds that choose; the first one screens."""
        return [self.bench.seed(1), self.bench.seed(2)] if self.size == self.screening else [self.bench.seed(2)]

    def search(self) -> None:
        """Try everything, as far as the time allows."""
        bench = self.bench
        if not bench.measure():
            return
        tried = candidates(bench.settings, self.remedies, num_steps(bench.settings, bench.num_train))
        ordinary = [candidate for candidate in tried if candidate.kind != "longer"]
        left = (bench.budget.end - bench.at(0)) * bench.budget.workers
        # 0.7: at the end of a rung workers wait for its last trial
        self.size = bench.longest(0.7 * (1 - SCREENED) * left / CHOOSING_TRIALS)
        self.screening = bench.longest(SCREENED * left / (len(ordinary) + 2))
        if bench.seconds(self.screening) > bench.seconds(self.size):
            self.screening = self.size
        promising = self._screen(ordinary)
        bench.evaluate("comparing", promising, self.size, self._seeds, COMPARED)
        self._combine(promising)
        best = sorted(bench.tried(self.size), key=self._worth, reverse=True)
        keeping = [changes for changes in best if keeps_network(changes)]
        bench.evaluate("choosing", [*best[:PLAYOFF], *keeping[:2]], self.size, [bench.seed(3)], CHOSEN)
        self.chosen = self._best(bench.tried(self.size))
        if self.chosen is not None and not keeps_network(self.chosen):
            self.keeping = self._best([changes for changes in bench.tried(self.size) if keeps_network(changes)])
        self._confirm([candidate.changes for candidate in tried if candidate.kind == "longer"])

    def _screen(self, ordinary: Sequence[Candidate]) -> list[Settings]:
        """Try everything once; return what is worth a longer trial, with combinations that are pruned already."""
        bench, size = self.bench, self.screening
        bench.evaluate("trying", [c.changes for c in ordinary], size, [bench.seed(1)], SCREENED)
        found = {key(changes): bench.effect(changes, size).points for changes in bench.tried(size)}
        tried = [candidate for candidate in ordinary if key(candidate.changes) in found]

        def points(candidate: Candidate) -> float:
            return found[key(candidate.changes)]

        ranked = sorted(tried, key=points, reverse=True)
        single = [candidate for candidate in ranked if len(candidate.parts) <= 1]
        joint = next((candidate for candidate in ranked if len(candidate.parts) > 1), None)
        keeping = next((candidate for candidate in ranked if keeps_network(candidate.changes)), None)
        promising = [candidate.changes for candidate in (*single[:5], keeping) if candidate and points(candidate) > 0]
        if joint is None or points(joint) <= 0:
            return promising
        if points(joint) > max(map(points, single), default=0.0) + WORTH:
            return [*self._prune(joint), joint.changes, *promising]
        return [*promising, joint.changes]

    def _prune(self, joint: Candidate) -> list[Settings]:
        """Leave out each part of a combination in turn; return the sets of those whose absence costs most."""
        bench, size = self.bench, self.screening
        without = {
            key(part): merge(bench.settings, *(other for other in joint.parts if not set(part) & set(other)))
            for part in joint.parts
        }
        bench.evaluate("pruning", without.values(), size, [bench.seed(1)], PRUNED)
        whole = bench.effect(joint.changes, size).points

        def damage(part: Settings) -> float:
            effect = bench.effect(without[key(part)], size)
            return whole - effect.points if effect.seeds else 0.0

        ordered = sorted(joint.parts, key=damage, reverse=True)
        needed = sum(damage(part) > WORTH for part in ordered)
        counts = sorted({count for count in (1, 2, 3, needed) if 1 <= count < len(ordered)})
        return [merge(bench.settings, *ordered[:count]) for count in counts]

    def _worth(self, changes: Settings) -> float:
        """The points of some changes, less what each change must bring."""
        return self.bench.effect(changes, self.size).points - WORTH * num_changes(changes)

    def _best(self, tried: Sequence[Settings]) -> Settings | None:
        best = max(tried, key=self._worth, default=None)
        return best if best is not None and self._worth(best) > 0 else None

    def _combine(self, promising: Sequence[Settings]) -> None:
        """Add to the best changes what else helps, as long as it does and the time suffices."""
        bench = self.bench
        for share in ((COMPARED + COMBINED) / 2, COMBINED):
            best = self._best(bench.tried(self.size))
            if best is None:
                return
            gains = {key(changes): bench.effect(changes, self.size).points for changes in promising}
            helpful = sorted((c for c in promising if gains[key(c)] > 0), key=lambda c: -gains[key(c)])[:4]
            # not ten times: that one would have helped alone
            rates = [rate.changes for rate in learning_rates(bench.settings | best)[1:3]]
            added = [merge(bench.settings, best, change) for change in (*helpful, *rates)]
            added.append(merge(bench.settings, *helpful[1::-1], best))
            bench.evaluate("combining", [c for c in added if c], self.size, self._seeds, share)
            if self._best(bench.tried(self.size)) == best:
                return

    def _confirm(self, longer: Sequence[Settings]) -> None:
        """Compare what was chosen, and longer trainings, with the run's own settings on seeds that chose nothing."""
        bench, finalists = self.bench, [changes for changes in (self.chosen, self.keeping) if changes]
        first = self.fresh_seeds[:3]
        if finalists:
            bench.evaluate("confirming", finalists, self.size, first, 1.0)
        for changes in longer:
            left = (bench.budget.end - bench.budget.clock()) * bench.budget.workers
            seeds = first[: int(left / max(bench.seconds(self.size, changes), 1e-9))]
            if "data.num_train" in changes:  # how many examples there are altogether is not known here
                seeds = seeds[:1] if self.size == WHOLE else []
            bench.evaluate("training longer", [changes], self.size, seeds, 1.0)
            if bench.effect(changes, self.size, first).seeds:
                self.longer.append(changes)
        if finalists:
            bench.evaluate("confirming", finalists, self.size, self.fresh_seeds, 1.0)
