"""What is told of answers and judgements, in the language that rooms share (brain.events.v1)."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from brain.events.v1 import answer_pb2, feedback_pb2
from services.chassis.events.log import new_envelope
from services.chassis.events.outbox import Outbox
from services.chat.backends.tables import outbox
from services.chat.domain.announcements import (
    Announcement,
    AnswerGiven,
    AnswerOutcome,
    FeedbackGiven,
    FeedbackWithdrawn,
)
from services.chat.domain.feedback import FeedbackKind, Judged, JudgedSource

__all__ = ["ANSWER_TOPIC", "FEEDBACK_TOPIC", "ProtobufContent", "announce"]

ANSWER_TOPIC: Final = "brain.answer.v1"
FEEDBACK_TOPIC: Final = "brain.feedback.v1"
_OUTCOME: Final = {
    AnswerOutcome.ANSWERED: answer_pb2.ANSWER_OUTCOME_ANSWERED,
    AnswerOutcome.ABSTAINED: answer_pb2.ANSWER_OUTCOME_ABSTAINED,
    AnswerOutcome.FAILED: answer_pb2.ANSWER_OUTCOME_FAILED,
}
_KIND: Final = {
    FeedbackKind.THUMB_UP: feedback_pb2.FEEDBACK_KIND_THUMB_UP,
    FeedbackKind.THUMB_DOWN: feedback_pb2.FEEDBACK_KIND_THUMB_DOWN,
    FeedbackKind.EDIT: feedback_pb2.FEEDBACK_KIND_EDIT,
    FeedbackKind.RANKING: feedback_pb2.FEEDBACK_KIND_RANKING,
}
_OUTBOX: Final = Outbox(outbox)


async def announce(connection: AsyncConnection, tenant: str, told: Announcement) -> None:
    """Tell other rooms once the transaction that `connection` is in is kept."""
    topic, kind, key, payload = _encoded(told)
    await _OUTBOX.add(connection, topic, new_envelope(tenant=tenant, type=kind, key=key, payload=payload))


def _encoded(told: Announcement) -> tuple[str, str, str, bytes]:
    """Return topic, type, key and payload of the event."""
    match told:
        case AnswerGiven():
            # A turn that failed has no receipt to be ordered by.
            key = told.receipt_id or told.response_id
            answer = answer_pb2.AnswerGiven(
                receipt_id=told.receipt_id,
                model=told.model,
                asked_model=told.asked_model,
                outcome=_OUTCOME[told.outcome],
                collection_ids=told.collection_ids,
            )
            return ANSWER_TOPIC, "given", key, answer_pb2.AnswerEvent(given=answer).SerializeToString()
        case FeedbackGiven():
            given = feedback_pb2.FeedbackGiven(
                feedback_id=told.feedback_id,
                kind=_KIND[told.kind],
                receipt_id=told.receipt_id,
                model=told.model,
                asked_model=told.asked_model,
                blob_key=told.blob_key,
                collection_ids=told.collection_ids,
                sources=_sources(told.sources),
            )
            event = feedback_pb2.FeedbackEvent(given=given)
        case FeedbackWithdrawn():
            event = feedback_pb2.FeedbackEvent(withdrawn=feedback_pb2.FeedbackWithdrawn(feedback_id=told.feedback_id))
    return FEEDBACK_TOPIC, str(event.WhichOneof("fact")), told.feedback_id, event.SerializeToString()


def _sources(sources: Sequence[JudgedSource]) -> list[feedback_pb2.FeedbackSource]:
    return [feedback_pb2.FeedbackSource(document_id=one.document_id, version=one.version) for one in sources]


class ProtobufContent:
    """A judgement with its texts as a serialised FeedbackContent."""

    def content(self, judged: Judged) -> bytes:
        """Return the blob that a FeedbackGiven event points to."""
        said = judged.feedback.said
        return feedback_pb2.FeedbackContent(
            turns=[feedback_pb2.FeedbackTurn(role=turn.role, content=turn.content) for turn in judged.messages],
            answers=judged.answers,
            ranks=judged.ranks if said.ranks else (),
            edited=said.edited,
            comment=said.comment,
            rater=judged.feedback.rater,
        ).SerializeToString()
