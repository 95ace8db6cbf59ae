"""The generation room over gRPC."""

from collections.abc import AsyncGenerator, Sequence

import grpc

from brain.generation.v1 import generation_pb2 as pb
from brain.generation.v1 import model_pb2
from brain.generation.v1.generation_pb2_grpc import GenerationServiceStub
from brain.generation.v1.model_pb2_grpc import ModelServiceStub
from gateway.backends.wire import FINISH, READ_TIMEOUT_S, logprobs, messages, model_name, moment, sampling_to, usage
from gateway.domain.asking import Completion, Message, Model, Prompt, Sampling, Tokens
from services.chassis.rpc.client import remote
from services.chassis.rpc.replicas import affinity

__all__ = ["IDEMPOTENT", "GrpcGeneration"]

_ROOM = "generation"
# Characters or tokens of a prompt that others which begin alike share.
_PREFIX = 256
IDEMPOTENT = (
    "brain.generation.v1.ModelService/ListModels",
    "brain.generation.v1.GenerationService/Tokenize",
    "brain.generation.v1.GenerationService/Detokenize",
)


class GrpcGeneration:
    """Models and raw completions.

    Args:
        channel: To the generation room.
        answer_timeout_s: Deadline of a completion.
    """

    def __init__(self, channel: grpc.aio.Channel, *, answer_timeout_s: float) -> None:
        self._models = ModelServiceStub(channel)
        self._stub = GenerationServiceStub(channel)
        self._answer_timeout_s = answer_timeout_s

    async def models(self) -> Sequence[Model]:
        """Return the base model, then its adapters, then aliases."""
        with remote(_ROOM, "ListModels") as metadata:
            answer = await self._models.ListModels(
                model_pb2.ListModelsRequest(), timeout=READ_TIMEOUT_S, metadata=metadata
            )
        return [
            Model(model.name, moment(model.created_at), model.parent, model.context_window, model.engine, model.alias)
            for model in answer.models
        ]

    async def complete(self, model: str, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Completion, None]:
        """Yield the continuation of a raw prompt; closing the iterator ends the work."""
        form = (
            pb.Prompt(token_ids=pb.TokenIds(ids=prompt.token_ids)) if prompt.token_ids else pb.Prompt(text=prompt.text)
        )
        request = pb.GenerateRequest(model=model_name(model), prompt=form, sampling=sampling_to(sampling))
        with remote(_ROOM, "Generate") as metadata:
            with affinity(f"{prompt.text[:_PREFIX]}{prompt.token_ids[:_PREFIX]}"):
                stream = self._stub.Generate(request, timeout=self._answer_timeout_s, metadata=metadata)
            try:
                async for step in stream:
                    yield Completion(
                        step.index,
                        step.text,
                        logprobs(step.logprobs) if step.logprobs else (),
                        FINISH[step.finish_reason],
                        usage(step.usage) if step.HasField("usage") else None,
                        step.model,
                    )
            finally:
                stream.cancel()

    async def tokenize(self, model: str, texts: Sequence[str], *, conversation: Sequence[Message] = ()) -> Tokens:
        """Return the token ids of texts."""
        request = pb.TokenizeRequest(model=model_name(model), texts=texts)
        if conversation:
            request.conversation.messages.extend(messages(conversation))
        with remote(_ROOM, "Tokenize") as metadata:
            answer = await self._stub.Tokenize(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Tokens(tuple(tuple(sequence.ids) for sequence in answer.sequences), answer.context_window)

    async def detokenize(self, model: str, token_ids: Sequence[int]) -> str:
        """Return the text of token ids."""
        request = pb.DetokenizeRequest(model=model_name(model), token_ids=pb.TokenIds(ids=token_ids))
        with remote(_ROOM, "Detokenize") as metadata:
            answer = await self._stub.Detokenize(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return str(answer.text)
