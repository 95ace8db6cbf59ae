"""ChatService: one turn as a stream."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from brain.chat.v1 import chat_pb2, chat_pb2_grpc
from services.chassis.auth import current_caller
from services.chat.api import wire
from services.chat.api.stream import Emit, streamed
from services.chat.usecases.turn import AnswerTurn


class ChatApi(chat_pb2_grpc.ChatServiceServicer):
    """Serves `brain.chat.v1.ChatService`.

    Args:
        answer_turn: The use case.
    """

    def __init__(self, *, answer_turn: AnswerTurn) -> None:
        self._answer_turn = answer_turn

    async def Chat(
        self,
        request: chat_pb2.ChatRequest,
        context: grpc.aio.ServicerContext[chat_pb2.ChatRequest, chat_pb2.ChatResponse],
    ) -> AsyncIterator[chat_pb2.ChatResponse]:
        """Answer one turn."""
        question = wire.question(request)
        caller = current_caller()

        async def run(emit: Emit) -> None:
            await self._answer_turn(question, caller, emit)

        async with aclosing(streamed(run)) as events:
            async for event in events:
                yield wire.response(event)
