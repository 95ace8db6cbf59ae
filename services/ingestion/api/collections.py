"""CollectionService."""

from brain.ingestion.v1 import collection_pb2
from services.chassis.auth import current_caller
from services.ingestion.api.wire import chunking_of, collection_message, page_in
from services.ingestion.usecases.collections import CollectionChange, Collections

__all__ = ["CollectionServicer"]


class CollectionServicer:
    """Collections over gRPC."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def CreateCollection(
        self, request: collection_pb2.CreateCollectionRequest, context: object
    ) -> collection_pb2.CreateCollectionResponse:
        """Make an empty collection."""
        wanted = CollectionChange(
            name=request.name,
            metadata=dict(request.metadata),
            default_principals=tuple(request.default_principals),
            expires_after_days=request.expires_after_days,
        )
        made = await self._collections.create(current_caller(), wanted, chunking_of(request.chunking))
        return collection_pb2.CreateCollectionResponse(collection=collection_message(made))

    async def GetCollection(
        self, request: collection_pb2.GetCollectionRequest, context: object
    ) -> collection_pb2.GetCollectionResponse:
        """Return one collection with its counts."""
        found = await self._collections.get(current_caller(), request.collection_id)
        return collection_pb2.GetCollectionResponse(collection=collection_message(found))

    async def ListCollections(
        self, request: collection_pb2.ListCollectionsRequest, context: object
    ) -> collection_pb2.ListCollectionsResponse:
        """Return a page of the tenant's collections."""
        page = page_in(request, largest=100)
        found, has_more = await self._collections.list(current_caller(), page, name=request.name)
        return collection_pb2.ListCollectionsResponse(
            collections=[collection_message(entry) for entry in found], has_more=has_more
        )

    async def UpdateCollection(
        self, request: collection_pb2.UpdateCollectionRequest, context: object
    ) -> collection_pb2.UpdateCollectionResponse:
        """Change name, metadata, expiry or default access."""
        wanted = CollectionChange(
            name=request.name if request.HasField("name") else None,
            metadata=dict(request.metadata) if request.replace_metadata else None,
            default_principals=tuple(request.default_principals) if request.replace_default_principals else None,
            expires_after_days=request.expires_after_days if request.HasField("expires_after_days") else None,
        )
        changed = await self._collections.update(current_caller(), request.collection_id, wanted)
        return collection_pb2.UpdateCollectionResponse(collection=collection_message(changed))

    async def DeleteCollection(
        self, request: collection_pb2.DeleteCollectionRequest, context: object
    ) -> collection_pb2.DeleteCollectionResponse:
        """Delete a collection with all its documents."""
        gone = await self._collections.delete(current_caller(), request.collection_id)
        return collection_pb2.DeleteCollectionResponse(
            collection_id=request.collection_id, document_count=len(gone), document_ids=gone
        )
