"""Whether two texts stand on the same side: negation by clause, and pairs of opposites."""

import re
from dataclasses import dataclass
from functools import lru_cache

from services.chat.domain.lexicon import NEGATIONS, OPPOSITES
from services.layout.words import Token, stem, tokens

_CLAUSE_BREAK = re.compile(
    r"[.!?;:,](?=\s)|\n|\b(?:but|however|although|though|while|whereas|if|because|unless|except)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Clause:
    """The content of a clause by stem, and whether it denies."""

    stems: frozenset[str]
    negated: bool


def _clauses(text: str) -> list[_Clause]:
    found: list[_Clause] = []
    start = 0
    for end in (*(match.start() for match in _CLAUSE_BREAK.finditer(text)), len(text)):
        words = tokens(text[start:end])
        stems = frozenset(token.stem for token in words if token.is_content and token.norm not in NEGATIONS)
        if stems:
            found.append(_Clause(stems, _denies(words)))
        start = end
    return found


def _denies(words: tuple[Token, ...]) -> bool:
    # Two negations make none ("not without"), and "not only" denies nothing.
    count = sum(
        token.norm in NEGATIONS and not (position + 1 < len(words) and words[position + 1].norm in {"only", "just"})
        for position, token in enumerate(words)
    )
    return count % 2 == 1


def negation_agrees(statement: str, source: str) -> bool:
    """Whether each clause of the statement denies exactly when the clause of the source nearest to it by words does."""
    theirs = _clauses(source)
    for clause in _clauses(statement):
        best = max((len(clause.stems & other.stems) for other in theirs), default=0)
        if not best:
            continue
        nearest = [other for other in theirs if len(clause.stems & other.stems) == best]
        if all(other.negated != clause.negated for other in nearest):
            return False
    return True


_OPPOSITE_PHRASES = (
    ("in-network", "out-of-network"),
    ("full-time", "part-time"),
    ("on-site", "remote"),
    ("opt in", "opt out"),
)


@lru_cache(maxsize=1)
def _opposites() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in OPPOSITES:
        one, other = (stem(word) for word in pair.split("/"))
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


def opposites_agree(statement: str, source: str) -> bool:
    """Whether the statement holds no word or phrase whose opposite alone stands in the source."""
    mine, theirs = statement.casefold(), source.casefold()
    for pair in _OPPOSITE_PHRASES:
        for one, other in (pair, pair[::-1]):
            if one in mine and other in theirs and one not in theirs and other not in mine:
                return False
    stems = {token.stem for token in tokens(source)}
    table = _opposites()
    return not any(
        token.stem not in stems and table.get(token.stem, frozenset()) & stems for token in tokens(statement)
    )
