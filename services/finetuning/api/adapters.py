"""AdapterService."""

import json
from typing import Final

from brain.finetuning.v1 import adapter_pb2
from services.chassis.auth import current_caller
from services.finetuning.api.wire import moment, page_of
from services.finetuning.domain.adapters import AdapterStatus, Withdrawal
from services.finetuning.usecases.importing import ImportAdapter
from services.finetuning.usecases.registry import AdapterView, Registry
from services.finetuning.usecases.retraining import Retrain
from services.finetuning.usecases.withdrawing import Withdraw

__all__ = ["AdapterServicer"]

_STATES: Final = {
    AdapterStatus.PUBLISHED: adapter_pb2.ADAPTER_STATE_PUBLISHED,
    AdapterStatus.BLOCKED: adapter_pb2.ADAPTER_STATE_BLOCKED,
    AdapterStatus.DELETED: adapter_pb2.ADAPTER_STATE_DELETED,
}


class AdapterServicer:
    """The registry over gRPC."""

    def __init__(
        self, *, registry: Registry, withdraw: Withdraw, retrain: Retrain, import_adapter: ImportAdapter
    ) -> None:
        self._registry = registry
        self._withdraw = withdraw
        self._retrain = retrain
        self._import = import_adapter

    async def ListAdapters(
        self, request: adapter_pb2.ListAdaptersRequest, context: object
    ) -> adapter_pb2.ListAdaptersResponse:
        """Return a page of adapters."""
        found, has_more = await self._registry.page(current_caller(), page_of(request), document_id=request.document_id)
        return adapter_pb2.ListAdaptersResponse(adapters=[_adapter(one) for one in found], has_more=has_more)

    async def GetAdapter(
        self, request: adapter_pb2.GetAdapterRequest, context: object
    ) -> adapter_pb2.GetAdapterResponse:
        """Return an adapter with its lineage."""
        return adapter_pb2.GetAdapterResponse(
            adapter=_adapter(await self._registry.get(current_caller(), request.name))
        )

    async def ImportAdapter(
        self, request: adapter_pb2.ImportAdapterRequest, context: object
    ) -> adapter_pb2.ImportAdapterResponse:
        """Publish an adapter that was trained elsewhere."""
        made = await self._import(
            current_caller(), file_id=request.file_id, suffix=request.suffix, principals=tuple(request.principals)
        )
        return adapter_pb2.ImportAdapterResponse(adapter=_adapter(AdapterView(made)))

    async def BlockAdapter(
        self, request: adapter_pb2.BlockAdapterRequest, context: object
    ) -> adapter_pb2.BlockAdapterResponse:
        """Refuse an adapter to everybody."""
        done = await self._registry.block(current_caller(), request.name, request.reason)
        return adapter_pb2.BlockAdapterResponse(adapter=_adapter(done))

    async def AcceptAdapter(
        self, request: adapter_pb2.AcceptAdapterRequest, context: object
    ) -> adapter_pb2.AcceptAdapterResponse:
        """Serve a blocked adapter again."""
        done = await self._registry.accept(current_caller(), request.name, request.reason)
        return adapter_pb2.AcceptAdapterResponse(adapter=_adapter(done))

    async def DeleteAdapter(
        self, request: adapter_pb2.DeleteAdapterRequest, context: object
    ) -> adapter_pb2.DeleteAdapterResponse:
        """Remove an adapter and its files."""
        await self._registry.delete(current_caller(), request.name)
        return adapter_pb2.DeleteAdapterResponse()

    async def WithholdSources(
        self, request: adapter_pb2.WithholdSourcesRequest, context: object
    ) -> adapter_pb2.WithholdSourcesResponse:
        """Refuse what saw documents that go, or that fewer may read."""
        principals = tuple(request.principals)
        withdrawals = [Withdrawal(one, request.deleted, principals) for one in request.document_ids]
        blocked = await self._withdraw.documents(current_caller().tenant, withdrawals)
        return adapter_pb2.WithholdSourcesResponse(blocked=[version.name for version in blocked])

    async def RetrainAdapter(
        self, request: adapter_pb2.RetrainAdapterRequest, context: object
    ) -> adapter_pb2.RetrainAdapterResponse:
        """Train an adapter's chain again on the rows that remain."""
        done = await self._retrain(current_caller(), request.name)
        return adapter_pb2.RetrainAdapterResponse(job_ids=done.job_ids, rows_left_out=done.rows_left_out)


def _adapter(view: AdapterView) -> adapter_pb2.Adapter:
    version = view.version
    return adapter_pb2.Adapter(
        name=version.name,
        suffix=version.suffix,
        version=version.number,
        created_at=moment(version.created_at),
        state=_STATES[version.status],
        reason=version.reason,
        digest=version.weights_digest,
        base_model=version.base_model,
        base_digest=version.base_digest,
        base_licence=version.base_licence,
        template_hash=version.template_hash,
        parent=version.parent,
        job_id=version.job_id,
        step=version.step,
        rank=version.rank,
        size_bytes=version.size_bytes,
        seed=version.seed,
        settings_json=version.settings_json,
        metrics_json=json.dumps(version.metrics) if version.metrics else "",
        principals=version.principals,
        sources=[
            adapter_pb2.AdapterSource(
                kind=source.kind,
                id=source.id,
                version=source.version,
                rows=source.rows,
                withdrawn=source.withdrawn,
            )
            for source in view.sources
        ],
        aliases=view.aliases,
        owner=version.owner.subject,
    )
