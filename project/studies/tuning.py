"""Which settings an arm of a study gets by tuning, and whether a better one may lie beyond what was tried."""

from collections.abc import Iterable
from itertools import pairwise
from statistics import fmean

from project.errors import RunError
from project.settings import Settings
from project.studies.study import Range, RunRecord, Study, Tuning, larger_is_better

MAX_EXTENSIONS = 3
"""So many further points are tried for an arm whose best one lies at the edge."""
LEAST_FACTOR = 1.9
"""A list grows by factors if each value is so many times the one before: 0.001, 0.003; not 0.1, 0.2, 0.3."""

Scores = dict[int, dict[int, float]]
"""For each point by its index and each seed how good the validation result is: larger is better, −∞ is a failure."""


def add_score(scores: Scores, record: RunRecord, metric: str) -> None:
    """Take in the validation result of a tuning run; one that failed counts as the worst."""
    value = record.value(metric)
    good = float("-inf") if value is None else value if larger_is_better(metric) else -value
    scores.setdefault(record.point, {})[record.seed] = good


def points_to_try(study: Study, scores: Scores) -> tuple[list[Settings], bool, str]:
    """The points that an arm's tuning needs: those of the study, and further ones beyond an edge that is best.

    The seeds of the first look decide, so that all seeds of the arm try the same points.

    Args:
        study: The study; without tuning there are no points.
        scores: The arm's validation results so far.

    Returns:
        The points, whether they are all that will be needed, and the setting whose best value still lies at the edge
        after MAX_EXTENSIONS further points; the last is empty if there is none.
    """
    if study.tuning is None:
        return [], True, ""
    points, first = list(study.tuning.points), study.seeds[: study.looks[0]]
    while True:
        results = [scores.get(index, {}) for index in range(len(points))]
        if not all(seed in result for result in results for seed in first):
            return points, False, ""
        means = [fmean(result[seed] for seed in first) for result in results]
        if max(means) == float("-inf"):
            return points, True, ""
        edge, beyond = _beyond(study.tuning, points, means.index(max(means)))
        if beyond is None or len(points) == len(study.tuning.points) + MAX_EXTENSIONS:
            return points, True, edge
        points.append(beyond)


def chosen_point(arm: str, seed: int, points: list[Settings], scores: Scores) -> Settings:
    """The best point for one seed of an arm.

    Raises:
        RunError: If no point worked.
    """
    best = max(range(len(points)), key=lambda index: scores[index][seed])
    if scores[best][seed] == float("-inf"):
        raise RunError(f"tuning found no settings that work for arm {arm}", "look at the errors of its tuning runs")
    return points[best]


def open_edges(study: Study, records: Iterable[RunRecord]) -> dict[str, str]:
    """Arms whose best settings lie at the edge of all that was tried, each with a sentence that says so."""
    scores: dict[str, Scores] = {arm: {} for arm in study.arms}
    for record in records:
        if record.phase == "tune":
            add_score(scores[record.arm], record, study.selection_metric)
    edges = {arm: points_to_try(study, found)[2] for arm, found in scores.items()}
    return {
        arm: f"the best {key} that was tried for {arm} is the last one: a better one may lie beyond"
        for arm, key in edges.items()
        if key
    }


def _beyond(tuning: Tuning, points: list[Settings], best: int) -> tuple[str, Settings | None]:
    """The setting for which the best point is at the edge, and the point one step further; None if that was tried."""
    for key, space in tuning.spaces.items():
        numbers = [point[key] for point in points if not isinstance(point[key], bool)]
        tried = sorted({value for value in numbers if isinstance(value, int | float)})
        value = points[best][key]
        if len(tried) < 2 or value not in (tried[0], tried[-1]):
            continue
        first, last = tried[0], tried[-1]
        by_factors = first > 0 and min(b / a for a, b in pairwise(tried)) >= LEAST_FACTOR
        if space.log if isinstance(space, Range) else by_factors:
            step = (last / first) ** (1 / (len(tried) - 1))
            further = value * step if value == last else value / step
        else:
            step = (last - first) / (len(tried) - 1)
            further = value + step if value == last else value - step
            if further < 0 <= first:  # what is never negative has no value below 0
                further = value / 2
        further = round(further) if all(isinstance(number, int) for number in tried) else float(f"{further:.3g}")
        beyond = {**points[best], key: further}
        if further != value and beyond not in points:
            return key, beyond
    return "", None
