"""Turns over a real channel to a chat room that goes away at chosen moments."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from brain.chat.v1 import chat_pb2 as pb
from brain.chat.v1 import chat_pb2_grpc
from gateway.backends.chat.room import GrpcChat
from gateway.domain.asking import AnswerEvent, ChatTurn, Message, TextMade, TurnStarted
from services.chassis.auth import Caller, Role, acting_as
from services.chassis.errors import Unavailable
from services.chassis.rpc.client import connect
from services.chassis.rpc.interceptors import CODE_KEY

VERA = Caller("vera", "acme", roles=frozenset({Role.VIEWER}))
TURN = ChatTurn(messages=(Message("user", "How are you?"),))


@dataclass
class Room(chat_pb2_grpc.ChatServiceServicer):
    """Says two words; the first `leaves` calls end when they have said so many."""

    words_before_end: int = 0
    leaves: int = 0
    says_why: bool = False
    calls: list[str] = field(default_factory=list)

    async def Chat(self, request: Any, context: Any) -> AsyncIterator[pb.ChatResponse]:
        number = len(self.calls)
        self.calls.append(f"resp_{number}")
        yield pb.ChatResponse(started=pb.TurnStarted(response_id=f"resp_{number}", model="base"))
        for said, word in enumerate(("fine", "thanks")):
            if number < self.leaves and said == self.words_before_end:
                trailing = ((CODE_KEY, "unavailable"),) if self.says_why else ()
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone", trailing)
            yield pb.ChatResponse(text=pb.TextDelta(text=word))
        yield pb.ChatResponse(finished=pb.TurnFinished())


async def answered(room: Room) -> tuple[list[AnswerEvent], Unavailable | None]:
    """Return what a turn yields, and what it ends with."""
    server = grpc.aio.server()
    chat_pb2_grpc.add_ChatServiceServicer_to_server(room, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    events: list[AnswerEvent] = []
    try:
        async with connect(f"127.0.0.1:{port}") as channel:
            with acting_as(VERA, "token"):
                async with aclosing(GrpcChat(channel, answer_timeout_s=30).answer(TURN)) as answer:
                    async for event in answer:
                        events.append(event)  # noqa: PERF401  what came before the error is looked at
    except Unavailable as error:
        return events, error
    finally:
        await server.stop(0)
    return events, None


def words(events: list[AnswerEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, TextMade)]


async def test_a_turn_whose_room_goes_before_the_first_word_is_begun_anew_and_only_the_last_beginning_is_seen() -> None:
    room = Room(leaves=2)
    events, error = await answered(room)
    assert error is None
    assert words(events) == ["fine", "thanks"]
    assert [event.response_id for event in events if isinstance(event, TurnStarted)] == ["resp_2"]
    assert isinstance(events[0], TurnStarted)


async def test_after_the_first_word_nothing_is_repeated() -> None:
    room = Room(leaves=1, words_before_end=1)
    events, error = await answered(room)
    assert error is not None
    assert words(events) == ["fine"]
    assert len(room.calls) == 1


async def test_a_room_that_never_stays_is_given_up() -> None:
    room = Room(leaves=100)
    events, error = await answered(room)
    assert error is not None
    assert events == []
    assert len(room.calls) == 4


async def test_what_the_room_itself_says_is_said_at_once() -> None:
    room = Room(leaves=1, says_why=True)
    events, error = await answered(room)
    assert error is not None
    assert events == []
    assert len(room.calls) == 1


@pytest.mark.parametrize("leaves", [0, 1])
async def test_events_keep_their_order(leaves: int) -> None:
    events, _ = await answered(Room(leaves=leaves))
    assert [type(event).__name__ for event in events] == ["TurnStarted", "TextMade", "TextMade", "TurnFinished"]
