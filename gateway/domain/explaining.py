"""Explaining: why a document did or did not reach an answer."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.domain.asking import Receipt, ReceiptSource
from gateway.domain.finding import Explanation, Outcome
from gateway.domain.keeping import Document, DocumentState

__all__ = ["Verdict", "Why", "WhyQuestion", "from_explanation", "from_receipt", "from_state"]


class Verdict(StrEnum):
    """Where a document's way to an answer ended, in the order of that way."""

    NEVER_INGESTED = "never_ingested"
    DELETING = "deleting"
    IN_PROGRESS = "in_progress"
    CANCELLED = "cancelled"
    PARSE_FAILED = "parse_failed"
    NO_PERMISSION = "no_permission"
    NOT_INDEXED = "not_indexed"
    OTHER_COLLECTION = "other_collection"
    FILTERED_OUT = "filtered_out"
    NO_MATCH = "no_match"
    BELOW_THRESHOLD = "below_threshold"
    RANKED_TOO_LOW = "ranked_too_low"
    LEFT_OUT_BY_BUDGET = "left_out_by_budget"
    IGNORED_BY_MODEL = "ignored_by_model"
    FOUND = "found"
    CITED = "cited"


@dataclass(frozen=True, slots=True)
class WhyQuestion:
    """What is to be explained.

    Args:
        document: Id, file name, key or title.
        question: The question that was asked; may be empty with a receipt.
        collection_ids: Where it was sought; empty for the receipt's, or the document's own.
        receipt_id: The answer in which the document was missed; empty for none.
        filter_json: Filter of the search.
        top_k: Passages that the search returns; 0 for 10.
        principals: Ask for somebody else (administrators only): the names under which access lists know them.
    """

    document: str
    question: str = ""
    collection_ids: tuple[str, ...] = ()
    receipt_id: str = ""
    filter_json: str = ""
    top_k: int = 0
    principals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """The answer: a verdict, a sentence, and what is known on the way there."""

    verdict: Verdict
    sentence: str
    document: Document | None = None
    explanation: Explanation | None = None
    in_receipt: ReceiptSource | None = None
    queries: tuple[str, ...] = ()
    other_matches: tuple[Document, ...] = ()


_IN_PROGRESS: Final = (DocumentState.RECEIVED, DocumentState.PARSING, DocumentState.CHUNKED)


def from_state(document: Document) -> tuple[Verdict, str] | None:
    """Return why a document cannot be found at all, or None when a version of it is searchable."""
    if document.state is DocumentState.DELETING:
        return Verdict.DELETING, "The document has been deleted; what is left of it is being removed."
    if document.active_version:
        return None
    if document.state is DocumentState.FAILED:
        return Verdict.PARSE_FAILED, f"The document could not be read: {document.failure_reason}"
    if document.state is DocumentState.CANCELLED:
        return Verdict.CANCELLED, "Work on the document was cancelled before it was searchable."
    if document.state in _IN_PROGRESS:
        return Verdict.IN_PROGRESS, f"The document is not searchable yet: it is {document.state.value}."
    return None


def from_receipt(receipt: Receipt, document_id: str) -> tuple[Verdict, str, ReceiptSource] | None:
    """Return what an answer did with a document, or None when its search had not returned it."""
    places = [source for source in receipt.sources if source.source.document_id == document_id]
    if not places:
        return None
    for place in places:
        if place.cited:
            return Verdict.CITED, "The answer cites the document.", place
    for place in places:
        if place.in_prompt:
            return (
                Verdict.IGNORED_BY_MODEL,
                "The model was given a passage of the document, and nothing in its answer is supported by it.",
                place,
            )
    return (
        Verdict.LEFT_OUT_BY_BUDGET,
        "A passage of the document was found, and left out because better ones filled the prompt.",
        places[0],
    )


_VERDICTS: Final[dict[Outcome, Verdict]] = {
    "found": Verdict.FOUND,
    "other_collection": Verdict.OTHER_COLLECTION,
    "filtered_out": Verdict.FILTERED_OUT,
    "below_threshold": Verdict.BELOW_THRESHOLD,
    "ranked_too_low": Verdict.RANKED_TOO_LOW,
    "no_match": Verdict.NO_MATCH,
    "not_indexed": Verdict.NOT_INDEXED,
    "unspecified": Verdict.NOT_INDEXED,
}
_SENTENCES: Final = {
    Verdict.FOUND: "The search finds the document; its best passage is number {rank}.",
    Verdict.OTHER_COLLECTION: "The document lies in none of the collections that were searched.",
    Verdict.FILTERED_OUT: "The filter of the search leaves the document out.",
    Verdict.BELOW_THRESHOLD: "The best passage of the document scores {score:.2f}, below the threshold.",
    Verdict.RANKED_TOO_LOW: "The best passage of the document is number {rank} with a score of {score:.2f}; "
    "the last one returned has {cutoff:.2f}.",
    Verdict.NO_MATCH: "The document and the question have too little in common.",
    Verdict.NOT_INDEXED: "The index holds no active version of the document.",
}
_ABOUT_WORDS: Final = frozenset({Verdict.BELOW_THRESHOLD, Verdict.RANKED_TOO_LOW, Verdict.NO_MATCH})


def from_explanation(explanation: Explanation) -> tuple[Verdict, str]:
    """Return what a search does with a document."""
    verdict = _VERDICTS[explanation.outcome]
    sentence = _SENTENCES[verdict].format(
        rank=explanation.rank,
        score=explanation.best.score if explanation.best else 0.0,
        cutoff=explanation.cutoff_score,
    )
    if verdict in _ABOUT_WORDS and explanation.missing_terms:
        sentence += f" These words of the question occur nowhere in it: {', '.join(explanation.missing_terms)}."
    return verdict, sentence
