"""gRPC ↔ use cases."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from brain.generation.v1 import generation_pb2 as pb
from brain.generation.v1 import model_pb2
from brain.types.v1 import sampling_pb2
from services.chassis.auth import current_caller
from services.chassis.errors import InvalidInput
from services.generation.domain import Conversation, Finish, Model, Prompt, Sampling, Started, Step, TokenLogprob, Turn
from services.generation.usecases import (
    CheckAdapter,
    CountTokens,
    Generate,
    Models,
    RegisterAdapters,
    ScoreContinuations,
    WithholdAdapters,
)

__all__ = ["GenerationServicer", "ModelServicer"]

Context = grpc.aio.ServicerContext[Any, Any]

_FINISH = {
    Finish.STOP: sampling_pb2.FINISH_REASON_STOP,
    Finish.LENGTH: sampling_pb2.FINISH_REASON_LENGTH,
    Finish.CANCELLED: sampling_pb2.FINISH_REASON_CANCELLED,
    Finish.ERROR: sampling_pb2.FINISH_REASON_ERROR,
}
_OPTIONAL = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "seed",
)


class GenerationServicer:
    """`brain.generation.v1.GenerationService`."""

    def __init__(self, *, generate: Generate, score: ScoreContinuations, count: CountTokens) -> None:
        self._generate = generate
        self._score = score
        self._count = count

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        """Stream the continuation of a prompt."""
        generation = self._generate(
            caller=current_caller(),
            model=request.model,
            prompt=_prompt(request.prompt),
            sampling=_sampling(request.sampling),
        )
        async with aclosing(generation) as events:
            skin = _StreamSkin(max(1, request.sampling.n))
            async for event in events:
                if isinstance(event, Started):
                    skin.started = event
                else:
                    yield skin.message(event)

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Score given continuations."""
        scores = await self._score(
            caller=current_caller(),
            model=request.model,
            prompt=_prompt(request.prompt),
            continuations=list(request.continuations),
        )
        return pb.ScoreResponse(
            scores=[
                pb.ContinuationScore(
                    logprob=score.logprob,
                    token_count=len(score.token_logprobs),
                    token_logprobs=score.token_logprobs,
                )
                for score in scores
            ]
        )

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """Return token ids and lengths."""
        counted = await self._count.tokenize(
            caller=current_caller(),
            model=request.model,
            texts=list(request.texts),
            conversation=_conversation(request.conversation) if request.HasField("conversation") else None,
        )
        return pb.TokenizeResponse(
            sequences=[pb.TokenIds(ids=ids) for ids in counted.sequences],
            conversation_tokens=counted.conversation_tokens,
            context_window=counted.context_window,
            model=counted.model,
        )

    async def Detokenize(self, request: pb.DetokenizeRequest, context: Context) -> pb.DetokenizeResponse:
        """Return the text of token ids."""
        text = await self._count.detokenize(
            caller=current_caller(), model=request.model, ids=tuple(request.token_ids.ids)
        )
        return pb.DetokenizeResponse(text=text)


class ModelServicer:
    """`brain.generation.v1.ModelService`."""

    def __init__(
        self, *, models: Models, register: RegisterAdapters, check: CheckAdapter, withhold: WithholdAdapters
    ) -> None:
        self._models = models
        self._register = register
        self._check = check
        self._withhold = withhold

    async def ListModels(self, request: model_pb2.ListModelsRequest, context: Context) -> model_pb2.ListModelsResponse:
        """List what the caller may ask."""
        return model_pb2.ListModelsResponse(models=[_model(model) for model in self._models.list(current_caller())])

    async def RegisterAdapter(
        self, request: model_pb2.RegisterAdapterRequest, context: Context
    ) -> model_pb2.RegisterAdapterResponse:
        """Serve an adapter of the room's folder."""
        entry, registration = await self._register.register(current_caller().tenant, request.name, request.path)
        files = registration.files
        return model_pb2.RegisterAdapterResponse(
            model=_model(self._models.model(entry)), digest=files.digest, rank=files.rank
        )

    async def UnregisterAdapter(
        self, request: model_pb2.UnregisterAdapterRequest, context: Context
    ) -> model_pb2.UnregisterAdapterResponse:
        """Stop serving an adapter of the room's folder."""
        await self._register.unregister(current_caller().tenant, request.name)
        return model_pb2.UnregisterAdapterResponse()

    async def CheckAdapter(
        self, request: model_pb2.CheckAdapterRequest, context: Context
    ) -> model_pb2.CheckAdapterResponse:
        """Look into an adapter's blobs."""
        files = await self._check(current_caller().tenant, request.config_blob_key, request.weights_blob_key)
        return model_pb2.CheckAdapterResponse(
            weights_digest=files.digest,
            config_digest=files.config_digest,
            rank=files.rank,
            size_bytes=files.size_bytes,
        )

    async def WithholdAdapters(
        self, request: model_pb2.WithholdAdaptersRequest, context: Context
    ) -> model_pb2.WithholdAdaptersResponse:
        """Refuse adapters at once."""
        revisions: dict[str, int] = {}
        for adapter in request.adapters:
            revisions[adapter.name] = max(adapter.revision, revisions.get(adapter.name, 0))
        await self._withhold(current_caller().tenant, revisions)
        return model_pb2.WithholdAdaptersResponse()


