"""What a report says in words; what it concludes is tested in test_report.py."""

from dataclasses import replace

import pytest
from test_report import ACCURACIES, made_up  # type: ignore[import-not-found]

from project.studies.reporting.formats import format_difference, format_p, format_value
from project.studies.reporting.report import make_report
from project.studies.reporting.wording import headline
from project.studies.reporting.write import to_index


def test_verdicts_in_words() -> None:
    report = make_report(*made_up())
    assert headline(report) == "Of 6 claims: 4 supported, 1 contradicted, 1 undecided."
    deeper, lower, chance, undecided, interaction, on_loss = (j.sentence for j in report.judgements)
    estimate = report.judgements[0].verdict.test.estimate
    assert f"+{100 * estimate.mean:.2f} points" in deeper
    assert f"(95 % interval +{100 * estimate.low:.2f} to +{100 * estimate.high:.2f} points, 5 seeds" in deeper
    assert lower.startswith("Contradicted. test/accuracy, relu,depth=1 minus tanh,depth=6: +76.24 points")
    assert "tanh,depth=6 minus chance: ±0.00 points" in chance
    assert "seeds would probably decide" in undecided or "would be needed" in undecided
    assert "(relu,depth=6 - relu,depth=1) minus (tanh,depth=6 - tanh,depth=1): +77.18 points" in interaction
    assert on_loss.startswith("Supported. test/loss, relu,depth=6 minus relu,depth=1: −0.00")


def test_the_index_in_words() -> None:
    index = to_index([make_report(*made_up())] * 2)
    assert "12 claims: 8 supported, 2 contradicted, 2 undecided" in index
    assert "| ✘ | `relu,depth=1 < tanh,depth=6` | contradicted: +76.24 points" in index
    assert index.endswith("on a processor.\n")


def test_warnings_in_words() -> None:
    study, records = made_up(tune={"settings": {"model.learning_rate": [0.001, 0.01, 0.1]}})
    records = [replace(r, settings=r.settings | {"model.learning_rate": 0.001}) for r in records]
    records[0] = replace(records[0], status="diverged", metrics={})
    records[6] = replace(records[6], status="failed", metrics={}, error="Traceback\nMemoryError: too large")
    failed, diverged, edge = sorted(make_report(study, records).warnings, key=len)
    assert failed == "1 of 5 runs of relu,depth=6 failed: MemoryError: too large"
    assert diverged == "1 of 5 runs of relu,depth=1 diverged; their accuracy counts as chance."
    assert edge.startswith(f"For {', '.join(ACCURACIES)} the smallest model.learning_rate")


def test_one_seed_cannot_tell() -> None:
    study, records = made_up()
    report = make_report(study, [record for record in records if record.seed == 0])
    assert {judgement.name for judgement in report.judgements} == {"undecided"}
    assert "one seed cannot tell" in report.judgements[0].sentence
    study, records = made_up(expect=[])
    assert headline(make_report(study, records)) == "The study makes no claim. The best mean has relu,depth=6: 87.16 %."


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (format_value(0.12345, "test/accuracy"), "12.35 %"),
        (format_value(0.12345, "test/loss"), "0.1235"),
        (format_value(float("nan"), "test/loss"), "–"),
        (format_difference(-0.0123, "test/accuracy"), "−1.23 points"),
        (format_difference(0.0, "test/loss"), "±0"),
        (format_p(1e-9), "< 0.0001"),
        (format_p(0.0123), "0.012"),
        (format_p(float("nan")), "–"),
    ],
)
def test_numbers_for_people(found: str, expected: str) -> None:
    assert found == expected
