"""Validated citations: which stretch of an answer is supported by which stretch of a source.

A stretch of the answer (a sentence, else its clauses) is compared with every sentence, and every pair of neighbouring
sentences, of every source. Support needs three things: enough of the stretch's content words stand in the source
(exactly, by stem, or in another spelling), the meaning is near where words alone do not decide (cosine similarity of
embeddings), and nothing contradicts: numbers with units, dates, names, negation, opposites, who does what to whom.
No support, no citation. What is cited is an exact piece of the stored text.

The matcher works in two steps so that only what lies in doubt is embedded: `candidates` finds pairs by words and facts,
`decide` takes the similarities of the doubtful ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rapidfuzz import fuzz

from services.chat.domain import facts, polarity
from services.chat.domain.turn import Citation, Evidence, Source
from services.layout.names import names
from services.layout.words import Stretch, Token, clauses, content, sentences, tokens

MOST_EVIDENCE = 3
"""Most pieces of evidence under one citation."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where support begins. Chosen on benefits answers against gold and foreign pages (`benchmarks/citations.py`).

    Attributes:
        sure: Weighted share of content words from which words alone decide.
        doubt: Share below which nothing helps.
        near: Least similarity when the share lies between `middle` and `sure`.
        middle: Share that parts the two doubtful bands.
        very_near: Least similarity when the share lies between `doubt` and `middle`.
        row: Share below which nothing helps in the row of a table: its cells are all it says, and the row of another
            subject differs by a word or two only.
    """

    sure: float = 0.85
    middle: float = 0.6
    doubt: float = 0.45
    near: float = 0.6
    very_near: float = 0.8
    row: float = 0.75


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stretch of the answer beside a window of a source that may support it."""

    stretch: Stretch
    source: Source
    window: Stretch
    coverage: float
    sure: bool


@dataclass(frozen=True, slots=True)
class Window:
    """One or two sentences of a source, read once: `stretch` offsets count from the passage's start.

    `heading` is what stands above it (title, headings, part), `before` the passage's text up to it.
    """

    source: Source
    stretch: Stretch
    stems: frozenset[str]
    norms: frozenset[str]
    heading: str
    before: str
    sentences: int


# Weights of a word in the coverage: what a source must hold above all, and what any sentence may hold.
_NAME_WEIGHT = 2.0
_GENERIC_WEIGHT = 0.25
# Two spellings of one word, 0 to 100; shorter words than five letters must be equal ("cat", "car").
_SAME_WORD = 86.0
_SHORT_WORD = 5
# A stretch with fewer content words than this proves little by itself: the source must hold what was asked, too.
_FEW_WORDS = 3
# A pair of sentences must beat a single one by this much: the shorter quote is the better one.
_PAIR_MALUS = 0.1
# Least number of content words of a clause that may be cited by itself.
_CLAUSE_WORDS = 3


def read(sources: Sequence[Source]) -> tuple[Window, ...]:
    """Return the windows of the sources, read once for all stretches of an answer."""
    return tuple(window for source in sources for window in _windows(source))


def _windows(source: Source) -> list[Window]:
    text = source.passage.text
    pieces = sentences(text)
    spans = [(piece.start, piece.end, 1) for piece in pieces]
    # Two rows of a table say nothing together: what one says of its subject is not true of the other's.
    spans += [
        (one.start, other.end, 2) for one, other in pairwise(pieces) if not (_is_row(one.text) and _is_row(other.text))
    ]
    heading = " ".join((source.passage.title, *source.passage.locator.heading_path, source.passage.locator.part))
    found = []
    for start, end, count in spans:
        words = tokens(text[start:end])
        found.append(
            Window(
                source=source,
                stretch=Stretch(start, end, text[start:end]),
                stems=frozenset(token.stem for token in words),
                norms=frozenset(token.norm for token in words),
                heading=heading,
                before=text[:start],
                sentences=count,
            )
        )
    return found


def _is_row(text: str) -> bool:
    return text.startswith("|")


def segments(answer: str) -> tuple[Stretch, ...]:
    """Return the stretches of an answer that may be cited: its sentences with at least one content word."""
    return tuple(piece for piece in sentences(answer) if content(piece.text))


def _weight(token: Token, names: frozenset[str]) -> float:
    if token.is_generic:
        return _GENERIC_WEIGHT
    return _NAME_WEIGHT if token.is_number or token.norm in names else 1.0


