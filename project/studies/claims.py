"""Claims that are written down before looking."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from project.errors import InputError
from project.settings import did_you_mean

Operator = Literal[">", "<", "~"]
_OPERATORS: dict[str, Operator] = {">": ">", "<": "<", "~": "~", "==": "~"}
CLAIM_WORDS = (">", "<", "~", "==", "+", "-", "by", "within", "on", "chance")


@dataclass(frozen=True)
class Term:
    """One part of a claim's side: an arm, `chance`, or a number, added or taken away.

    Attributes:
        sign: 1 or −1.
        arm: Name of the arm, `chance`, or empty for a number.
        number: The number, 0 for an arm.
    """

    sign: int
    arm: str
    number: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A statement that a study can refute: left minus right lies in a region.

    Attributes:
        text: As it was written.
        terms: Left side, and the right side with its signs turned.
        operator: >, < or ~ (also written ==).
        margin: By how much, or within how much.
        metric: What is compared.
    """

    text: str
    terms: tuple[Term, ...]
    operator: Operator
    margin: float
    metric: str

    @property
    def region(self) -> tuple[float, float]:
        """Lower and upper bound that the claim sets to left minus right."""
        if self.operator == ">":
            return self.margin, math.inf
        if self.operator == "<":
            return -math.inf, -self.margin
        return -self.margin, self.margin

    @property
    def arms(self) -> list[str]:
        """The arms that it is about."""
        return [term.arm for term in self.terms if term.arm not in ("", "chance")]


def parse_claim(text: str, arms: Iterable[str], metric: str) -> Claim:
    """Read a claim.

    A claim is `SIDE > SIDE [by NUMBER]`, the same with `<`, or `SIDE ~ SIDE within NUMBER` (also written `==`), and
    may end with `on METRIC`. A side is an arm, `chance` or a number, or several of them with + or - between. Words are
    set apart by blanks.

    Args:
        text: Such as `relu > sigmoid by 0.02 on validation/accuracy`.
        arms: The study's arms.
        metric: What is compared unless the claim says so.

    Raises:
        InputError: If it is none, or if an arm does not exist.
    """
    words, arms = text.split(), list(arms)
    example = "write for example: relu > sigmoid by 0.02, or zeros == chance within 0.01"
    if len(words) >= 2 and words[-2] == "on":
        metric, words = words[-1], words[:-2]
    margin, margin_word = 0.0, ""
    if len(words) >= 2 and words[-2] in ("by", "within"):
        margin_word = words[-2]
        try:
            margin = float(words[-1])
        except ValueError:
            margin = math.nan
        if not (margin >= 0 and math.isfinite(margin)):
            raise InputError(f"claim {text!r}: {words[-1]!r} is no margin", "write a number of 0 or more, such as 0.02")
        words = words[:-2]
    places = [index for index, word in enumerate(words) if word in _OPERATORS]
    if len(places) != 1:
        raise InputError(f"claim {text!r} does not compare two sides with one of >, <, ~, ==", example)
    operator = _OPERATORS[words[places[0]]]
    if operator == "~" and (margin_word != "within" or margin == 0):
        raise InputError(
            f"claim {text!r}: nothing measured is ever exactly equal",
            "say how near is near enough: add within 0.01",
        )
    if operator != "~" and margin_word == "within":
        raise InputError(f"claim {text!r}: within belongs to ~", "write by in its place")
    left = _side(text, words[: places[0]], arms, example)
    right = _side(text, words[places[0] + 1 :], arms, example)
    terms = (*left, *(replace(term, sign=-term.sign) for term in right))
    if not any(term.arm not in ("", "chance") for term in terms):
        raise InputError(f"claim {text!r} is about no arm", example)
    return Claim(" ".join(text.split()), terms, operator, margin, metric)


def _side(text: str, words: Sequence[str], arms: list[str], example: str) -> list[Term]:
    terms = []
    for position, word in enumerate(words):
        if position % 2:
            if word not in ("+", "-"):
                raise InputError(f"claim {text!r}: {word!r} is where + or - should be", example)
            continue
        sign = -1 if position and words[position - 1] == "-" else 1
        if word in arms or word == "chance":
            terms.append(Term(sign, word))
            continue
        try:
            terms.append(Term(sign, "", float(word)))
        except ValueError:
            check_arm(f"claim {text!r}", word, arms)
    if not len(words) % 2:
        raise InputError(f"claim {text!r} lacks an arm or a number", example)
    return terms


def check_arm(where: str, arm: str, arms: Iterable[str]) -> None:
    """Refuse an arm that does not exist, with the nearest one that does."""
    names = list(arms)
    if arm not in names:
        raise InputError(f"{where}: there is no arm {arm!r}", did_you_mean(arm, names) + "arms: " + ", ".join(names))
