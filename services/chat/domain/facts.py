"""What must agree between a statement and its source: numbers with units, dates, names, negation, opposites.

Word overlap alone calls "not covered" and "covered", or "30 days" and "60 days", nearly the same. These checks do not.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, pairwise

from rapidfuzz import fuzz

from services.layout.names import MONTHS, names
from services.layout.words import Token, stem, tokens

_WORD_NUMBERS = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
# "one" is a pronoun as often as a number ("one of the"), so that it proves and disproves nothing.
_WORD_NUMBERS.pop("one")
_SCALES = {
    "hundred": 100,
    "thousand": 1_000,
    "k": 1_000,
    "million": 1_000_000,
    "m": 1_000_000,
    "billion": 1_000_000_000,
}
_UNIT_WORDS = {
    **dict.fromkeys(("percent", "percentage", "per cent"), "%"),
    **dict.fromkeys(("dollar", "dollars", "usd"), "$"),
    **dict.fromkeys(("euro", "euros", "eur"), "€"),
    **dict.fromkeys(("pound", "pounds", "gbp"), "£"),
    **{
        form: unit
        for unit in [
            "second",
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "quarter",
            "year",
            "mile",
            "meter",
            "metre",
            "kilometer",
            "gram",
            "kilogram",
            "liter",
            "litre",
            "gigabyte",
            "megabyte",
            "terabyte",
            "page",
            "employee",
            "person",
            "people",
            "visit",
            "session",
            "user",
            "seat",
            "copy",
            "point",
        ]
        for form in (unit, unit + "s")
    },
}
_NUMBER = re.compile(
    r"(?P<currency>[$€£])?\s?(?P<digits>\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?:\s?(?P<scale>hundred|thousand|million|billion|[kKmM](?![^\W_])))?(?P<percent>\s?%)?"
)
_WORD_NUMBER = re.compile(
    rf"\b(?P<word>{'|'.join(_WORD_NUMBERS)})\b(?:[\s-](?P<scale>hundred|thousand|million))?", re.IGNORECASE
)
_AFTER = re.compile(r"[\s-]*(?:(?:business|working|calendar|consecutive|full|paid)[\s-])?(?P<unit>[A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Number:
    """A value with its unit ("%", "$", "day", …; empty when it has none)."""

    value: Decimal
    unit: str

    def agrees(self, other: "Number") -> bool:
        """Whether both may mean the same: equal values, and units that do not differ."""
        return self.value == other.value and (not self.unit or not other.unit or self.unit == other.unit)


@dataclass(frozen=True, slots=True)
class Date:
    """A calendar date; parts that the text does not name are 0."""

    year: int
    month: int
    day: int

    def agrees(self, other: "Date") -> bool:
        """Whether every part that this date names stands in the other too."""
        pairs = ((self.year, other.year), (self.month, other.month), (self.day, other.day))
        return all(not mine or mine == theirs for mine, theirs in pairs)


_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_DATES = (
    re.compile(r"\b(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})\b"),
    re.compile(
        rf"\b(?P<name>{_MONTH})\b\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(?P<year>\d{{4}})\b)?", re.IGNORECASE
    ),
    re.compile(
        rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<name>{_MONTH})\b\.?(?:,?\s+(?P<year>\d{{4}})\b)?",
        re.IGNORECASE,
    ),
    re.compile(rf"\b(?P<name>{_MONTH})\b\.?,?\s+(?:of\s+)?(?P<year>\d{{4}})\b", re.IGNORECASE),
    # A month alone counts as a date when it is written as a name; "may" and "march" are words otherwise.
    re.compile(r"\b(?P<name>January|February|April|June|July|August|September|October|November|December)\b"),
)


def is_quantity(token: Token) -> bool:
    """Whether a word is a number or a unit with a sign of its own, which may stand in a source in another form."""
    return token.is_number or token.norm in _WORD_NUMBERS or len(_UNIT_WORDS.get(token.norm, "day")) == 1


def dates(text: str) -> tuple[tuple[Date, int, int], ...]:
    """Return the dates of a text with their offsets, without overlap."""
    found: list[tuple[Date, int, int]] = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            if any(match.start() < end and start < match.end() for _, start, end in found):
                continue
            parts = match.groupdict()
            month = MONTHS[parts["name"].lower()] if parts.get("name") else int(parts["month"])
            found.append(
                (Date(int(parts.get("year") or 0), month, int(parts.get("day") or 0)), match.start(), match.end())
            )
    return tuple(sorted(found, key=lambda item: item[1]))


def _unit_after(text: str, end: int) -> str:
    match = _AFTER.match(text, end)
    if not match:
        return ""
    word = match["unit"].lower()
    return _UNIT_WORDS.get(word, "")


def numbers(text: str) -> tuple[Number, ...]:
    """Return the numbers of a text, in digits or words, apart from those inside dates and names such as `Q3`."""
    spans = [(start, end) for _, start, end in dates(text)]
    found: list[Number] = []
    for match in _NUMBER.finditer(text):
        start = match.start("digits")
        if any(begin <= start < end for begin, end in spans) or (start and text[start - 1].isalpha()):
            continue
        value = Decimal(match["digits"].replace(",", "")) * _SCALES.get((match["scale"] or "").lower(), 1)
        unit = "%" if match["percent"] else match["currency"] or _unit_after(text, match.end())
        found.append(Number(value.normalize(), unit))
    for match in _WORD_NUMBER.finditer(text):
        value = Decimal(_WORD_NUMBERS[match["word"].lower()]) * _SCALES.get((match["scale"] or "").lower(), 1)
        found.append(Number(value.normalize(), _unit_after(text, match.end())))
    return tuple(found)


def numbers_agree(statement: str, source: str) -> bool:
    """Whether every number and date of the statement stands in the source."""
    theirs = numbers(source)
    their_dates = dates(source)
    dated = [
        Number(Decimal(part).normalize(), "") for date, _, _ in their_dates for part in (date.year, date.day) if part
    ]
    for number in numbers(statement):
        if not any(number.agrees(other) for other in theirs) and not any(
            number.value == other.value for other in dated
        ):
            return False
    return all(any(date.agrees(other) for other, _, _ in their_dates) for date, _, _ in dates(statement))


# Similarity of two spellings of one name, 0 to 100: "Jonson" and "Johnson" are one, "Anna" and "Hanna" not.
_SAME_NAME = 88.0


def missing_names(wanted: Iterable[str], text: str) -> tuple[str, ...]:
    """Return the names that do not stand in the text, also not in another spelling or form."""
    have = tokens(text)
    norms = {token.norm for token in have}
    stems = {token.stem for token in have}
    return tuple(
        name
        for name in wanted
        if name not in norms
        and stem(name) not in stems
        and not any(fuzz.ratio(name, other) >= _SAME_NAME for other in norms)
    )


def roles_agree(statement: str, source: str) -> bool:
    """Whether the names of a statement that begins with one stand mostly in the same order in the source.

    One of the two texts may be passive: "A leads B" and "B is led by A" say the same.
    """
    mine = list(dict.fromkeys(names(statement)))
    opening = tokens(statement)[:1]
    if len(mine) < 2 or not opening or opening[0].norm not in mine:
        return True
    words = tokens(source)
    place: dict[str, int] = {}
    for position, token in enumerate(words):
        place.setdefault(token.norm, position)
    order = [place[name] for name in mine if name in place]
    passive = any(token.norm == "by" for token in tokens(statement)) != any(token.norm == "by" for token in words)
    pairs = list(combinations(order, 2))
    turned = sum(first > second for first, second in pairs)
    return passive or turned * 2 <= len(pairs)


def nothing_replaced(statement: str, source: str, *, above: str = "") -> bool:
    """Whether a statement is not a copy of the source but for one content word that took another one's place.

    "covers acupuncture for employees" copies "covers massage for employees" but for the word that matters. A statement
    with more words of its own is a paraphrase, and similarity decides. Words of the headings above are no words of its
    own: "Osprey is due in May" may stand for "It is due in May" under the heading Osprey.
    """
    mine = [token for token in tokens(statement) if token.is_content]
    theirs = [token.stem for token in tokens(source) if token.is_content]
    known = {*theirs, *(token.stem for token in tokens(above))}
    own = [
        at
        for at, token in enumerate(mine)
        if token.stem not in known and not is_quantity(token) and not token.is_generic
    ]
    if len(own) != 1:
        return True
    at, stems = own[0], [token.stem for token in mine]
    if at == 0:
        return len(stems) < 3 or (stems[1], stems[2]) not in set(pairwise(theirs[1:]))
    if at == len(stems) - 1:
        return at < 2 or (stems[at - 2], stems[at - 1]) not in set(pairwise(theirs[:-1]))
    around = {
        (before, after)
        for before, middle, after in zip(theirs, theirs[1:], theirs[2:], strict=False)
        # A number between two words of the source has its own check, and a verb beside it replaces nothing.
        if not middle[0].isdigit()
    }
    return (stems[at - 1], stems[at + 1]) not in around
