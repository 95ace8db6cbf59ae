"""FeedbackService: what people think of answers."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from brain.chat.v1 import feedback_pb2 as pb
from brain.chat.v1 import feedback_pb2_grpc
from services.chassis.auth import Caller, current_caller
from services.chat.api import judgements as wire
from services.chat.domain.feedback import AnswerRank, FeedbackFilter, Judgement, rater_of
from services.chat.usecases.comparing import (
    DeleteComparison,
    GetComparison,
    ListComparisons,
    RankAnswers,
    SeenComparison,
)
from services.chat.usecases.exporting import ExportCounts, ExportFeedback, MeasureAgreement
from services.chat.usecases.feedback import GetFeedback, GiveFeedback, ListFeedback, WithdrawFeedback
from services.chat.usecases.sampling import SampleAnswers


def _seen(seen: SeenComparison, caller: Caller) -> pb.Comparison:
    return wire.comparison(seen, rater=rater_of(caller), subject=caller.subject)


class FeedbackApi(feedback_pb2_grpc.FeedbackServiceServicer):
    """Serves `brain.chat.v1.FeedbackService`.

    Args:
        give: The use case.
        get: The use case.
        list_all: The use case.
        withdraw: The use case.
        export: The use case.
        measure: The use case.
        sample: The use case.
        list_comparisons: The use case.
        get_comparison: The use case.
        rank: The use case.
        delete_comparison: The use case.
    """

    def __init__(
        self,
        *,
        give: GiveFeedback,
        get: GetFeedback,
        list_all: ListFeedback,
        withdraw: WithdrawFeedback,
        export: ExportFeedback,
        measure: MeasureAgreement,
        sample: SampleAnswers,
        list_comparisons: ListComparisons,
        get_comparison: GetComparison,
        rank: RankAnswers,
        delete_comparison: DeleteComparison,
    ) -> None:
        self._give = give
        self._get = get
        self._list = list_all
        self._withdraw = withdraw
        self._export = export
        self._measure = measure
        self._sample = sample
        self._list_comparisons = list_comparisons
        self._get_comparison = get_comparison
        self._rank = rank
        self._delete_comparison = delete_comparison

    async def GiveFeedback(self, request: pb.GiveFeedbackRequest, context: Any) -> pb.GiveFeedbackResponse:
        """Keep a thumb or a better answer."""
        said = Judgement(wire.kind(request.kind), request.comment, request.edited)
        judged, replaced = await self._give(current_caller(), request.receipt_id, said)
        return pb.GiveFeedbackResponse(feedback=wire.feedback(judged), replaced_id=replaced)

    async def GetFeedback(self, request: pb.GetFeedbackRequest, context: Any) -> pb.GetFeedbackResponse:
        """Return one judgement."""
        return pb.GetFeedbackResponse(feedback=wire.feedback(await self._get(current_caller(), request.feedback_id)))

    async def ListFeedback(self, request: pb.ListFeedbackRequest, context: Any) -> pb.ListFeedbackResponse:
        """List judgements."""
        wanted = wire.feedback_filter(request.filter)
        found, more = await self._list(current_caller(), wanted, limit=request.limit, after=request.after)
        return pb.ListFeedbackResponse(feedback=[wire.feedback(one) for one in found], has_more=more)

    async def WithdrawFeedback(self, request: pb.WithdrawFeedbackRequest, context: Any) -> pb.WithdrawFeedbackResponse:
        """Take a judgement back."""
        await self._withdraw(current_caller(), request.feedback_id)
        return pb.WithdrawFeedbackResponse()

    async def ExportFeedback(
        self, request: pb.ExportFeedbackRequest, context: Any
    ) -> AsyncIterator[pb.ExportFeedbackResponse]:
        """Stream judgements as training rows."""
        wanted = wire.feedback_filter(request.filter)
        async with aclosing(self._export(current_caller(), wanted)) as parts:
            async for part in parts:
                if isinstance(part, ExportCounts):
                    counts = pb.ExportCounts(judgements=part.judgements, unreadable=part.unreadable)
                    yield pb.ExportFeedbackResponse(counts=counts)
                else:
                    yield pb.ExportFeedbackResponse(row_json=part)

    async def Agreement(self, request: pb.AgreementRequest, context: Any) -> pb.AgreementResponse:
        """Say how far raters agree."""
        wanted = FeedbackFilter(
            collection_id=request.collection_id, since=wire.moment(request.since), until=wire.moment(request.until)
        )
        thumbs, rankings = await self._measure(current_caller(), wanted)
        return pb.AgreementResponse(thumbs=wire.agreement(thumbs), rankings=wire.agreement(rankings))

    async def SampleAnswers(self, request: pb.SampleAnswersRequest, context: Any) -> pb.SampleAnswersResponse:
        """Sample answers to be compared."""
        caller = current_caller()
        made, spent = await self._sample(caller, wire.samples(request))
        return pb.SampleAnswersResponse(comparison=_seen(SeenComparison(made), caller), usages=wire.usages(spent))

    async def ListComparisons(self, request: pb.ListComparisonsRequest, context: Any) -> pb.ListComparisonsResponse:
        """List what the caller may rank and has not."""
        caller = current_caller()
        found, more = await self._list_comparisons(
            caller, collection_id=request.collection_id, limit=request.limit, after=request.after
        )
        return pb.ListComparisonsResponse(comparisons=[_seen(one, caller) for one in found], has_more=more)

    async def GetComparison(self, request: pb.GetComparisonRequest, context: Any) -> pb.GetComparisonResponse:
        """Return one comparison."""
        caller = current_caller()
        found = await self._get_comparison(caller, request.comparison_id)
        return pb.GetComparisonResponse(comparison=_seen(found, caller))

    async def RankAnswers(self, request: pb.RankAnswersRequest, context: Any) -> pb.RankAnswersResponse:
        """Keep a ranking."""
        ranks = tuple(AnswerRank(one.answer_id, one.rank) for one in request.ranks)
        judged, replaced = await self._rank(current_caller(), request.comparison_id, ranks, request.comment)
        return pb.RankAnswersResponse(feedback=wire.feedback(judged), replaced_id=replaced)

    async def DeleteComparison(self, request: pb.DeleteComparisonRequest, context: Any) -> pb.DeleteComparisonResponse:
        """Remove a comparison."""
        gone = await self._delete_comparison(current_caller(), request.comparison_id)
        return pb.DeleteComparisonResponse(rankings_removed=gone)
