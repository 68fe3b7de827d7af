"""What a report says in words; what it concludes is tested in test_report.py."""

from dataclasses import replace

import pytest
from test_report import made_up  # type: ignore[import-not-found]

from project.studies.reporting.formats import format_difference, format_p, format_value
from project.studies.reporting.report import make_report
from project.studies.reporting.wording import headline, sentence
from project.studies.reporting.write import to_html, to_index, to_markdown


def test_verdicts_in_words() -> None:
    report = make_report(*made_up())
    assert headline(report) == "Of 6 claims: 4 supported, 1 contradicted, 1 undecided."
    deeper, lower, chance, undecided, interaction, on_loss = (sentence(report.study, j) for j in report.judgements)
    found = report.judgements[0].estimate
    assert f"+{100 * found.mean:.2f} points" in deeper
    assert "99.2 % interval, adjusted for 6 claims: " in deeper
    assert f"+{100 * found.low:.2f} to +{100 * found.high:.2f} points; 5 seeds)" in deeper
    assert lower.startswith("Contradicted. test/accuracy, relu,depth=1 minus tanh,depth=6: +76.24 points")
    assert "tanh,depth=6 minus chance: ±0.00 points" in chance
    assert "All 5 seeds agree" in chance
    assert "would probably decide" in undecided or "would be needed" in undecided
    assert "(relu,depth=6 - relu,depth=1) minus (tanh,depth=6 - tanh,depth=1): +77.18 points" in interaction
    assert on_loss.startswith("Supported. test/loss, relu,depth=6 minus relu,depth=1: −0.00")
    assert on_loss.endswith("For new seeds on these test examples.")


def test_a_claim_that_was_written_later_is_marked_wherever_it_stands() -> None:
    study, records = made_up()
    late = replace(study.claims[0], late="written 2026-11-25, after 7 runs")
    report = make_report(replace(study, claims=(late, *study.claims[1:])), records)
    assert "1 written only after runs had ended" in headline(report)
    for text in (to_html(report, {}), to_markdown(report), to_index([report])):
        assert "after 7 runs" in text


def test_the_index_in_words() -> None:
    index = to_index([make_report(*made_up())] * 2)
    assert "12 claims: 8 supported, 2 contradicted, 2 undecided" in index
    assert "| ✘ | `relu,depth=1 < tanh,depth=6` | contradicted: +76.24 points" in index
    assert index.endswith("on a processor.\n")


def test_warnings_in_words() -> None:
    study, records = made_up()
    records[0] = replace(records[0], status="diverged", metrics={})
    records[6] = replace(records[6], status="failed", metrics={}, error="Traceback\nMemoryError: too large")
    failed, diverged, collapsed = sorted(make_report(study, records).warnings, key=len)
    assert failed == "1 of 5 runs of relu,depth=6 failed: MemoryError: too large"
    assert diverged.startswith("1 of 5 runs of relu,depth=1 diverged")
    assert collapsed.startswith("relu,depth=1 collapsed in 1 of 5 seeds")


def test_one_seed_cannot_tell() -> None:
    study, records = made_up()
    report = make_report(study, [record for record in records if record.seed == 0])
    assert {judgement.name for judgement in report.judgements} == {"undecided"}
    assert "runs of 1 seeds have ended" in sentence(study, report.judgements[0])
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
