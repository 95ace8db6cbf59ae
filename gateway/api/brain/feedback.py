"""What people think of answers: thumbs, better answers, how far raters agree, and all of it as training rows."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson

from gateway.api.brain import feedback_views, views
from gateway.api.brain.feedback_requests import AgreementQuery, FeedbackBody, FeedbackExport, FeedbackQuery
from gateway.api.call import Call
from gateway.api.replies import Reply, Stream, json_line, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.judging import ExportCounts, Said
from gateway.domain.keeping import Paging
from gateway.ports import Feedback
from services.chassis.errors import Internal, InvalidInput

__all__ = ["FeedbackRoutes"]

_PATH = "/brain/v1/feedback"


class FeedbackRoutes:
    """Answers for feedback.

    Args:
        feedback: Where it is kept.
    """

    def __init__(self, *, feedback: Feedback) -> None:
        self._feedback = feedback

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{_PATH}/{{feedback_id}}"
        return [
            Route(
                "POST",
                _PATH,
                self.give,
                "Give an answer a thumb or write a better one",
                body=Body.JSON,
                request=FeedbackBody,
                creates=True,
            ),
            Route("GET", _PATH, self.list_all, "List feedback: one's own, or as a curator all", query=FeedbackQuery),
            Route(
                "POST",
                f"{_PATH}/export",
                self.export,
                "Feedback as training rows, one JSON object a line; without what the caller may not read",
                body=Body.JSON,
                request=FeedbackExport,
                answer="application/x-ndjson",
            ),
            Route("GET", one, self.get, "Return a judgement under the reader's rights of today"),
            Route("DELETE", one, self.withdraw, "Take a judgement back"),
            Route("GET", "/brain/v1/agreement", self.agreement, "Say how far raters agree", query=AgreementQuery),
        ]

    async def give(self, call: Call) -> Reply:
        """Keep a thumb or a better answer."""
        asked = await call.parse(FeedbackBody)
        if (asked.thumb is None) == (asked.edited is None):
            raise InvalidInput("thumb: give thumb ('up' or 'down') or edited, one of the two.", param="thumb")
        if asked.edited is not None:
            said = Said("edit", asked.edited, asked.comment)
        else:
            said = Said("thumb_up" if asked.thumb == "up" else "thumb_down", comment=asked.comment)
        kept, replaced = await self._feedback.give(asked.receipt_id, said)
        call.touched(kept.id)
        return json_reply(feedback_views.judgement(kept) | {"replaced": replaced or None}, 201)

    async def list_all(self, call: Call) -> Reply:
        """List judgements."""
        asked = call.query(FeedbackQuery)
        found = await self._feedback.list_all(asked.filter, Paging(limit=asked.limit, after=asked.after))
        return json_reply(views.page(found, feedback_views.judgement, lambda one: one.id))

    async def get(self, call: Call) -> Reply:
        """Return a judgement."""
        return json_reply(feedback_views.judgement(await self._feedback.get(call.path["feedback_id"])))

    async def withdraw(self, call: Call) -> Reply:
        """Take a judgement back."""
        identity = call.path["feedback_id"]
        await self._feedback.withdraw(identity)
        return json_reply({"id": identity, "deleted": True})

    async def export(self, call: Call) -> Stream:
        """Stream training rows; how many judgements there are, and how many are left out, is in the head."""
        parts = self._feedback.export((await call.parse(FeedbackExport)).filter)
        counts = await anext(parts, None)
        if not isinstance(counts, ExportCounts):
            await parts.aclose()
            raise Internal("The chat service began an export without its counts.")
        headers = [
            (b"x-brain-judgements", b"%d" % counts.judgements),
            (b"x-brain-unreadable", b"%d" % counts.unreadable),
        ]
        return Stream(_lines(parts), media_type="application/x-ndjson", headers=headers)

    async def agreement(self, call: Call) -> Reply:
        """Say how far raters agree."""
        asked = call.query(AgreementQuery)
        thumbs, rankings = await self._feedback.agreement(asked.collection, asked.since, asked.until)
        return json_reply(
            {
                "collection": asked.collection or None,
                "since": asked.since,
                "until": asked.until,
                "thumbs": feedback_views.agreement(thumbs, "nominal"),
                "rankings": feedback_views.agreement(rankings, "ordinal"),
            }
        )


async def _lines(parts: AsyncGenerator[ExportCounts | str, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, str):
                yield json_line(orjson.loads(part)) + b"\n"
