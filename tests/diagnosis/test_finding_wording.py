"""The few sentences whose wording is fixed. All other tests hold codes, numbers and flags."""

import pytest
import torch

from project.diagnosis.judgement.data import DataSummary, judge_data
from project.diagnosis.judgement.findings import Finding, verdict
from project.diagnosis.tensorboard.pictures import mistakes_figure
from project.diagnosis.tensorboard.tabs import judgement_markdown

NOTE = Finding("a", "note", "A note.", ["--x 1"])
OVERFITS = Finding("overfitting", "warning", "It overfits.", ["--model.dropout 0.5"])
LOST = Finding("nothing_learned", "severe", "It learned nothing.")
RESULTS = {"status": "early_stopped", "epochs": 12, "best": {"epoch": 7}, "test/accuracy": 0.8912}
HAPPENED = "Early stopped after 12 epochs: test accuracy 89.12% (best epoch 7)."


@pytest.mark.parametrize(
    ("findings", "sentences"),
    [
        ([], "Nothing stands out."),
        ([NOTE, OVERFITS], "It overfits. Try --model.dropout 0.5."),
        # two are said, but no note beside another finding
        ([LOST, NOTE, OVERFITS], "It learned nothing. It overfits. Try --model.dropout 0.5."),
        ([NOTE], "A note. Try --x 1."),
    ],
)
def test_verdict_says_what_happened_and_the_most_severe_finding(findings: list[Finding], sentences: str) -> None:
    assert verdict(findings, RESULTS) == f"{HAPPENED} {sentences}"


def test_verdict_of_a_regression() -> None:
    results = {"status": "completed", "epochs": 1, "test/rmse": 3.14159, "validation/rmse": 4}
    assert verdict([], results) == "Completed after 1 epoch: test rmse 3.142, validation rmse 4. Nothing stands out."


def test_findings_in_markdown() -> None:
    assert judgement_markdown([]) == "Nothing stands out."
    assert judgement_markdown([LOST, OVERFITS]) == (
        "- **severe** (nothing learned): It learned nothing.\n"
        "- **warning** (overfitting): It overfits. Try `--model.dropout 0.5`.\n"
        "\n"
        "All together: `--model.dropout 0.5`"
    )


def test_a_sentence_holds_its_numbers() -> None:
    (unbalanced,) = judge_data(DataSummary(0.0, 0.0, 1.0, [0.94, 0.06], ["shirt", "bag"]))
    assert unbalanced.sentence == (
        "The classes are unbalanced: for each example of bag there are 16 of shirt. Always answering shirt is right "
        "94% of the time, so read macro F1 beside accuracy."
    )


def test_captions_of_mistakes() -> None:
    images, shares, targets = torch.zeros(1, 2, 2), torch.tensor([[0.9, 0.1]]), (torch.tensor([0]), torch.tensor([1]))
    figures = [mistakes_figure(images, shares, target, ("Coat", "Bag")) for target in targets]
    captions = [[text.get_text() for text in figure.axes[0].texts] for figure in figures]
    title = "The 1 surest of 1 mistakes among 1 test pictures\nabove the truth, below what the network says"
    assert captions == [["No mistake among 1 test pictures"], [title, "Bag\nsays Coat, 90%"]]
