"""Judgements of answers: what may be said, what takes the place of what, and how it becomes training rows."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import combinations
from typing import Any, Final

from services.chassis.auth import Caller, Role, at_least
from services.chassis.errors import InvalidInput
from services.chat.domain.receipts import Receipt
from services.chat.domain.turn import Message

__all__ = [
    "THUMBS",
    "AnswerRank",
    "Feedback",
    "FeedbackFilter",
    "FeedbackKind",
    "Judged",
    "JudgedSource",
    "Judgement",
    "checked_comment",
    "checked_judgement",
    "conversation_of",
    "judged_receipt",
    "rater_of",
    "sees_all",
    "sources_of",
    "training_rows",
    "unit_of",
]

# A remark is not a document; a better answer may be as long as the longest that models give.
_LONGEST_COMMENT: Final = 4_000
_LONGEST_EDIT: Final = 32_000


class FeedbackKind(StrEnum):
    """What kind of judgement it is."""

    THUMB_UP = "thumb_up"
    THUMB_DOWN = "thumb_down"
    EDIT = "edit"
    RANKING = "ranking"

    @property
    def family(self) -> str:
        """Of one family a rater has one judgement for each thing that is judged: a later one replaces the earlier."""
        return "thumb" if self in THUMBS else self.value


THUMBS: Final = (FeedbackKind.THUMB_UP, FeedbackKind.THUMB_DOWN)


@dataclass(frozen=True, slots=True)
class JudgedSource:
    """A document version that the prompt of a judged answer held."""

    document_id: str
    version: int


@dataclass(frozen=True, slots=True)
class AnswerRank:
    """The rank of an answer of a comparison, from 1 for the best; equal ranks are ties."""

    answer_id: str
    rank: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rater says: `edited` of an edit, `ranks` of a ranking."""

    kind: FeedbackKind
    comment: str = ""
    edited: str = ""
    ranks: tuple[AnswerRank, ...] = ()


@dataclass(frozen=True, slots=True)
class Feedback:
    """A judgement on record.

    Attributes:
        id: `fb_…`.
        tenant: Whose it is.
        rater: Who judged, as a principal.
        created_at: When.
        said: The judgement itself.
        receipt_id: Receipt of the answer; empty for a ranking.
        comparison_id: Comparison that was ranked; empty otherwise.
        model: Who gave the answer; empty for a ranking, and where no model was asked.
        asked_model: Who was asked for; empty for a ranking of several.
        collection_ids: Where the answer was drawn from.
        sources: What its prompt held.
        unit: What was judged, whatever the receipt: raters agree or not on one unit.
        blob_key: Where other rooms read it.
    """

    id: str
    tenant: str
    rater: str
    created_at: datetime
    said: Judgement
    receipt_id: str
    comparison_id: str
    model: str
    asked_model: str
    collection_ids: tuple[str, ...]
    sources: tuple[JudgedSource, ...]
    unit: str
    blob_key: str

    @property
    def subject_id(self) -> str:
        """The receipt or comparison that was judged."""
        return self.receipt_id or self.comparison_id


