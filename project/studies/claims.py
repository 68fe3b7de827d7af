"""Claims about a study's result, written down before anybody looks at it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from project.errors import InputError
from project.settings import did_you_mean

Operator = Literal[">", "<", "~"]
_OPERATORS: dict[str, Operator] = {">": ">", "<": "<", "~": "~", "==": "~"}
CLAIM_WORDS = (*_OPERATORS, "+", "-", "by", "within", "on", "chance")
"""These words have a meaning in claims: no arm can have such a name."""
_EXAMPLE = "write for example: relu > sigmoid by 0.02, or zeros == chance within 0.01"


@dataclass(frozen=True)
class Claim:
    """A statement that a study can refute: its left side minus its right side lies in a region.

    Attributes:
        weights: Left minus right is the sum of the arms' values times these; `chance` counts as an arm, and the
            weight of the empty name is a number that is added.
        margin: The sides differ by more than this; with ~, by less than this.
        late: It says when the claim was written, if that was after runs of the study had ended; else it is empty.
    """

    text: str
    weights: dict[str, float]
    operator: Operator
    margin: float
    metric: str
    late: str = ""

    @property
    def region(self) -> tuple[float, float]:
        """The lower and the upper bound that the claim sets for left minus right."""
        if self.operator == "~":
            return -self.margin, self.margin
        return (self.margin, math.inf) if self.operator == ">" else (-math.inf, -self.margin)

    @property
    def arms(self) -> list[str]:
        """The names of the arms that the claim is about."""
        return [arm for arm in self.weights if arm not in ("", "chance")]


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the place of an error, such as `study dropout`, before the cause of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error.cause}", error.remedy) from None


def parse_claim(text: str, arms: Iterable[str], metric: str) -> Claim:
    """Read a claim.

    A claim is `SIDE > SIDE [by NUMBER]`, the same with `<`, or `SIDE ~ SIDE within NUMBER` (also written `==`), and
    may end with `on METRIC`. A side is an arm, `chance` or a number, or several of them with + or - between them.
    Spaces separate the words.

    Args:
        text: Write for example `relu > sigmoid by 0.02 on validation/accuracy`.
        arms: The claim can name these arms.
        metric: A claim that names no metric is about this one.

    Raises:
        InputError: If the text is not a claim, or if an arm does not exist.
    """
    with naming(f"claim {text!r}"):
        words, arms, margin, margin_word = text.split(), list(arms), "0", ""
        if words[-2:-1] == ["on"]:
            *words, _, metric = words
        if words[-2:-1] in (["by"], ["within"]):
            *words, margin_word, margin = words
        size = _number(margin)
        if not 0 <= size < math.inf:  # NaN fails every comparison
            raise InputError(f"{margin!r} is not a margin", "write a number of 0 or more, such as 0.02")
        places = [index for index, word in enumerate(words) if word in _OPERATORS]
        if len(places) != 1:
            raise InputError("it does not compare two sides with one of >, <, ~, ==", _EXAMPLE)
        operator = _OPERATORS[words[places[0]]]
        if operator == "~" and (margin_word != "within" or size == 0):
            raise InputError("measured values are never exactly equal", "say what is close enough: add within 0.01")
        if operator != "~" and margin_word == "within":
            raise InputError("within belongs to ~ and ==", "write by instead of within")
        weights: dict[str, float] = {}
        _add_side(weights, 1, words[: places[0]], arms)
        _add_side(weights, -1, words[places[0] + 1 :], arms)
        claim = Claim(" ".join(text.split()), weights, operator, size, metric)
        if not claim.arms:
            raise InputError("it is about no arm", _EXAMPLE)
    return claim


def _add_side(weights: dict[str, float], factor: int, words: Sequence[str], arms: list[str]) -> None:
    for word in words[1::2]:
        if word not in ("+", "-"):
            raise InputError(f"it has {word!r} in the place of + or -", _EXAMPLE)
    if not len(words) % 2:
        raise InputError("an arm or a number is missing", _EXAMPLE)
    for sign, word in zip(("+", *words[1::2]), words[::2], strict=True):
        name, number = (word, 1.0) if word in arms or word == "chance" else ("", _number(word))
        if math.isnan(number):
            check_arm(word, arms)
        weights[name] = weights.get(name, 0.0) + (-factor if sign == "-" else factor) * number


def _number(word: str) -> float:
    """The number that a word stands for; NaN if it stands for none."""
    try:
        return float(word)
    except ValueError:
        return math.nan


def check_arm(arm: str, arms: Iterable[str]) -> None:
    """Refuse an arm that does not exist, and name the most similar one that does."""
    names = list(arms)
    if arm not in names:
        raise InputError(f"there is no arm {arm!r}", did_you_mean(arm, names) + "arms: " + ", ".join(names))
