"""Judgements as they are kept and as their readers may see them; what is left of those that are taken back."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from services.chassis.errors import NotFound, Unavailable
from services.chat.domain.comparisons import judged_comparison
from services.chat.domain.feedback import Feedback, Judged, JudgedSource, judged_receipt
from services.chat.domain.receipts import Span
from services.chat.ports import Blobs, Clock, ContentForm, Judgements, Library, Records
from services.chat.telemetry import Metrics

__all__ = ["FindJudged", "KeepJudgement", "ReadableSources", "RemoveLooseBlobs"]

_log = structlog.get_logger()
# Longer than any call lasts: a blob that belongs to nothing for so long never will.
_GRACE: Final = timedelta(hours=1)
# Spans asked for in one call.
_SPANS: Final = 200


class ReadableSources:
    """Says which documents the caller may read today.

    Args:
        library: Where stored text is.
    """

    def __init__(self, *, library: Library) -> None:
        self._library = library

    async def __call__(self, sources: Iterable[JudgedSource]) -> frozenset[JudgedSource]:
        """Return those of the sources that are there and may be read; what is gone and what is hidden look the same."""
        wanted = list(dict.fromkeys(sources))
        readable: set[JudgedSource] = set()
        for start in range(0, len(wanted), _SPANS):
            batch = wanted[start : start + _SPANS]
            # Of no length: whether there is text for the caller is all that is asked.
            found = await self._library.resolve([Span(one.document_id, one.version, 0, 0) for one in batch])
            readable.update(one for one, text in zip(batch, found, strict=True) if text.available)
        return frozenset(readable)


class FindJudged:
    """Finds what judgements are about, as the caller may see it today.

    Args:
        records: Where receipts are kept.
        judgements: Where comparisons are kept.
        readable: What the caller may read.
    """

    def __init__(self, *, records: Records, judgements: Judgements, readable: ReadableSources) -> None:
        self._records = records
        self._judgements = judgements
        self._readable = readable

    async def __call__(self, found: Sequence[Feedback], *, tenant: str) -> list[Judged]:
        """Return the judgements with their texts, or without where a document of the answer's prompt may not be read.

        What was removed in this moment is left out.
        """
        receipts = await self._records.receipts([one.receipt_id for one in found if one.receipt_id], tenant=tenant)
        ranked = [one.comparison_id for one in found if one.comparison_id]
        comparisons = await self._judgements.comparisons(ranked, tenant=tenant) if ranked else {}
        readable = await self._readable(source for one in found for source in one.sources)
        judged = []
        for one in found:
            if (receipt := receipts.get(one.receipt_id)) is not None:
                whole = judged_receipt(one, receipt)
            elif (comparison := comparisons.get(one.comparison_id)) is not None:
                whole = judged_comparison(one, comparison)
            else:
                continue
            judged.append(whole if readable.issuperset(one.sources) else whole.withheld())
        return judged


class RemoveLooseBlobs:
    """Removes blobs that belong to nothing: of judgements that were taken back, and of those that were never kept.

    Args:
        judgements: Knows them.
        blobs: Where they lie.
        clock: The time.
    """

    def __init__(self, *, judgements: Judgements, blobs: Blobs, clock: Clock) -> None:
        self._judgements = judgements
        self._blobs = blobs
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self) -> None:
        """Remove what there is; what cannot be removed now stays noted for the next time."""
        async with self._one_at_a_time:
            try:
                keys = await self._judgements.loose(self._clock.now() - _GRACE)
                if keys:
                    await self._blobs.delete(keys)
                    await self._judgements.settled(keys)
            except (NotFound, Unavailable) as error:
                # Not found: another process of this room was quicker.
                _log.warning("loose_blobs_stay", reason=error.message)


class KeepJudgement:
    """Keeps a judgement: the blob that other rooms read, then the record that tells of it.

    Args:
        judgements: Where they are kept.
        blobs: Where other rooms read them.
        form: How other rooms read them.
        remove_loose: Removes what a replaced judgement leaves.
        metrics: The room's metrics.
        clock: The time.
    """

    def __init__(
        self,
        *,
        judgements: Judgements,
        blobs: Blobs,
        form: ContentForm,
        remove_loose: RemoveLooseBlobs,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._judgements = judgements
        self._blobs = blobs
        self._form = form
        self._remove_loose = remove_loose
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, judged: Judged) -> str:
        """Keep it; return the id of the earlier judgement whose place it took, empty for none.

        Raises:
            NotFound: What was judged was removed meanwhile.
            Unavailable: The blob store or the database is away.
        """
        kept = judged.feedback
        await self._judgements.reserve(kept.blob_key, self._clock.now())
        await self._blobs.put(kept.blob_key, self._form.content(judged))
        replaced = await self._judgements.give(kept)
        self._metrics.feedback.labels(kind=kept.said.kind.value).inc()
        if replaced:
            await self._remove_loose()
        return replaced
