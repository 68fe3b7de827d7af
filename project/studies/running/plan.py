"""Which runs a study needs, given the results that it has."""

from collections.abc import Sequence

from project.errors import RunError
from project.settings import Settings
from project.studies.running.progress import Progress
from project.studies.statistics.judge import arms_still_asking
from project.studies.study import FIRST_TUNING_SEED, Cell, RunRecord, Study
from project.studies.tuning import Scores, add_score, chosen_point, points_to_try


class Plan:
    """A study's runs, those of tuning included, as far as the results so far say that they are needed.

    Args:
        study: The study.
        found: What a search has found, for the arm `best`.
    """

    def __init__(self, study: Study, found: Settings | None = None) -> None:
        self.study = study
        self.results: dict[str, RunRecord] = {}
        self.found = found
        self._wanted = dict.fromkeys(study.arms, study.looks[0])  # the number of seeds, by arm
        self._scores: dict[str, Scores] = {arm: {} for arm in study.arms}
        self._cells: dict[tuple[str, int, int], Cell] = {}

    def note(self, key: str, record: RunRecord) -> None:
        """Take in the result of a run."""
        self.results[key] = record
        if record.phase == "tune":
            add_score(self._scores[record.arm], record, self.study.selection_metric)

    def cells(self) -> list[Cell]:
        """All runs that are known to be needed, whether they have a result or not.

        Each seed comes with all arms before the next seed, so that a study that is stopped early is balanced.
        """
        arms = {arm: points_to_try(self.study, self._scores[arm]) for arm in self.study.arms}
        cells = []
        for position, seed in enumerate(self.study.seeds):
            asking = {arm: points for arm, points in arms.items() if position < self._wanted[arm]}
            most = max((len(points) for points, *_ in asking.values()), default=0)
            cells += [
                self._tuning_cell(arm, seed, index, points[index])
                for index in range(most)
                for arm, (points, *_) in asking.items()
                if index < len(points)
            ]
            cells += [
                self._final_cell(arm, seed, points)
                for arm, (points, settled, _) in asking.items()
                if settled and all(seed in self._scores[arm].get(index, {}) for index in range(len(points)))
            ]
        return cells

    def due(self) -> list[Cell]:
        """The runs that have no result yet."""
        return [cell for cell in self.cells() if cell.key not in self.results]

    def next_look(self) -> bool:
        """Ask for more seeds of the arms whose claims are undecided, once nothing is due; whether there are any."""
        asking = arms_still_asking(self.study, self.records()) if self.study.sequential else set[str]()
        for arm in asking:
            self._wanted[arm] = next(look for look in self.study.looks if look > self._wanted[arm])
        return bool(asking)

    def progress(self, running: Sequence[Cell]) -> Progress:
        """How far the study is while some runs are in progress."""
        records, metric = self.records(), self.study.metric
        failed = sum(record.status == "failed" for record in records)
        newest, last = list(self.results.values())[-50:], ""
        if newest:
            value = newest[-1].value(metric)
            outcome = newest[-1].status if value is None else f"{metric} {value:.4f}"
            last = f"{newest[-1].arm} seed {newest[-1].seed}: {outcome}"
        seconds = tuple(record.metrics["seconds"] for record in newest if "seconds" in record.metrics)
        labels = tuple(cell.label for cell in running)
        return Progress(len(self.cells()), len(records) - failed, failed, labels, seconds, last)

    def records(self) -> list[RunRecord]:
        """The results so far, in the study's order."""
        return [self.results[cell.key] for cell in self.cells() if cell.key in self.results]

    def _tuning_cell(self, arm: str, seed: int, index: int, point: Settings) -> Cell:
        cell = self._cells.get((arm, seed, index))
        if cell is None:
            settings = self.study.settings(arm, FIRST_TUNING_SEED + seed) | point
            cell = self._cells[arm, seed, index] = Cell("tune", arm, seed, settings, index)
        return cell

    def _final_cell(self, arm: str, seed: int, points: list[Settings]) -> Cell:
        cell = self._cells.get((arm, seed, -1))
        if cell is None:
            settings, error = self.study.settings(arm, seed) | ((self.found or {}) if arm == "best" else {}), ""
            try:
                settings |= chosen_point(arm, seed, points, self._scores[arm]) if points else {}
            except RunError as failure:
                error = f"{failure.cause} ({failure.remedy})"
            cell = self._cells[arm, seed, -1] = Cell("final", arm, seed, settings)
            if error:
                self.note(cell.key, RunRecord(arm, seed, status="failed", settings=settings, error=error))
        return cell
