"""What is said of a wrong study file or claim: the cause, and what to write instead."""

from typing import Any

import pytest

from project.errors import InputError
from project.studies.read_study import parse_study
from project.studies.study import FIRST_TUNING_SEED

SMALL: dict[str, Any] = {"question": "Why?", "vary": {"model.depth": [1, 2]}}
RATE = "model.learning_rate"


def refusal(content: dict[str, Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_study("s", content)
    assert caught.value.cause.startswith("study s: ")
    return caught.value


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("relu > sigmoyd", "there is no arm 'sigmoyd'", "did you mean sigmoid?"),
        ("relu > nan", "there is no arm 'nan'", "arms: relu, sigmoid, zeros"),
        ("relu sigmoid", "does not compare", "relu > sigmoid by 0.02"),
        ("relu > sigmoid > zeros", "does not compare", "write for example"),
        ("relu > ", "an arm or a number is missing", "write for example"),
        ("relu > sigmoid by much", "'much' is not a margin", "0.02"),
        ("relu > sigmoid by -0.1", "'-0.1' is not a margin", "0 or more"),
        ("relu == sigmoid", "never exactly equal", "within 0.01"),
        ("relu ~ sigmoid by 0.1", "never exactly equal", "within 0.01"),
        ("relu ~ sigmoid within 0", "never exactly equal", "within 0.01"),
        ("relu > sigmoid within 0.1", "within belongs to ~", "by"),
        ("relu sigmoid > zeros", "'sigmoid' in the place of + or -", "write for example"),
        ("0.1 < 0.2", "about no arm", "write for example"),
        ("", "does not compare", "write for example"),
    ],
)
def test_claims_that_are_refused(text: str, cause: str, remedy: str) -> None:
    error = refusal({"question": "?", "vary": {"model.init": ["relu", "sigmoid", "zeros"]}, "expect": [text]})
    assert error.cause.startswith(f"study s: claim {text!r}: ")
    assert cause in error.cause
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("changes", "cause", "remedy"),
    [
        ({"vari": {}}, "no key 'vari'", "did you mean vary?"),
        ({"question": None}, "no question", "question:"),
        ({"vary": None}, "compares nothing", "vary:"),
        ({"vary": [1]}, "must be mappings", "docs/studies.md"),
        ({"vary": {"model.depth": 3}}, "must be a list", "[first, second]"),
        ({"vary": {"model.depth": [1, 1]}}, "twice", "once"),
        ({"vary": None, "arms": {"a b": {}}}, "'a b' cannot be", "word without spaces"),
        ({"vary": None, "arms": {"by": {}}}, "'by' cannot be", "word"),
        ({"vary": None, "arms": {3: {}}}, "'3' cannot be", "not a number"),
        ({"seeds": {"at_least": 2, "at_most": 9}}, "no claim that could be decided", "expect:"),
        ({"seeds": 0}, "0 is no number of seeds", "seeds: 5"),
        ({"seeds": [1, 1]}, "seeds is [1, 1]", "seeds: 5"),
        ({"seeds": [FIRST_TUNING_SEED]}, "for tuning", "seeds: 5"),
        ({"reference": "depth=3"}, "no arm 'depth=3'", "did you mean depth="),
        ({"base": {"seed_everything": 3}}, "itself decides", "leave it out"),
        ({"base": 3}, "holds no settings", "model.depth: 3"),
        ({"expect": "depth=1 > depth=2"}, "must be a list", "dash"),
        ({"tune": {"trial": 3}}, "tune can hold", "docs/studies.md"),
        ({"tune": {"settings": {}}}, "names no settings", "low"),
        ({"tune": {"settings": {RATE: 0.1}}}, "must be a list of values", "low"),
        ({"tune": {"settings": {RATE: {"low": 1, "high": 1}}, "trials": 3}}, "goes from", "below"),
        ({"tune": {"settings": {RATE: {"low": 0, "high": 1, "log": True}}, "trials": 3}}, "from", "0"),
        ({"tune": {"settings": {RATE: {"low": 0.1, "high": 1}}}}, "must be at least 2", "trials: 8"),
        ({"tune": {"settings": {RATE: [1, 2]}, "trials": 3}}, "make 2 settings", "leave trials out"),
        ({"tune": {"settings": {RATE: [1, 2]}, "seeds": 0}}, "tune.seeds is gone", "docs/studies.md"),
        ({"search": {"settings": {RATE: [1, 2]}}}, "search cannot stand beside", "keep one"),
    ],
)
def test_study_files_that_are_refused(changes: dict[str, Any], cause: str, remedy: str) -> None:
    error = refusal({key: value for key, value in (SMALL | changes).items() if value is not None})
    assert cause in error.cause
    assert remedy in error.remedy
