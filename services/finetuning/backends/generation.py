"""The generation room as a writer, a sampler and a judge."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from brain.generation.v1 import generation_pb2, generation_pb2_grpc
from brain.types.v1 import sampling_pb2
from services.chassis.errors import Unavailable
from services.chassis.rpc.client import remote
from services.layout.turns import Message

IDEMPOTENT = ("brain.generation.v1.GenerationService/Score",)
"""Methods that may be tried again: none of them changes anything."""

_ROOM: Final = "generation"
# What the engine draws for one request.
_MOST_DRAWN: Final = 8
# What the engine scores in one request.
_MOST_SCORED: Final = 64
# Longer than the longest answer on a slow machine; stalls are noticed by the waits between steps.
_LONGEST_ANSWER_S: Final = 880.0


class RemoteModels:
    """Texts, samples and scores over gRPC: `Writer`, `Sampler` and `Judge`.

    Args:
        channel: Channel to the generation room; the caller closes it.
        call_timeout_s: Longest wait for scores.
        first_token_timeout_s: Longest wait for the first step of a stream, the queue included.
        stall_timeout_s: Longest wait between two steps.
        token: Gives the token of each call; None takes that of the request being served.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        call_timeout_s: float,
        first_token_timeout_s: float,
        stall_timeout_s: float,
        token: Callable[[], str] | None = None,
    ) -> None:
        self._stub = generation_pb2_grpc.GenerationServiceStub(channel)
        self._call_timeout_s = call_timeout_s
        self._first_token_timeout_s = first_token_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._token = token

    async def write(
        self, messages: Sequence[Message], *, model: str, max_tokens: int, seed: int, json_schema: str = ""
    ) -> str:
        """Return the most likely answer to a conversation."""
        sampling = sampling_pb2.Sampling(
            temperature=0.0, max_tokens=max_tokens, seed=_signed(seed), json_schema=json_schema
        )
        (text,) = await self._generated(messages, model, sampling, count=1)
        return text

    async def sample(
        self, messages: Sequence[Message], *, model: str, count: int, temperature: float, max_tokens: int, seed: int
    ) -> list[str]:
        """Return `count` answers, drawn independently; more than the engine draws at once come from several requests."""
        found: list[str] = []
        while len(found) < count:
            drawn = min(_MOST_DRAWN, count - len(found))
            sampling = sampling_pb2.Sampling(
                temperature=temperature, max_tokens=max_tokens, seed=_signed(seed + len(found)), n=drawn
            )
            found += await self._generated(messages, model, sampling, count=drawn)
        return found

    async def logprobs(self, messages: Sequence[Message], continuations: Sequence[str], *, model: str) -> list[float]:
        """Return the log probability of each continuation, in order."""
        found: list[float] = []
        for at in range(0, len(continuations), _MOST_SCORED):
            request = generation_pb2.ScoreRequest(
                model=model, prompt=_prompt(messages), continuations=continuations[at : at + _MOST_SCORED]
            )
            with remote(_ROOM, "Score", token=self._token() if self._token else None) as metadata:
                answer = await self._stub.Score(request, timeout=self._call_timeout_s, metadata=metadata)
            found += [score.logprob for score in answer.scores]
        return found

    async def _generated(
        self, messages: Sequence[Message], model: str, sampling: sampling_pb2.Sampling, *, count: int
    ) -> list[str]:
        request = generation_pb2.GenerateRequest(model=model, prompt=_prompt(messages), sampling=sampling)
        texts = [""] * count
        wait_s = self._first_token_timeout_s
        with remote(_ROOM, "Generate", token=self._token() if self._token else None) as metadata:
            call = self._stub.Generate(request, timeout=_LONGEST_ANSWER_S, metadata=metadata)
            try:
                while True:
                    try:
                        async with asyncio.timeout(wait_s):
                            step: Any = await call.read()
                    except TimeoutError as error:
                        raise Unavailable("The engine stopped answering.", retry_after_s=5.0) from error
                    if step is grpc.aio.EOF:
                        return texts
                    wait_s = self._stall_timeout_s
                    texts[step.index] += step.text
            finally:
                # No effect on a call that has ended.
                call.cancel()


def _prompt(messages: Sequence[Message]) -> generation_pb2.Prompt:
    turns = [sampling_pb2.Message(role=message.role, content=message.content) for message in messages]
    return generation_pb2.Prompt(conversation=generation_pb2.Conversation(messages=turns))


def _signed(seed: int) -> int:
    """Return a seed of 64 bits as the signed number that travels."""
    return seed % (1 << 63)
