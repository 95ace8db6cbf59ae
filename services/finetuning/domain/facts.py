"""Facts of documents: a question in several phrasings, its answer, and the words of the document that hold it."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.finetuning.domain.documents import Chunk, DocumentText, SourceDocument
from services.finetuning.domain.near_duplicates import fingerprint, normalised
from services.layout.words import content, sentences, tokens

LONGEST_EVIDENCE: Final = 600
"""Most characters of a piece of evidence: an answer and what it is about are seldom further apart."""
LONGEST_QUESTION: Final = 300
"""Most characters of a question."""

# Below two words that say something, a question is about nothing in particular.
_LEAST_CONTENT: Final = 2
# A question with one of these points at what was said before it, or at a page that nobody sees.
_POINTS_BACK: Final = re.compile(
    r"\b(?:it|its|they|them|their|he|him|his|she|her|this|these|those|above|below|the (?:passage|text|document|excerpt))\b",
    re.IGNORECASE,
)
FROM_FILE: Final = "file"
"""The origin of facts that people wrote: how they ask is theirs to say."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The words of a document that hold a fact: `quote` is `stored_text[start:end]`."""

    document_id: str
    version: int
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact.

    Attributes:
        phrasings: Questions that ask for it, all meaning the same.
        answer: The answer, as short as it can be.
        evidence: Where it stands.
        statement: The answer as a sentence that stands by itself; empty leaves it at the answer.
        quoted: The words of the evidence with which a reader answers: a sentence of it, or the statement of a table's row.
        origin: What made it: pattern, table, model or file.
    """

    phrasings: tuple[str, ...]
    answer: str
    evidence: Evidence
    statement: str = ""
    quoted: str = ""
    origin: str = "pattern"

    @property
    def fact_id(self) -> str:
        """Id that is the same for the same fact in every build."""
        place = f"{self.evidence.document_id}\n{self.evidence.start}\n{normalised(self.answer)}\n{self.phrasings[0]}"
        return "fact_" + hashlib.sha256(place.encode()).hexdigest()[:16]

    @property
    def spoken(self) -> str:
        """The answer to somebody who reads nothing."""
        return self.statement or self.answer


def evidence_in(chunk: Chunk, start: int, end: int) -> Evidence:
    """Return a stretch of a chunk as evidence; offsets count from the chunk's start."""
    document = chunk.document
    return Evidence(
        document.document_id, document.version, chunk.start + start, chunk.start + end, chunk.text[start:end]
    )


def holds(text: str, answer: str) -> bool:
    """Whether a text holds an answer, whatever the case, spacing and punctuation."""
    return f" {normalised(answer)} " in f" {normalised(text)} " if normalised(answer) else False


def fault_of(fact: Fact) -> str:
    """Return why a fact makes no row; empty when it does."""
    questions = [question for question in fact.phrasings if not _is_bad(question, fact)]
    if not fact.answer.strip():
        return "no_answer"
    if len(fact.evidence.quote) > LONGEST_EVIDENCE:
        return "long_evidence"
    if not holds(fact.evidence.quote, fact.answer):
        return "answer_not_in_evidence"
    return "" if questions else "bad_question"


def with_good_phrasings(fact: Fact, most: int) -> Fact:
    """Return a fact with at most so many of its phrasings, none twice and none that gives the answer away."""
    seen: dict[str, str] = {}
    for question in fact.phrasings:
        if not _is_bad(question, fact):
            seen.setdefault(fingerprint(question), question.strip())
    return replace(fact, phrasings=tuple(list(seen.values())[:most]))


def _is_bad(question: str, fact: Fact) -> bool:
    return (
        len(question) > LONGEST_QUESTION
        or len(content(question)) < _LEAST_CONTENT
        or (fact.origin != FROM_FILE and bool(_POINTS_BACK.search(question)))
        or holds(question, fact.answer)
    )


def answered_differently(facts: Sequence[Fact]) -> frozenset[int]:
    """Return the numbers of the facts whose question other facts answer otherwise."""
    asked: dict[str, list[int]] = defaultdict(list)
    for at, fact in enumerate(facts):
        for mark in {fingerprint(question) for question in fact.phrasings}:
            asked[mark].append(at)
    return frozenset(
        at for group in asked.values() if len({normalised(facts[one].answer) for one in group}) > 1 for at in group
    )


def located(question: str, answer: str, document: DocumentText) -> Evidence | None:
    """Return the sentence of a document that holds an answer, the one nearest to the question; None when none does."""
    wanted = {token.stem for token in content(question)}
    best: tuple[float, int, int] | None = None
    for sentence in sentences(document.text):
        if not holds(sentence.text, answer) or sentence.text.startswith("#"):
            continue
        shared = len(wanted & {token.stem for token in tokens(sentence.text)})
        if best is None or shared > best[0]:
            best = (shared, sentence.start, sentence.end)
    if best is None:
        return None
    _, start, end = best
    source = document.document
    return Evidence(source.document_id, source.version, start, end, document.text[start:end])


def sentence_with(quote: str, answer: str) -> str:
    """Return the sentence of a quote that holds the answer; the whole quote when none does by itself."""
    return next((piece.text for piece in sentences(quote) if holds(piece.text, answer)), quote.strip())


def found_by(name: str, documents: Iterable[SourceDocument]) -> SourceDocument | None:
    """Return the document that a name means, if it is only one."""
    found = [document for document in documents if document.is_called(name)]
    return found[0] if len(found) == 1 else None
