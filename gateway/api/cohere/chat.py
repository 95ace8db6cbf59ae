"""`POST /v2/chat`: one turn, whole or as a stream."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

from gateway.api.call import Call
from gateway.api.cohere.answers import failed_end, stream_events, whole_answer
from gateway.api.cohere.requests import ChatBody
from gateway.api.cohere.turns import chat_turn
from gateway.api.replies import EVENT_STREAM, Reply, Stream, json_line, json_reply
from gateway.domain.asking import AnswerEvent
from gateway.ports import Chat
from services.chassis.errors import BrainError, DeadlineExceeded

__all__ = ["ChatRoutes", "takes_events"]

JSON_LINES: Final = "application/x-ndjson"
_DONE: Final = b"data: [DONE]\n\n"


class ChatRoutes:
    """Answers chats.

    Args:
        chat: The chat room.
    """

    def __init__(self, *, chat: Chat) -> None:
        self._chat = chat

    async def chat(self, call: Call) -> Reply | Stream:
        """Answer one turn."""
        body = await call.parse(ChatBody)
        events = self._chat.answer(chat_turn(body))
        if not body.stream:
            async with aclosing(events):
                return json_reply(await whole_answer(events, call))
        as_events = takes_events(call.header("accept"))
        frame = _event_frame if as_events else _line_frame

        def broken(error: BrainError) -> bytes:
            last = frame(failed_end(error.message, timed_out=isinstance(error, DeadlineExceeded)))
            return last + _DONE if as_events else last

        return Stream(
            _frames(events, call, frame, last=_DONE if as_events else b""),
            on_error=broken,
            media_type=EVENT_STREAM if as_events else JSON_LINES,
        )


def takes_events(accept: str) -> bool:
    """Return whether the client reads server-sent events; some read bare JSON lines and say that they take JSON only."""
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return not accept.strip() or not kinds.isdisjoint({"*/*", "text/*", "text/event-stream"})


def _event_frame(event: dict[str, Any]) -> bytes:
    return b"data: " + json_line(event) + b"\n\n"


def _line_frame(event: dict[str, Any]) -> bytes:
    return json_line(event) + b"\n"


async def _frames(
    events: AsyncGenerator[AnswerEvent, None], call: Call, frame: Callable[[dict[str, Any]], bytes], *, last: bytes
) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in stream_events(events, call):
            yield frame(event)
    if last:
        yield last
