"""ChatService: one turn as a stream."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from brain.chat.v1 import chat_pb2, chat_pb2_grpc
from services.chassis.auth import current_caller
from services.chassis.rpc.replicas import affinity
from services.chat.api import wire
from services.chat.api.stream import Emit, streamed
from services.chat.domain.turn import Question
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
            # The turns of a conversation share what the engine has read.
            with affinity(f"{caller.tenant}\0{question.conversation_id or _first_words(question)}"):
                await self._answer_turn(question, caller, emit)

        async with aclosing(streamed(run)) as events:
            async for event in events:
                yield wire.response(event)


def _first_words(question: Question) -> str:
    """Return what a conversation that the caller keeps begins with: the same in each of its turns."""
    return next((message.content for message in question.messages if message.role == "user"), "")
