"""`/v1/chat/completions`: one turn, whole or as a stream, from documents where they are given."""

from contextlib import aclosing

from gateway.api.call import Call
from gateway.api.errors import error_object
from gateway.api.openai.answers import DONE, chunks, whole_answer
from gateway.api.openai.requests import ChatBody
from gateway.api.openai.turns import chat_turn
from gateway.api.replies import Reply, Stream, json_line, json_reply
from gateway.api.routing import Body, Route
from gateway.ports import Chat
from services.chassis.errors import BrainError

__all__ = ["ChatRoutes", "broken"]


def broken(error: BrainError) -> bytes:
    """Return the frames that tell of an error in the middle of a stream, and end it."""
    return b"data: " + json_line({"error": error_object(error)}) + b"\n\n" + DONE


class ChatRoutes:
    """Answers chats.

    Args:
        chat: The chat room.
    """

    def __init__(self, *, chat: Chat) -> None:
        self._chat = chat

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                "POST",
                "/v1/chat/completions",
                self.complete,
                "Answer one turn, from documents and collections where they are given",
                body=Body.JSON,
                request=ChatBody,
                makes_tokens=True,
            )
        ]

    async def complete(self, call: Call) -> Reply | Stream:
        """Answer one turn."""
        body = await call.parse(ChatBody)
        turn = chat_turn(body)
        events = self._chat.answer(turn)
        if not body.stream:
            async with aclosing(events):
                return json_reply(await whole_answer(events, call, turn.sampling.n))
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        return Stream(chunks(events, call, with_usage=with_usage), on_error=broken)
