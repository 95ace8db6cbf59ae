"""The generation room as the engine that serves adapters."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import grpc

from brain.generation.v1 import generation_pb2, generation_pb2_grpc, model_pb2, model_pb2_grpc
from services.chassis.errors import NotFound
from services.chassis.rpc.client import remote
from services.chassis.rpc.replicas import each_replica, look_up
from services.finetuning.ports.serving import AdapterCheck, EngineLimits

__all__ = ["IDEMPOTENT", "RemoteServing"]

IDEMPOTENT: Final = (
    "brain.generation.v1.ModelService/ListModels",
    "brain.generation.v1.ModelService/CheckAdapter",
    "brain.generation.v1.ModelService/WithholdAdapters",
    "brain.generation.v1.GenerationService/Tokenize",
    "brain.generation.v1.GenerationService/Score",
)
_ROOM: Final = "generation"


class RemoteServing:
    """The engine over gRPC.

    Args:
        channel: Channel to the generation room; whoever made it closes it.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._models = model_pb2_grpc.ModelServiceStub(channel)
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self._timeout_s = timeout_s

    async def limits(self) -> EngineLimits:
        """Return what an adapter must fit."""
        base = (await self._listed())[0]
        return EngineLimits(
            base_model=base.name,
            base_digest=base.base_digest,
            template_hash=base.template_hash,
            max_rank=base.max_adapter_rank,
            modules=tuple(base.adapter_modules),
            max_bytes=base.max_adapter_bytes,
        )

    async def check(self, *, config_key: str, weights_key: str) -> AdapterCheck:
        """Look into an adapter's blobs as loading it would."""
        request = model_pb2.CheckAdapterRequest(config_blob_key=config_key, weights_blob_key=weights_key)
        with remote(_ROOM, "CheckAdapter") as metadata:
            answer = await self._models.CheckAdapter(request, timeout=self._timeout_s, metadata=metadata)
        return AdapterCheck(answer.weights_digest, answer.config_digest, answer.rank, answer.size_bytes)

    async def serves(self, name: str) -> bool:
        """Return whether the engine answers for an adapter."""
        if any(model.name == name for model in await self._listed()):
            return True
        # What is not listed has not been heard of, is being loaded, or is refused: asking for it tells which.
        request = generation_pb2.TokenizeRequest(model=name)
        with suppress(NotFound), remote(_ROOM, "Tokenize") as metadata:
            await self._generation.Tokenize(request, timeout=self._timeout_s, metadata=metadata)
        return False

    async def leads(self, alias: str) -> str:
        """Return where an alias leads, as the engine knows it."""
        return next((str(model.parent) for model in await self._listed() if model.alias and model.name == alias), "")

    async def withhold(self, adapters: Sequence[tuple[str, int]]) -> None:
        """Refuse adapters at once, on every replica; one that cannot be told is a failure, and is told again."""
        request = model_pb2.WithholdAdaptersRequest(
            adapters=[model_pb2.WithheldAdapter(name=name, revision=revision) for name, revision in adapters]
        )
        await look_up(self._channel)
        stubs = [model_pb2_grpc.ModelServiceStub(replica) for replica in each_replica(self._channel)]
        with remote(_ROOM, "WithholdAdapters") as metadata:
            await asyncio.gather(
                *(stub.WithholdAdapters(request, timeout=self._timeout_s, metadata=metadata) for stub in stubs)
            )

    async def _listed(self) -> Sequence[model_pb2.Model]:
        with remote(_ROOM, "ListModels") as metadata:
            answer = await self._models.ListModels(
                model_pb2.ListModelsRequest(), timeout=self._timeout_s, metadata=metadata
            )
        return answer.models
