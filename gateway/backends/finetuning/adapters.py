"""The registry of adapters, and promotions, over gRPC."""

from collections.abc import Sequence
from typing import Final

import grpc

from brain.finetuning.v1 import adapter_pb2, promotion_pb2
from brain.finetuning.v1.adapter_pb2_grpc import AdapterServiceStub
from brain.finetuning.v1.promotion_pb2_grpc import PromotionServiceStub
from gateway.backends.finetuning import words
from gateway.backends.wire import READ_TIMEOUT_S, WORK_TIMEOUT_S
from gateway.domain.adapters import Adapter, Alias, NewPromotion, Promotion, Retraining
from gateway.domain.keeping import Page, Paging
from services.chassis.rpc.client import remote

__all__ = ["GrpcAdapters", "GrpcPromotions"]

_ROOM: Final = "finetuning"
# Somebody waits for a deletion, which goes on without the answer; the event that follows does the same.
_WITHHOLD_TIMEOUT_S: Final = 10.0


class GrpcAdapters:
    """Adapters and what they learned from.

    Args:
        channel: To the finetuning room.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = AdapterServiceStub(channel)

    async def list(self, paging: Paging, *, document_id: str = "") -> Page[Adapter]:
        """Return the adapters that the caller may know of, newest first."""
        request = adapter_pb2.ListAdaptersRequest(limit=paging.limit, after=paging.after, document_id=document_id)
        with remote(_ROOM, "ListAdapters") as metadata:
            answer = await self._stub.ListAdapters(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(words.adapter(one) for one in answer.adapters), answer.has_more)

    async def get(self, name: str) -> Adapter:
        """Return an adapter with its sources."""
        request = adapter_pb2.GetAdapterRequest(name=name)
        with remote(_ROOM, "GetAdapter") as metadata:
            answer = await self._stub.GetAdapter(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.adapter(answer.adapter)

    async def import_archive(self, file_id: str, *, suffix: str, principals: Sequence[str]) -> Adapter:
        """Publish an adapter that was trained elsewhere."""
        request = adapter_pb2.ImportAdapterRequest(file_id=file_id, suffix=suffix, principals=principals)
        with remote(_ROOM, "ImportAdapter") as metadata:
            answer = await self._stub.ImportAdapter(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return words.adapter(answer.adapter)

    async def block(self, name: str, reason: str) -> Adapter:
        """Refuse an adapter to everybody, at once."""
        request = adapter_pb2.BlockAdapterRequest(name=name, reason=reason)
        with remote(_ROOM, "BlockAdapter") as metadata:
            answer = await self._stub.BlockAdapter(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.adapter(answer.adapter)

    async def accept(self, name: str, reason: str) -> Adapter:
        """Serve a blocked adapter again."""
        request = adapter_pb2.AcceptAdapterRequest(name=name, reason=reason)
        with remote(_ROOM, "AcceptAdapter") as metadata:
            answer = await self._stub.AcceptAdapter(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.adapter(answer.adapter)

    async def delete(self, name: str) -> None:
        """Remove an adapter and its files."""
        request = adapter_pb2.DeleteAdapterRequest(name=name)
        with remote(_ROOM, "DeleteAdapter") as metadata:
            await self._stub.DeleteAdapter(request, timeout=WORK_TIMEOUT_S, metadata=metadata)

    async def withhold(self, document_ids: Sequence[str], *, principals: Sequence[str] | None) -> Sequence[str]:
        """Block the adapters that saw documents which are going, or which fewer may read."""
        request = adapter_pb2.WithholdSourcesRequest(
            document_ids=document_ids, principals=principals or (), deleted=principals is None
        )
        with remote(_ROOM, "WithholdSources") as metadata:
            answer = await self._stub.WithholdSources(request, timeout=_WITHHOLD_TIMEOUT_S, metadata=metadata)
        return list(answer.blocked)

    async def retrain(self, name: str) -> Retraining:
        """Train an adapter's whole chain again on the rows that remain."""
        request = adapter_pb2.RetrainAdapterRequest(name=name)
        with remote(_ROOM, "RetrainAdapter") as metadata:
            answer = await self._stub.RetrainAdapter(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return Retraining(tuple(answer.job_ids), answer.rows_left_out)


class GrpcPromotions:
    """Promotions and aliases.

    Args:
        channel: To the finetuning room.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = PromotionServiceStub(channel)

    async def promote(self, new: NewPromotion) -> Promotion:
        """Open a promotion."""
        request = promotion_pb2.PromoteRequest(
            alias=new.alias,
            candidate=new.candidate,
            canary_weight=new.canary_weight,
            min_judgements=new.min_judgements,
            skip_gate_reason=new.skip_gate_reason,
        )
        with remote(_ROOM, "Promote") as metadata:
            answer = await self._stub.Promote(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.promotion(answer.promotion)

    async def get(self, promotion_id: str) -> Promotion:
        """Return a promotion with its history."""
        request = promotion_pb2.GetPromotionRequest(promotion_id=promotion_id)
        with remote(_ROOM, "GetPromotion") as metadata:
            answer = await self._stub.GetPromotion(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.promotion(answer.promotion)

    async def list(self, paging: Paging, *, alias: str = "") -> Page[Promotion]:
        """Return the tenant's promotions, newest first."""
        request = promotion_pb2.ListPromotionsRequest(alias=alias, limit=paging.limit, after=paging.after)
        with remote(_ROOM, "ListPromotions") as metadata:
            answer = await self._stub.ListPromotions(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Page(tuple(words.promotion(one) for one in answer.promotions), answer.has_more)

    async def rollback(self, alias: str, reason: str) -> Promotion:
        """End an open promotion, or move the alias back to where it led before."""
        request = promotion_pb2.RollbackRequest(alias=alias, reason=reason)
        with remote(_ROOM, "Rollback") as metadata:
            answer = await self._stub.Rollback(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return words.promotion(answer.promotion)

    async def aliases(self) -> Sequence[Alias]:
        """Return the tenant's aliases, by name."""
        with remote(_ROOM, "ListAliases") as metadata:
            answer = await self._stub.ListAliases(
                promotion_pb2.ListAliasesRequest(), timeout=READ_TIMEOUT_S, metadata=metadata
            )
        return [words.alias(one) for one in answer.aliases]
