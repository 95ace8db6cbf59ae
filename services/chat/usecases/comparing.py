"""Comparisons: answers sampled to one question, shown to raters, ranked, removed."""

from dataclasses import dataclass

from services.chassis.auth import Caller
from services.chassis.errors import InvalidInput, NotFound
from services.chassis.ids import new_id
from services.chat.domain.comparisons import Comparison, checked_ranks, judged_comparison
from services.chat.domain.feedback import AnswerRank, Feedback, Judged, rater_of
from services.chat.ports import Clock, Judgements
from services.chat.telemetry import Metrics
from services.chat.usecases.feedback import blob_key
from services.chat.usecases.judging import KeepJudgement, ReadableSources, RemoveLooseBlobs

__all__ = ["DeleteComparison", "GetComparison", "ListComparisons", "RankAnswers", "SeenComparison"]

_DEFAULT_LIMIT = 20
_MOST = 100
# Comparisons looked through at once: not all of them are the caller's to rank.
_BATCH = 100


@dataclass(frozen=True, slots=True)
class SeenComparison:
    """A comparison as its rater sees it: with the id of the rater's own ranking, empty for none."""

    comparison: Comparison
    feedback_id: str = ""


def _not_found(comparison_id: str) -> NotFound:
    return NotFound(f"No comparison {comparison_id!r}.", param="comparison_id")


class GetComparison:
    """Returns one comparison.

    Args:
        judgements: Where they are kept.
        readable: What the caller may read.
    """

    def __init__(self, *, judgements: Judgements, readable: ReadableSources) -> None:
        self._judgements = judgements
        self._readable = readable

    async def __call__(self, caller: Caller, comparison_id: str) -> SeenComparison:
        """Return it to one of its raters who may read what its prompt held.

        Raises:
            NotFound: There is none that the caller may know of.
        """
        found = await self._judgements.comparison(comparison_id, tenant=caller.tenant)
        if found is None or not found.is_for(caller):
            raise _not_found(comparison_id)
        if not (await self._readable(found.sources)).issuperset(found.sources):
            raise _not_found(comparison_id)
        ranking = await self._judgements.ranking(comparison_id, rater_of(caller), tenant=caller.tenant)
        return SeenComparison(found, ranking)


class ListComparisons:
    """Lists the comparisons that wait for the caller's ranking.

    Args:
        judgements: Where they are kept.
        readable: What the caller may read.
    """

    def __init__(self, *, judgements: Judgements, readable: ReadableSources) -> None:
        self._judgements = judgements
        self._readable = readable

    async def __call__(
        self, caller: Caller, *, collection_id: str, limit: int, after: str
    ) -> tuple[list[SeenComparison], bool]:
        """Return a page, newest first, and whether more follow.

        Raises:
            InvalidInput: The limit is out of range.
        """
        if limit > _MOST:
            raise InvalidInput(f"limit: {limit} is not allowed; use 1 to {_MOST}.", param="limit")
        size = limit or _DEFAULT_LIMIT
        found: list[SeenComparison] = []
        full = True
        while full and len(found) <= size:
            batch = await self._judgements.unranked(
                rater_of(caller), tenant=caller.tenant, collection_id=collection_id, limit=_BATCH, after=after
            )
            full = len(batch) == _BATCH
            after = batch[-1].id if batch else after
            mine = [one for one in batch if one.is_for(caller)]
            readable = await self._readable(source for one in mine for source in one.sources)
            found += [SeenComparison(one) for one in mine if readable.issuperset(one.sources)]
        return found[:size], len(found) > size


class RankAnswers:
    """Keeps a ranking.

    Args:
        get_comparison: Returns what the caller may rank.
        keep: Keeps the judgement.
        clock: The time.
    """

    def __init__(self, *, get_comparison: GetComparison, keep: KeepJudgement, clock: Clock) -> None:
        self._get_comparison = get_comparison
        self._keep = keep
        self._clock = clock

    async def __call__(
        self, caller: Caller, comparison_id: str, ranks: tuple[AnswerRank, ...], comment: str
    ) -> tuple[Judged, str]:
        """Keep the caller's ranking; return it, and the id of the earlier one whose place it took.

        Raises:
            InvalidInput: The ranks are not those of its answers; `param` names the field.
            NotFound: There is no such comparison that the caller may rank.
        """
        comparison = (await self._get_comparison(caller, comparison_id)).comparison
        said = checked_ranks(comparison, ranks, comment)
        asked = {answer.asked_model for answer in comparison.answers}
        feedback_id = new_id("fb_")
        given = Feedback(
            id=feedback_id,
            tenant=caller.tenant,
            rater=rater_of(caller),
            created_at=self._clock.now(),
            said=said,
            receipt_id="",
            comparison_id=comparison.id,
            model="",
            asked_model=asked.pop() if len(asked) == 1 else "",
            collection_ids=comparison.collection_ids,
            sources=comparison.sources,
            unit=comparison.id,
            blob_key=blob_key(caller.tenant, feedback_id),
        )
        judged = judged_comparison(given, comparison)
        return judged, await self._keep(judged)


class DeleteComparison:
    """Removes a comparison with its rankings.

    Args:
        judgements: Where they are kept.
        remove_loose: Removes the rankings' blobs.
        metrics: The room's metrics.
    """

    def __init__(self, *, judgements: Judgements, remove_loose: RemoveLooseBlobs, metrics: Metrics) -> None:
        self._judgements = judgements
        self._remove_loose = remove_loose
        self._metrics = metrics

    async def __call__(self, caller: Caller, comparison_id: str) -> int:
        """Remove an own comparison, or as an administrator anybody's; return how many rankings went with it.

        Raises:
            NotFound: There is none that the caller may remove.
        """
        found = await self._judgements.comparison(comparison_id, tenant=caller.tenant)
        if found is None or not (found.owner == caller.subject or caller.is_administrator):
            raise _not_found(comparison_id)
        gone = await self._judgements.delete_comparison(comparison_id, tenant=caller.tenant)
        if gone is None:
            raise _not_found(comparison_id)
        self._metrics.feedback_withdrawn.inc(gone)
        await self._remove_loose()
        return gone
