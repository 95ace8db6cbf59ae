"""FileBatchService."""

from brain.ingestion.v1 import batch_pb2
from services.chassis.auth import current_caller
from services.ingestion.api.wire import batch_message, chunking_of
from services.ingestion.usecases.adding import Adding, WishedFile
from services.ingestion.usecases.documents import Documents

__all__ = ["FileBatchServicer"]


class FileBatchServicer:
    """Batches of files over gRPC."""

    def __init__(self, *, adding: Adding, documents: Documents) -> None:
        self._adding = adding
        self._documents = documents

    async def CreateFileBatch(
        self, request: batch_pb2.CreateFileBatchRequest, context: object
    ) -> batch_pb2.CreateFileBatchResponse:
        """Add files to a collection as one batch."""
        files = [
            WishedFile(
                file_id=entry.file_id,
                attributes_json=entry.attributes_json,
                chunking=chunking_of(entry.chunking) if entry.HasField("chunking") else None,
            )
            for entry in request.files
        ]
        batch = await self._adding.add_batch(current_caller(), request.collection_id, files)
        return batch_pb2.CreateFileBatchResponse(batch=batch_message(batch))

    async def GetFileBatch(
        self, request: batch_pb2.GetFileBatchRequest, context: object
    ) -> batch_pb2.GetFileBatchResponse:
        """Return a batch with its counts."""
        batch = await self._documents.batch(current_caller(), request.collection_id, request.batch_id)
        return batch_pb2.GetFileBatchResponse(batch=batch_message(batch))

    async def CancelFileBatch(
        self, request: batch_pb2.CancelFileBatchRequest, context: object
    ) -> batch_pb2.CancelFileBatchResponse:
        """Cancel what is not searchable yet."""
        batch = await self._documents.cancel_batch(current_caller(), request.collection_id, request.batch_id)
        return batch_pb2.CancelFileBatchResponse(batch=batch_message(batch))