def _has(window: Window, token: Token, also: frozenset[str]) -> bool:
    if token.norm in window.norms or token.stem in window.stems or token.stem in also:
        return True
    if token.is_number or len(token.norm) < _SHORT_WORD:
        return False
    return any(len(other) >= _SHORT_WORD and fuzz.ratio(token.norm, other) >= _SAME_WORD for other in window.norms)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A stretch of the answer, read once for all windows."""

    stretch: Stretch
    words: tuple[Token, ...]
    names: frozenset[str]
    needed: tuple[Token, ...]


def _reading(stretch: Stretch, question: str) -> _Reading:
    words = content(stretch.text)
    short = sum(not token.is_generic for token in words) < _FEW_WORDS
    asked = content(question) if short else ()
    known = {token.stem for token in words}
    needed = tuple(token for token in asked if token.stem not in known and not token.is_generic)
    return _Reading(stretch, words, frozenset(names(stretch.text)), needed)


def _coverage(reading: _Reading, window: Window) -> float:
    # The title and the headings above a sentence say what it is about, so that words found there count, unless the
    # sentence itself holds nothing of the statement.
    also = frozenset(token.stem for token in tokens(window.heading))
    total = have = inside = 0.0
    for token in reading.words:
        weight = _weight(token, reading.names)
        total += weight
        if _has(window, token, frozenset()):
            have += weight
            inside += weight
        elif facts.is_quantity(token):
            # "thirty" and "30", "dollars" and "$": whether they agree is for the check of numbers to say.
            have += weight
        elif token.stem in also:
            have += weight
    if not total or inside < total / 3:
        return 0.0
    return have / total


def _answers_asked(reading: _Reading, window: Window) -> bool:
    """Whether a source holds, near the window, at least half of what was asked: only needed for very short answers."""
    if not reading.needed:
        return True
    also = frozenset(token.stem for token in tokens(f"{window.heading} {window.before[-300:]}"))
    have = sum(_has(window, token, also) for token in reading.needed)
    return have * 2 >= len(reading.needed)


def _contradicted(reading: _Reading, window: Window) -> bool:
    statement, source = reading.stretch.text, window.stretch.text
    if not facts.numbers_agree(statement, source):
        return True
    absent = facts.missing_names(reading.names, f"{source} {window.heading}")
    if absent:
        # "It costs 5 dollars" under a paragraph about the Falcon supports "Falcon costs 5 dollars", unless the
        # sentence names something else.
        others = set(names(source)) - reading.names
        if others or facts.missing_names(absent, window.before):
            return True
    return not (
        polarity.negation_agrees(statement, source)
        and polarity.opposites_agree(statement, source)
        and facts.roles_agree(statement, source)
        and facts.nothing_replaced(statement, source, above=window.heading)
    )


def candidates(
    stretch: Stretch, windows: Sequence[Window], *, question: str, thresholds: Thresholds
) -> tuple[Candidate, ...]:
    """Return the windows that may support a stretch by words and facts, best first, at most one for each sentence pair.

    Args:
        stretch: A piece of the answer with its offsets there.
        windows: What `read` gave.
        question: What was asked; a very short answer ("30 days") is only supported where that is spoken of.
        thresholds: Where support begins.
    """
    reading = _reading(stretch, question)
    scored = []
    for window in windows:
        coverage = _coverage(reading, window)
        if coverage < (thresholds.row if _is_row(window.stretch.text) else thresholds.doubt):
            continue
        rank = coverage - _PAIR_MALUS * (window.sentences - 1)
        scored.append((rank, coverage, window))
    scored.sort(key=lambda item: -item[0])
    found: list[Candidate] = []
    for _, coverage, window in scored:
        if any(_overlap(window, taken) for taken in found):
            continue
        if _contradicted(reading, window) or not _answers_asked(reading, window):
            continue
        sure = coverage >= thresholds.sure
        found.append(Candidate(stretch, window.source, window.stretch, coverage, sure))
        if len(found) == MOST_EVIDENCE:
            break
    return tuple(found)


def _overlap(window: Window, taken: Candidate) -> bool:
    return (
        window.source.number == taken.source.number
        and window.stretch.start < taken.window.end
        and taken.window.start < window.stretch.end
    )


def decide(
    found: Sequence[Candidate], similarity: Mapping[tuple[str, str], float], *, thresholds: Thresholds
) -> Citation | None:
    """Return the citation of one stretch, or None when nothing supports it.

    Args:
        found: Candidates of one stretch, best first.
        similarity: Cosine similarity by (text of the stretch, text of the window) for those that are not sure.
        thresholds: Where support begins.
    """
    evidence = []
    for candidate in found:
        near = similarity.get((candidate.stretch.text, candidate.window.text), 0.0)
        wanted = thresholds.near if candidate.coverage >= thresholds.middle else thresholds.very_near
        if not candidate.sure and near < wanted:
            continue
        passage = candidate.source.passage
        start, end = passage.start + candidate.window.start, passage.start + candidate.window.end
        score = min(1.0, max(candidate.coverage, near))
        evidence.append(
            Evidence(candidate.source.number, start, end, candidate.window.text, passage.locator, round(score, 4))
        )
    if not evidence:
        return None
    stretch = found[0].stretch
    return Citation(stretch.start, stretch.end, stretch.text, tuple(evidence))


def parts(stretch: Stretch) -> tuple[Stretch, ...]:
    """Return the clauses of a sentence that may be cited by themselves, when it has several."""
    pieces = tuple(piece for piece in clauses(stretch) if len(content(piece.text)) >= _CLAUSE_WORDS)
    return pieces if len(clauses(stretch)) > 1 else ()
