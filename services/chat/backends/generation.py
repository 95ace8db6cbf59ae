"""The generation room as the engine of the chat room."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import grpc

from brain.generation.v1 import generation_pb2, generation_pb2_grpc, model_pb2, model_pb2_grpc
from brain.types.v1 import sampling_pb2
from services.chassis.errors import Unavailable
from services.chassis.rpc.client import remote
from services.chat.domain.turn import (
    FinishReason,
    Message,
    Sampling,
    Step,
    TokenAlternative,
    TokenLogprob,
    TokenUsage,
)
from services.chat.ports import Measured

IDEMPOTENT = (
    "brain.generation.v1.GenerationService/Tokenize",
    "brain.generation.v1.ModelService/ListModels",
)
"""Methods that may be tried again: none of them changes anything."""

_ROOM = "generation"
# Replicas that an answer is asked of before its first step, and the pause before the next: long enough for a room that is
# started again to take calls, short beside what people wait for a first word.
_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.2
_FINISH: Final = {
    sampling_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    sampling_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    sampling_pb2.FINISH_REASON_CANCELLED: FinishReason.CANCELLED,
    sampling_pb2.FINISH_REASON_ERROR: FinishReason.ERROR,
}
_OPTIONAL: Final = (
    "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed",
)  # fmt: skip


class RemoteEngine:
    """Tokens over gRPC.

    Args:
        channel: Channel to the generation room; the caller closes it.
        call_timeout_s: Longest wait for counts and names.
        first_token_timeout_s: Longest wait for the first step of a stream.
        stall_timeout_s: Longest wait between two steps.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        call_timeout_s: float,
        first_token_timeout_s: float,
        stall_timeout_s: float,
    ) -> None:
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self._models = model_pb2_grpc.ModelServiceStub(channel)
        self._call_timeout_s = call_timeout_s
        self._first_token_timeout_s = first_token_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._base = ""

    async def generate(
        self, messages: Sequence[Message], *, model: str, sampling: Sampling
    ) -> AsyncGenerator[Step, None]:
        """Stream the steps; closing the iterator cancels the call, which ends the work."""
        request = generation_pb2.GenerateRequest(
            model=model,
            prompt=generation_pb2.Prompt(conversation=_conversation(messages)),
            sampling=_sampling(sampling),
        )
        for attempt in range(1, _ATTEMPTS + 1):
            began = False
            try:
                async with aclosing(self._streamed(request)) as steps:
                    async for step in steps:
                        began = True
                        yield step
            except Unavailable as error:
                # A replica that is gone: another one may take it, as nobody has seen anything of it yet.
                is_gone = isinstance(error.__cause__, grpc.aio.AioRpcError)
                if began or not is_gone or attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_PAUSE_S * attempt)
            else:
                return

    async def _streamed(self, request: generation_pb2.GenerateRequest) -> AsyncGenerator[Step, None]:
        wait_s = self._first_token_timeout_s
        with remote(_ROOM, "Generate") as metadata:
            call = self._generation.Generate(request, timeout=_LONGEST_ANSWER_S, metadata=metadata)
            try:
                while True:
                    try:
                        async with asyncio.timeout(wait_s):
                            response: Any = await call.read()
                    except TimeoutError as error:
                        raise Unavailable("The engine stopped answering.", retry_after_s=5.0) from error
                    if response is grpc.aio.EOF:
                        return
                    wait_s = self._stall_timeout_s
                    yield _step(response)
            finally:
                # No effect on a call that has ended.
                call.cancel()

    async def measure(self, texts: Sequence[str], conversation: Sequence[Message], *, model: str) -> Measured:
        """Count the tokens of texts and of a conversation with its template."""
        request = generation_pb2.TokenizeRequest(model=model, texts=texts, conversation=_conversation(conversation))
        with remote(_ROOM, "Tokenize") as metadata:
            answer = await self._generation.Tokenize(request, timeout=self._call_timeout_s, metadata=metadata)
        return Measured(
            tuple(len(sequence.ids) for sequence in answer.sequences),
            answer.conversation_tokens,
            answer.context_window,
            answer.model,
        )

    async def base_model(self) -> str:
        """Return the base model's name; asked for once, it never changes while the engine runs."""
        if not self._base:
            with remote(_ROOM, "ListModels") as metadata:
                answer = await self._models.ListModels(
                    model_pb2.ListModelsRequest(), timeout=self._call_timeout_s, metadata=metadata
                )
            self._base = answer.models[0].name
        return self._base


# Longer than the longest answer on a slow machine; stalls are noticed by the waits between steps.
_LONGEST_ANSWER_S = 880.0


def _conversation(messages: Sequence[Message]) -> generation_pb2.Conversation:
    return generation_pb2.Conversation(
        messages=[sampling_pb2.Message(role=message.role, content=message.content) for message in messages]
    )


def _sampling(sampling: Sampling) -> sampling_pb2.Sampling:
    wire = sampling_pb2.Sampling(
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        stop=sampling.stop,
        n=sampling.n,
        logprobs=sampling.logprobs,
        top_logprobs=sampling.top_logprobs,
        json_schema=sampling.json_schema,
        json_object=sampling.json_object,
        ignore_eos=sampling.ignore_eos,
    )
    for name in _OPTIONAL:
        value = getattr(sampling, name)
        if value is not None:
            setattr(wire, name, value)
    return wire


def _step(response: generation_pb2.GenerateResponse) -> Step:
    usage = None
    if response.HasField("usage"):
        counts = response.usage
        usage = TokenUsage(counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens)
    return Step(
        index=response.index,
        text=response.text,
        logprobs=tuple(_logprob(one) for one in response.logprobs) if response.logprobs else (),
        finish_reason=_FINISH.get(response.finish_reason),
        usage=usage,
        prompt_hash=response.prompt_hash,
        model=response.model,
    )


def _logprob(logprob: sampling_pb2.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(
        logprob.token,
        logprob.token_bytes,
        logprob.logprob,
        tuple(TokenAlternative(one.token, one.token_bytes, one.logprob) for one in logprob.top),
    )
