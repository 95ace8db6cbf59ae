"""The generation room as the judge of graders."""

import asyncio
from typing import Any, Final

import grpc

from brain.generation.v1 import generation_pb2, generation_pb2_grpc
from brain.types.v1 import sampling_pb2
from services.chassis.errors import Unavailable
from services.chassis.rpc.client import remote
from services.finetuning.domain.grader_judging import Judgement, Question, TokenCounts

__all__ = ["RemoteJudge"]

_ROOM: Final = "generation"
# By this name callers ask for the base model, whatever it is.
_BASE: Final = "default"


class RemoteJudge:
    """Judgements over gRPC, with the token of the request being served.

    Args:
        channel: Channel to the generation room; the caller closes it.
        timeout_s: Longest wait for a judgement.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self._timeout_s = timeout_s

    async def judge(self, question: Question) -> Judgement:
        """Return the answer.

        Raises:
            NotFound: There is no such model that the caller may ask.
            Unavailable: The engine cannot answer now, or did not in time.
        """
        with remote(_ROOM, "Generate") as metadata:
            call = self._generation.Generate(_request(question), timeout=self._timeout_s, metadata=metadata)
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await _read(call, question.model)
            except TimeoutError as error:
                raise Unavailable(
                    f"The judge did not answer within {self._timeout_s:g} s.", retry_after_s=5.0
                ) from error
            finally:
                # No effect on a call that has ended.
                call.cancel()


def _request(question: Question) -> generation_pb2.GenerateRequest:
    sampling = sampling_pb2.Sampling(
        temperature=question.sampling.temperature,
        top_p=question.sampling.top_p,
        max_tokens=question.sampling.max_tokens,
        json_schema=question.json_schema,
    )
    if question.sampling.seed is not None:
        sampling.seed = question.sampling.seed
    turns = [sampling_pb2.Message(role=turn.role, content=turn.content) for turn in question.turns]
    return generation_pb2.GenerateRequest(
        model="" if question.model == _BASE else question.model,
        prompt=generation_pb2.Prompt(conversation=generation_pb2.Conversation(messages=turns)),
        sampling=sampling,
    )


async def _read(call: Any, asked: str) -> Judgement:
    texts: list[str] = []
    model, finish, tokens = asked, sampling_pb2.FINISH_REASON_UNSPECIFIED, TokenCounts()
    async for step in call:
        texts.append(step.text)
        model = step.model or model
        finish = step.finish_reason or finish
        if step.HasField("usage"):
            tokens = TokenCounts(step.usage.prompt_tokens, step.usage.cached_tokens, step.usage.completion_tokens)
    return Judgement("".join(texts), model, finish == sampling_pb2.FINISH_REASON_STOP, tokens)