@dataclass(frozen=True, slots=True)
class FeedbackFilter:
    """Which judgements; what is empty does not narrow. `model` is who answered or who was asked for."""

    kinds: tuple[FeedbackKind, ...] = ()
    collection_id: str = ""
    model: str = ""
    rater: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement with the texts it is about: `ranks` go with `answers`, all 0 when nothing was ranked.

    Not `available` to a reader who may not read what the answer's prompt held: then all texts are empty.
    """

    feedback: Feedback
    messages: tuple[Message, ...]
    question: str
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    available: bool = True

    def withheld(self) -> "Judged":
        """Return it without any text."""
        said = replace(self.feedback.said, comment="", edited="")
        empty = ("",) * len(self.answers)
        return Judged(replace(self.feedback, said=said), (), "", empty, self.ranks, available=False)


def rater_of(caller: Caller) -> str:
    """Return who judges, as a principal."""
    return f"user:{caller.subject}"


def sees_all(caller: Caller) -> bool:
    """Whether the caller may see what others said; the rest see their own."""
    return caller.may(at_least(Role.CURATOR))


def checked_judgement(said: Judgement, *, answer: str) -> Judgement:
    """Return a thumb or an edit of an answer as it is kept.

    Raises:
        InvalidInput: A field is too long, missing, or not for this kind.
    """
    comment, edited = checked_comment(said.comment), said.edited.strip()
    match said.kind:
        case FeedbackKind.RANKING:
            raise InvalidInput("kind: 'ranking' is not allowed; answers are ranked in a comparison.", param="kind")
        case FeedbackKind.EDIT:
            if not edited:
                raise InvalidInput("edited: '' is not allowed; write the better answer.", param="edited")
            if len(edited) > _LONGEST_EDIT:
                raise InvalidInput(
                    f"edited: {len(edited)} characters are not allowed; use at most {_LONGEST_EDIT}.", param="edited"
                )
            if edited == answer.strip():
                raise InvalidInput("edited: the answer itself is not allowed; write a better one.", param="edited")
        case _ if edited:
            raise InvalidInput(
                f"edited: a text is not allowed beside kind {said.kind.value!r}; use kind 'edit'.", param="edited"
            )
    return Judgement(said.kind, comment, edited)


def checked_comment(comment: str) -> str:
    """Return a remark as it is kept.

    Raises:
        InvalidInput: It is too long.
    """
    if len(comment) > _LONGEST_COMMENT:
        raise InvalidInput(
            f"comment: {len(comment)} characters are not allowed; use at most {_LONGEST_COMMENT}.", param="comment"
        )
    return comment.strip()


def conversation_of(instructions: str, history: Sequence[Message], question: str) -> tuple[Message, ...]:
    """Return a conversation as the model read it, without passages: instructions, what was said, the question."""
    system = (Message("system", instructions),) if instructions else ()
    return (*system, *history, Message("user", question))


def sources_of(receipt: Receipt) -> tuple[JudgedSource, ...]:
    """Return the document versions that an answer's prompt held, each once; what came with the request is no document."""
    held = (source.span for source in receipt.sources if source.number and not source.inline)
    return tuple(dict.fromkeys(JudgedSource(span.document_id, span.version) for span in held))


def unit_of(receipt: Receipt) -> str:
    """Return the name of what a thumb judges, in hexadecimal: an equal answer to an equal conversation is one thing."""
    messages = conversation_of(receipt.instructions, receipt.history, receipt.standalone)
    said = [[message.role, " ".join(message.content.split())] for message in messages]
    return hashlib.sha256(json.dumps([said, " ".join(receipt.answer.split())]).encode()).hexdigest()


def judged_receipt(feedback: Feedback, receipt: Receipt) -> Judged:
    """Return a thumb or an edit with what it is about."""
    messages = conversation_of(receipt.instructions, receipt.history, receipt.standalone)
    return Judged(feedback, messages, receipt.question, (receipt.answer,), (0,))


def training_rows(judged: Judged) -> Iterator[Mapping[str, Any]]:
    """Yield what a judgement teaches: a row for a thumb or an edit, one for each pair of a ranking that has a better one.

    Preferences have the shape of OpenAI's preference files; a thumb is a row for KTO: messages and whether they are good.
    """
    said = judged.feedback.said
    turns = [_turn(message) for message in judged.messages]
    documents = [{"document": one.document_id, "version": one.version} for one in judged.feedback.sources]
    origin = {"sources": [{"feedback": judged.feedback.id}, *documents], "rater": judged.feedback.rater}
    match said.kind:
        case FeedbackKind.THUMB_UP | FeedbackKind.THUMB_DOWN:
            label = said.kind is FeedbackKind.THUMB_UP
            yield {"messages": [*turns, _answer(judged.answers[0])], "label": label, "brain": origin}
        case FeedbackKind.EDIT:
            yield _preference(turns, said.edited, judged.answers[0], origin)
        case FeedbackKind.RANKING:
            ranked = sorted(zip(judged.ranks, judged.answers, strict=True), key=lambda pair: pair[0])
            for (better_rank, better), (worse_rank, worse) in combinations(ranked, 2):
                if better_rank < worse_rank:
                    yield _preference(turns, better, worse, origin)


def _preference(
    turns: Sequence[Mapping[str, str]], better: str, worse: str, origin: Mapping[str, Any]
) -> Mapping[str, Any]:
    return {
        "input": {"messages": list(turns)},
        "preferred_output": [_answer(better)],
        "non_preferred_output": [_answer(worse)],
        "brain": origin,
    }


def _turn(message: Message) -> Mapping[str, str]:
    return {"role": message.role, "content": message.content}


def _answer(text: str) -> Mapping[str, str]:
    return {"role": "assistant", "content": text}