class _StreamSkin:
    """Turns steps into messages; the first carries what is known of the request, counts stand at both ends."""

    def __init__(self, n: int) -> None:
        self.started: Started | None = None
        self._produced = [0] * n
        self._first = True

    def message(self, step: Step) -> pb.GenerateResponse:
        """Return the message of a step."""
        assert self.started is not None
        self._produced[step.index] += len(step.token_ids)
        message = pb.GenerateResponse(index=step.index, text=step.text, token_ids=step.token_ids)
        if step.logprobs:
            message.logprobs.extend(_logprob(it) for it in step.logprobs)
        if step.finish is not None:
            message.finish_reason = _FINISH[step.finish]
        if self._first or step.finish is not None:
            message.usage.prompt_tokens = self.started.prompt_tokens
            message.usage.cached_tokens = step.cached_tokens
            message.usage.completion_tokens = self._produced[step.index]
        if self._first:
            message.prompt_hash = self.started.prompt_hash
            message.model = self.started.model
            self._first = False
        return message


def _prompt(prompt: pb.Prompt) -> Prompt:
    match prompt.WhichOneof("form"):
        case "conversation":
            return _conversation(prompt.conversation)
        case "text":
            return prompt.text
        case "token_ids":
            return tuple(prompt.token_ids.ids)
        case _:
            raise InvalidInput("prompt: give a conversation, text or token_ids.", param="prompt")


def _conversation(conversation: pb.Conversation) -> Conversation:
    return Conversation(tuple(Turn(turn.role, turn.content) for turn in conversation.messages))


def _sampling(sampling: sampling_pb2.Sampling) -> Sampling:
    given = {name: getattr(sampling, name) for name in _OPTIONAL if sampling.HasField(name)}  # type: ignore[arg-type]
    return Sampling(
        **given,
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        stop=tuple(sampling.stop),
        n=sampling.n or 1,
        logprobs=sampling.logprobs,
        top_logprobs=sampling.top_logprobs,
        json_schema=sampling.json_schema,
        json_object=sampling.json_object and not sampling.json_schema,
        ignore_eos=sampling.ignore_eos,
    )


def _logprob(logprob: TokenLogprob) -> sampling_pb2.TokenLogprob:
    return sampling_pb2.TokenLogprob(
        token=logprob.token,
        token_bytes=logprob.token_bytes,
        logprob=logprob.logprob,
        top=[
            sampling_pb2.TokenAlternative(token=it.token, token_bytes=it.token_bytes, logprob=it.logprob)
            for it in logprob.top
        ],
    )


def _model(model: Model) -> model_pb2.Model:
    created = Timestamp()
    created.FromDatetime(model.created_at)
    message = model_pb2.Model(
        name=model.name,
        created_at=created,
        parent=model.parent,
        context_window=model.context_window,
        engine=model.engine,
        base_digest=model.base_digest,
        template_hash=model.template_hash,
        alias=model.alias,
    )
    if model.limits is not None:
        message.max_adapter_rank = model.limits.max_rank
        message.adapter_modules.extend(sorted(model.limits.modules))
        message.max_adapter_bytes = model.limits.max_bytes
    return message
