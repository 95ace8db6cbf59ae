"""What people think of answers, in the chat room over gRPC."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from brain.chat.v1 import feedback_pb2 as pb
from brain.chat.v1.feedback_pb2_grpc import FeedbackServiceStub
from gateway.backends.chat.room import GROUNDING, retrieval
from gateway.backends.wire import (
    READ_TIMEOUT_S,
    WORK_TIMEOUT_S,
    messages,
    model_name,
    moment,
    sampling_to,
    usage,
)
from gateway.domain.asking import Message
from gateway.domain.judging import (
    Agreement,
    AgreementStatus,
    ComparedAnswer,
    Comparison,
    ExportCounts,
    FeedbackFilter,
    FeedbackKind,
    JudgedAnswer,
    JudgedSource,
    Judgement,
    Ranks,
    Said,
    Sampled,
    SamplesWanted,
)
from gateway.domain.keeping import Page, Paging
from services.chassis.errors import Internal
from services.chassis.rpc.client import remote

__all__ = ["IDEMPOTENT", "GrpcFeedback"]

_ROOM = "chat"
IDEMPOTENT = tuple(
    f"brain.chat.v1.FeedbackService/{name}"
    for name in ("GetFeedback", "ListFeedback", "Agreement", "ListComparisons", "GetComparison")
)
# Every judgement of a large tenant, read by somebody slow.
_EXPORT_TIMEOUT_S: Final = 600.0
_NUMBER: Final[dict[FeedbackKind, pb.FeedbackKind.ValueType]] = {
    "thumb_up": pb.FEEDBACK_KIND_THUMB_UP,
    "thumb_down": pb.FEEDBACK_KIND_THUMB_DOWN,
    "edit": pb.FEEDBACK_KIND_EDIT,
    "ranking": pb.FEEDBACK_KIND_RANKING,
}
_KIND: Final[dict[int, FeedbackKind]] = {number: kind for kind, number in _NUMBER.items()}
_STATUS: Final[dict[int, AgreementStatus]] = {
    pb.AGREEMENT_STATUS_MEASURED: "measured",
    pb.AGREEMENT_STATUS_NOT_ENOUGH_OVERLAP: "not_enough_overlap",
    pb.AGREEMENT_STATUS_NO_VARIATION: "no_variation",
}


class GrpcFeedback:
    """Judgements and comparisons.

    Args:
        channel: To the chat room.
        answer_timeout_s: Deadline of sampled answers.
    """

    def __init__(self, channel: grpc.aio.Channel, *, answer_timeout_s: float) -> None:
        self._feedback = FeedbackServiceStub(channel)
        self._answer_timeout_s = answer_timeout_s

    async def give(self, receipt_id: str, said: Said) -> tuple[Judgement, str]:
        """Keep a thumb or a better answer."""
        request = pb.GiveFeedbackRequest(
            receipt_id=receipt_id, kind=_NUMBER[said.kind], edited=said.edited, comment=said.comment
        )
        with remote(_ROOM, "GiveFeedback") as metadata:
            answer = await self._feedback.GiveFeedback(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return _judgement(answer.feedback), answer.replaced_id

    async def get(self, feedback_id: str) -> Judgement:
        """Return a judgement."""
        request = pb.GetFeedbackRequest(feedback_id=feedback_id)
        with remote(_ROOM, "GetFeedback") as metadata:
            answer = await self._feedback.GetFeedback(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _judgement(answer.feedback)

    async def list_all(self, wanted: FeedbackFilter, paging: Paging) -> Page[Judgement]:
        """Return judgements, newest first."""
        request = pb.ListFeedbackRequest(filter=_filter(wanted), limit=paging.limit, after=paging.after)
        with remote(_ROOM, "ListFeedback") as metadata:
            answer = await self._feedback.ListFeedback(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(_judgement(one) for one in answer.feedback), answer.has_more)

    async def withdraw(self, feedback_id: str) -> None:
        """Take a judgement back."""
        request = pb.WithdrawFeedbackRequest(feedback_id=feedback_id)
        with remote(_ROOM, "WithdrawFeedback") as metadata:
            await self._feedback.WithdrawFeedback(request, timeout=WORK_TIMEOUT_S, metadata=metadata)

    async def export(self, wanted: FeedbackFilter) -> AsyncGenerator[ExportCounts | str, None]:
        """Yield how many judgements there are, then training rows as JSON."""
        request = pb.ExportFeedbackRequest(filter=_filter(wanted))
        with remote(_ROOM, "ExportFeedback") as metadata:
            stream = self._feedback.ExportFeedback(request, timeout=_EXPORT_TIMEOUT_S, metadata=metadata)
            try:
                async for message in stream:
                    if message.WhichOneof("part") == "counts":
                        yield ExportCounts(message.counts.judgements, message.counts.unreadable)
                    else:
                        yield message.row_json
            finally:
                stream.cancel()

    async def agreement(
        self, collection_id: str, since: datetime | None, until: datetime | None
    ) -> tuple[Agreement, Agreement]:
        """Return how far raters agree on thumbs, and on rankings."""
        request = pb.AgreementRequest(collection_id=collection_id, since=_stamp(since), until=_stamp(until))
        with remote(_ROOM, "Agreement") as metadata:
            answer = await self._feedback.Agreement(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return _agreement(answer.thumbs), _agreement(answer.rankings)

    async def sample(self, wanted: SamplesWanted) -> Sampled:
        """Draw different answers to one question."""
        request = pb.SampleAnswersRequest(
            messages=messages(wanted.messages),
            retrieval=retrieval(wanted.retrieval),
            grounding=GROUNDING[wanted.grounding],
            models=[model_name(model) for model in wanted.models],
            answers=wanted.answers,
            sampling=sampling_to(wanted.sampling),
            raters=wanted.raters,
        )
        with remote(_ROOM, "SampleAnswers") as metadata:
            answer = await self._feedback.SampleAnswers(request, timeout=self._answer_timeout_s, metadata=metadata)
        spent = tuple((one.model, usage(one.usage)) for one in answer.usages)
        return Sampled(_comparison(answer.comparison), spent)

    async def list_comparisons(self, collection_id: str, paging: Paging) -> Page[Comparison]:
        """Return the comparisons that the caller may rank and has not."""
        request = pb.ListComparisonsRequest(collection_id=collection_id, limit=paging.limit, after=paging.after)
        with remote(_ROOM, "ListComparisons") as metadata:
            answer = await self._feedback.ListComparisons(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(_comparison(one) for one in answer.comparisons), answer.has_more)

    async def get_comparison(self, comparison_id: str) -> Comparison:
        """Return a comparison."""
        request = pb.GetComparisonRequest(comparison_id=comparison_id)
        with remote(_ROOM, "GetComparison") as metadata:
            answer = await self._feedback.GetComparison(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return _comparison(answer.comparison)

    async def rank(self, comparison_id: str, ranks: Ranks, comment: str) -> tuple[Judgement, str]:
        """Keep a ranking."""
        request = pb.RankAnswersRequest(
            comparison_id=comparison_id,
            ranks=[pb.AnswerRank(answer_id=answer, rank=rank) for answer, rank in ranks],
            comment=comment,
        )
        with remote(_ROOM, "RankAnswers") as metadata:
            answer = await self._feedback.RankAnswers(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return _judgement(answer.feedback), answer.replaced_id

    async def delete_comparison(self, comparison_id: str) -> int:
        """Remove a comparison."""
        request = pb.DeleteComparisonRequest(comparison_id=comparison_id)
        with remote(_ROOM, "DeleteComparison") as metadata:
            answer = await self._feedback.DeleteComparison(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return answer.rankings_removed


def _stamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _filter(wanted: FeedbackFilter) -> pb.FeedbackFilter:
    return pb.FeedbackFilter(
        kinds=[_NUMBER[kind] for kind in wanted.kinds],
        collection_id=wanted.collection_id,
        model=wanted.model,
        rater=wanted.rater,
        since=_stamp(wanted.since),
        until=_stamp(wanted.until),
    )


def _judgement(one: pb.Feedback) -> Judgement:
    kind = _KIND.get(one.kind)
    if kind is None:
        raise Internal("The chat service said something unknown.", private=f"feedback kind {one.kind}")
    return Judgement(
        id=one.feedback_id,
        kind=kind,
        receipt_id=one.receipt_id,
        comparison_id=one.comparison_id,
        rater=one.rater,
        created_at=moment(one.created_at),
        model=one.model,
        asked_model=one.asked_model,
        collection_ids=tuple(one.collection_ids),
        sources=tuple(JudgedSource(source.document_id, source.version) for source in one.sources),
        available=one.available,
        question=one.question,
        answers=tuple(JudgedAnswer(answer.text, answer.rank) for answer in one.answers),
        edited=one.edited,
        comment=one.comment,
    )


def _comparison(one: pb.Comparison) -> Comparison:
    return Comparison(
        id=one.comparison_id,
        created_at=moment(one.created_at),
        messages=tuple(Message(message.role, message.content) for message in one.messages),
        collection_ids=tuple(one.collection_ids),
        answers=tuple(ComparedAnswer(answer.answer_id, answer.text) for answer in one.answers),
        raters=tuple(one.raters),
        own=one.own,
        feedback_id=one.feedback_id,
    )


def _agreement(score: pb.AgreementScore) -> Agreement:
    status = _STATUS.get(score.status)
    if status is None:
        raise Internal("The chat service said something unknown.", private=f"agreement status {score.status}")
    return Agreement(
        status=status,
        alpha=score.alpha if score.HasField("alpha") else None,
        interval=(score.low, score.high) if score.HasField("low") else None,
        raters=score.raters,
        units=score.units,
        pairable_values=score.pairable_values,
        values=score.values,
    )
