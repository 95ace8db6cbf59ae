"""Protobuf messages of feedback to domain words and back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from brain.chat.v1 import feedback_pb2 as pb
from brain.types.v1 import sampling_pb2
from services.chassis.errors import InvalidInput
from services.chat.api import wire
from services.chat.api.conversations import timestamp
from services.chat.domain.agreement import Agreement, AgreementStatus
from services.chat.domain.comparisons import SamplesWanted
from services.chat.domain.feedback import FeedbackFilter, FeedbackKind, Judged
from services.chat.domain.turn import Message, Question, TokenUsage
from services.chat.usecases.comparing import SeenComparison

__all__ = ["KIND", "agreement", "comparison", "feedback", "feedback_filter", "kind", "moment", "samples", "usages"]

KIND: Final = {
    FeedbackKind.THUMB_UP: pb.FEEDBACK_KIND_THUMB_UP,
    FeedbackKind.THUMB_DOWN: pb.FEEDBACK_KIND_THUMB_DOWN,
    FeedbackKind.EDIT: pb.FEEDBACK_KIND_EDIT,
    FeedbackKind.RANKING: pb.FEEDBACK_KIND_RANKING,
}
# By number: a newer caller may send one that is no kind of ours.
_KINDS: Final[dict[int, FeedbackKind]] = {number: one for one, number in KIND.items()}
_STATUS: Final = {
    AgreementStatus.MEASURED: pb.AGREEMENT_STATUS_MEASURED,
    AgreementStatus.NOT_ENOUGH_OVERLAP: pb.AGREEMENT_STATUS_NOT_ENOUGH_OVERLAP,
    AgreementStatus.NO_VARIATION: pb.AGREEMENT_STATUS_NO_VARIATION,
}


def kind(number: int, param: str = "kind") -> FeedbackKind:
    """Return the kind of a judgement.

    Raises:
        InvalidInput: There is no such kind.
    """
    found = _KINDS.get(number)
    if found is None:
        raise InvalidInput(
            f"{param}: {number} is not allowed; use {', '.join(one.value for one in FeedbackKind)}.", param=param
        )
    return found


def moment(stamp: Timestamp) -> datetime | None:
    """Return a time; None for one that is not set."""
    return stamp.ToDatetime(tzinfo=UTC) if stamp.seconds or stamp.nanos else None


def feedback_filter(wanted: pb.FeedbackFilter) -> FeedbackFilter:
    """Return which judgements are meant.

    Raises:
        InvalidInput: A kind is unknown.
    """
    return FeedbackFilter(
        kinds=tuple(kind(number, "filter.kinds") for number in wanted.kinds),
        collection_id=wanted.collection_id,
        model=wanted.model,
        rater=wanted.rater,
        since=moment(wanted.since),
        until=moment(wanted.until),
    )


def feedback(judged: Judged) -> pb.Feedback:
    """Return a judgement as its reader may see it."""
    one = judged.feedback
    return pb.Feedback(
        feedback_id=one.id,
        kind=KIND[one.said.kind],
        receipt_id=one.receipt_id,
        comparison_id=one.comparison_id,
        rater=one.rater,
        created_at=timestamp(one.created_at),
        model=one.model,
        asked_model=one.asked_model,
        collection_ids=one.collection_ids,
        sources=[pb.JudgedSource(document_id=held.document_id, version=held.version) for held in one.sources],
        available=judged.available,
        question=judged.question,
        answers=[
            pb.JudgedAnswer(text=text, rank=rank) for text, rank in zip(judged.answers, judged.ranks, strict=True)
        ],
        edited=one.said.edited,
        comment=one.said.comment,
    )


def samples(request: pb.SampleAnswersRequest) -> SamplesWanted:
    """Return which answers are to be sampled.

    Raises:
        InvalidInput: A value is out of range; `param` names it.
    """
    question = Question(
        messages=tuple(Message(message.role, message.content) for message in request.messages),
        retrieval=wire.retrieval_options(request.retrieval),
        grounding=wire.GROUNDING.get(request.grounding),
        sampling=wire.sampling(request.sampling),
    )
    return SamplesWanted(question, tuple(request.models), request.answers, tuple(request.raters))


def usages(spent: Mapping[str, TokenUsage]) -> list[pb.ModelUsage]:
    """Return tokens by model."""
    return [pb.ModelUsage(model=model, usage=wire.usage(counted)) for model, counted in spent.items()]


def comparison(seen: SeenComparison, *, rater: str, subject: str) -> pb.Comparison:
    """Return a comparison as one of its raters sees it: in the rater's own order, without names of models."""
    one = seen.comparison
    return pb.Comparison(
        comparison_id=one.id,
        created_at=timestamp(one.created_at),
        messages=[sampling_pb2.Message(role=message.role, content=message.content) for message in one.messages],
        collection_ids=one.collection_ids,
        answers=[pb.ComparedAnswer(answer_id=answer.id, text=answer.text) for answer in one.shown_to(rater)],
        raters=one.raters,
        own=one.owner == subject,
        feedback_id=seen.feedback_id,
    )


def agreement(measured: Agreement) -> pb.AgreementScore:
    """Return how far raters agree."""
    score = pb.AgreementScore(
        status=_STATUS[measured.status],
        raters=measured.raters,
        units=measured.units,
        pairable_values=measured.pairable_values,
        values=measured.values,
    )
    if measured.alpha is not None:
        score.alpha = measured.alpha
    if measured.interval is not None:
        score.low, score.high = measured.interval
    return score
