"""How well the passages support any answer to a question, before a word is generated.

A small model answers whatever it is asked; its own word on whether it can is worth little. So the decision leans on the
passages: does one neighbourhood of sentences hold what the question asks about (names and numbers above all), does it meet
in meaning what it meets least, and does it hold the kind of thing that is asked for (a person, a date, an amount, …)?
The weights are fitted on other documents and questions than those of the tests (`benchmarks/abstention.py`).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from services.chat.domain import facts
from services.chat.domain.turn import Passage
from services.layout.nearest import Neighbourhood, question_names, share
from services.layout.words import content, sentences, tokens


@dataclass(frozen=True, slots=True)
class Features:
    """What the decision looks at; each 0 to 1, higher speaks for an answer.

    Attributes:
        met: How well the best neighbourhood meets the words of the question that it meets least, in meaning.
        attribute: Share of the question's content words that are no names in the best neighbourhood: what is asked.
        named: Share of the question's names that stand in the best passage.
        kind: Whether the best neighbourhood holds the kind of thing that is asked for; .5 when any text may answer.
    """

    met: float
    attribute: float
    named: float
    kind: float


@dataclass(frozen=True, slots=True)
class Model:
    """Logistic weights in the order of `Features`, and the two thresholds on the probability.

    Attributes:
        answer: Below it the turn is refused before generation.
        sure: From it on the text streams at once; between the two it is held until a part of it is supported.
    """

    weights: tuple[float, ...]
    bias: float
    answer: float
    sure: float


def features(
    question: str,
    passages: Sequence[Passage],
    *,
    places: Sequence[tuple[float, Neighbourhood]],
    met: Sequence[float],
) -> Features:
    """Return the features of a question against the passages that were found for it.

    Args:
        question: The question as it stands by itself.
        passages: What was found; not empty.
        places: The best of `ranked`.
        met: How well each of `places` meets what it meets least.
    """
    words = content(question)
    named = question_names(question)
    attributes = [token for token in words if token.norm not in named and not token.is_generic and not token.is_number]
    best = [
        (window, share(attributes, named, place.in_full) if attributes else 0.5, answer_kind(question, place.in_full))
        for window, place in places
    ]
    _, attribute, kind = max(best, key=lambda item: item[0] + 0.5 * item[1] + 0.25 * item[2], default=(0.0, 0.0, 0.0))
    names = [token for token in words if token.norm in named]
    full = [f"{passage.title} {' '.join(passage.locator.heading_path)} {passage.text}" for passage in passages]
    return Features(
        met=max(0.0, *met),
        attribute=attribute,
        named=max(share(names, named, text) for text in full) if names else 1.0,
        kind=kind,
    )


def score(found: Features, model: Model) -> float:
    """Return the probability that the passages hold an answer, 0 to 1."""
    total = model.bias + sum(weight * value for weight, value in zip(model.weights, astuple(found), strict=True))
    return 1.0 / (1.0 + math.exp(-total))


_PERSON = re.compile(r"\b[A-Z][a-z'’-]+\s+(?:[A-Z]\.\s+)?[A-Z][a-z'’-]+")
_MONEY = re.compile(r"[$€£]\s?\d|\b\d[\d,.]*\s?(?:dollars?|euros?|pounds?|usd|eur|gbp|million|k\b)", re.IGNORECASE)
_DIGITS = re.compile(r"\d")
_DURATION = re.compile(
    r"\b(?:\d+|an?|one|two|three|four|five|six|seven|eight|nine|ten|twelve|thirty|sixty|ninety)[\s-]+(?:\w+\s+)?"
    r"(?:second|minute|hour|day|week|month|quarter|year)s?\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\d{1,2}[:.]\d{2}|\b\d{1,2}\s?[ap]\.?m\b|\b(?:19|20)\d{2}\b|\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|"
    r"daily|weekly|monthly|annually|quarterly|yearly|once|before|after|within|upon|until|every)\b",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\b(?:in|at|on|to|from|near)\s+(?:the\s+)?(?:[A-Z]|\w+\s(?:floor|room|building|office|page|site|portal|folder))"
)
_ROLE = re.compile(r"\b(?:team|manager|officer|director|department|lead|owner|employees?|head)\b", re.IGNORECASE)
_ASKS = (
    (
        re.compile(
            r"\bhow (?:much|expensive)\b|\bwhat (?:is|are|does|was|do)\b.*\b(?:cost|price|fee|budget|salary|rate|amount|limit)\b",
            re.IGNORECASE,
        ),
        "money",
    ),
    (
        re.compile(
            r"\bhow (?:long|soon|quickly|often|frequently)\b|\bwhat\b.*\b(?:duration|deadline|period)\b", re.IGNORECASE
        ),
        "duration",
    ),
    (
        re.compile(
            r"\bhow (?:many|old|far|big|large|high|tall)\b|\bwhat (?:percent|percentage|number|share)\b", re.IGNORECASE
        ),
        "number",
    ),
    (
        re.compile(r"\b(?:when|what (?:date|day|time|year|month)|which (?:date|day|year|month))\b", re.IGNORECASE),
        "time",
    ),
    (re.compile(r"\b(?:who|whom|whose)\b", re.IGNORECASE), "person"),
    (re.compile(r"\bwhere\b|\b(?:what|which) (?:city|country|address|location|room|floor)\b", re.IGNORECASE), "place"),
)


def answer_kind(question: str, text: str) -> float:
    """Return 1 when the text holds the kind of thing that is asked for, 0 when not, .5 when any text may answer."""
    check = _KINDS.get(_kind(question))
    return 0.5 if check is None else check(frozenset(token.norm for token in tokens(question)), text)


_YES_OR_NO = re.compile(
    r"^\W*(?:and |but |so )?(?:is|are|was|were|do|does|did|can|could|may|might|must|shall|should|will|would|has|have|had)\b",
    re.IGNORECASE,
)


def answers(question: str, statement: str) -> bool:
    """Whether a statement can be an answer: it says something that the question does not, and of the kind that is asked for.

    "Osprey is led by Mirela Costin" may stand in the documents and yet answer nothing of "Who is her deputy?".
    """
    if any(_YES_OR_NO.match(sentence.text) for sentence in sentences(question)):
        return True
    asked = {token.stem for token in tokens(question)}
    new = any(token.stem not in asked and not token.is_generic for token in content(statement))
    # Any noun may be a place ("the blue locker"), so that a place is not asked for by its kind.
    return new and (_kind(question) == "place" or answer_kind(question, statement) > 0)


def _kind(question: str) -> str:
    return next((name for pattern, name in _ASKS if pattern.search(question)), "")


def _holds_money(_asked: frozenset[str], text: str) -> float:
    return 1.0 if _MONEY.search(text) else 0.4 * bool(_DIGITS.search(text))


def _holds_number(asked: frozenset[str], text: str) -> float:
    return float(any(str(number.value) not in asked for number in facts.numbers(text)))


def _holds_duration(_asked: frozenset[str], text: str) -> float:
    return float(bool(_DURATION.search(text) or _TIME.search(text)))


def _holds_time(_asked: frozenset[str], text: str) -> float:
    return float(bool(facts.dates(text) or _TIME.search(text) or _DURATION.search(text)))


def _holds_person(asked: frozenset[str], text: str) -> float:
    people = (match.group() for match in _PERSON.finditer(text))
    if any(not {word.casefold() for word in person.split()} & asked for person in people):
        return 1.0
    # A role or a team may be who is asked for ("the finance team approves").
    return 0.5 * bool(_ROLE.search(text))


def _holds_place(_asked: frozenset[str], text: str) -> float:
    return float(bool(_PLACE.search(text)))


_KINDS = {
    "money": _holds_money,
    "number": _holds_number,
    "duration": _holds_duration,
    "time": _holds_time,
    "person": _holds_person,
    "place": _holds_place,
}


CALIBRATED = Model(weights=(9.4, 1.6, 6.26, 1.05), bias=-12.3, answer=0.2, sure=0.6)
"""Weights and thresholds as `benchmarks/abstention.py` fitted them on questions over other documents.

`answer` is the highest threshold that refuses at most four of thirty answerable questions left out of the fit: there, at
0.2, 11 % of 45 answerable ones are refused (most of those are asked in other words than the documents use), 75 % of 36
that name what the documents mention and ask what they do not say, and 34 % of near misses (the same passages without the
one that holds the answer). At 0.6, where text streams at once, all of the 36 are below it.
"""
