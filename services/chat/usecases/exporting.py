"""Judgements as training rows, and how far raters agree."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Final

import orjson

from services.chassis.auth import Caller
from services.chat.domain.agreement import Agreement, Level, measure
from services.chat.domain.feedback import THUMBS, Feedback, FeedbackFilter, FeedbackKind, JudgedSource, training_rows
from services.chat.ports import Clock, Judgements
from services.chat.telemetry import Metrics
from services.chat.usecases.judging import FindJudged, ReadableSources

__all__ = ["ExportCounts", "ExportFeedback", "MeasureAgreement"]

# Judgements read at once.
_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """How many judgements there are, and how many of them are left out since the caller may not read what they rest on."""

    judgements: int
    unreadable: int


class ExportFeedback:
    """Turns judgements into training rows.

    Args:
        judgements: Where they are kept.
        find_judged: What they are about.
        readable: What the caller may read.
        metrics: The room's metrics.
        clock: The time.
    """

    def __init__(
        self,
        *,
        judgements: Judgements,
        find_judged: FindJudged,
        readable: ReadableSources,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._judgements = judgements
        self._find_judged = find_judged
        self._readable = readable
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, caller: Caller, wanted: FeedbackFilter) -> AsyncGenerator[ExportCounts | str, None]:
        """Yield the counts, then the rows as JSON, newest judgement first.

        Whether the sources may be read is asked again for each batch of rows: a document that is withheld while the
        export runs holds from there on.
        """
        # What is said from now on is for the next export: the counts are of the same judgements as the rows.
        now = self._clock.now()
        bounded = replace(wanted, until=now if wanted.until is None else min(now, wanted.until))
        rests_on = [one.sources async for batch in self._batches(caller, bounded) for one in batch]
        sources: set[JudgedSource] = {source for one in rests_on for source in one}
        readable = await self._readable(sources)
        unreadable = sum(not readable.issuperset(one) for one in rests_on)
        self._metrics.exported.labels(outcome="unreadable").inc(unreadable)
        yield ExportCounts(len(rests_on), unreadable)
        async for batch in self._batches(caller, bounded):
            judged = [one for one in await self._find_judged(batch, tenant=caller.tenant) if one.available]
            self._metrics.exported.labels(outcome="exported").inc(len(judged))
            for one in judged:
                for row in training_rows(one):
                    yield orjson.dumps(row).decode()

    async def _batches(self, caller: Caller, wanted: FeedbackFilter) -> AsyncGenerator[list[Feedback], None]:
        after = ""
        while batch := await self._judgements.page(wanted, tenant=caller.tenant, limit=_BATCH, after=after):
            after = batch[-1].id
            yield batch


class MeasureAgreement:
    """Says how far raters agree.

    Args:
        judgements: Where their judgements are kept.
    """

    def __init__(self, *, judgements: Judgements) -> None:
        self._judgements = judgements

    async def __call__(self, caller: Caller, wanted: FeedbackFilter) -> tuple[Agreement, Agreement]:
        """Return the agreement on thumbs (nominal) and on rankings (ordinal)."""
        thumbs = await self._measured(caller, replace(wanted, kinds=THUMBS), Level.NOMINAL)
        rankings = await self._measured(caller, replace(wanted, kinds=(FeedbackKind.RANKING,)), Level.ORDINAL)
        return thumbs, rankings

    async def _measured(self, caller: Caller, wanted: FeedbackFilter, level: Level) -> Agreement:
        ratings = await self._judgements.ratings(wanted, tenant=caller.tenant)
        # A thousand resamples take a moment, in which other calls are served.
        return await asyncio.to_thread(measure, ratings, level)
