"""Access lists from the ingestion room."""

from collections.abc import Mapping, Sequence
from typing import Final

import grpc

from brain.ingestion.v1 import document_pb2, document_pb2_grpc
from services.chassis.auth import Caller
from services.chassis.errors import NotFound
from services.chassis.rpc.client import remote

__all__ = ["RemoteReaders"]

_ROOM: Final = "ingestion"


class RemoteReaders:
    """Asks for one document after the other: jobs come from tens of documents, once.

    Args:
        channel: Channel to the ingestion room; whoever made it closes it.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._documents = document_pb2_grpc.DocumentServiceStub(channel)
        self._timeout_s = timeout_s

    async def readers(self, caller: Caller, document_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the principals who may read each document that is there for the caller."""
        found: dict[str, Sequence[str]] = {}
        for document_id in document_ids:
            try:
                with remote(_ROOM, "GetDocument") as metadata:
                    answer = await self._documents.GetDocument(
                        document_pb2.GetDocumentRequest(document_id=document_id),
                        timeout=self._timeout_s,
                        metadata=metadata,
                    )
            except NotFound:
                continue
            found[document_id] = (f"user:{answer.document.owner}", *answer.document.principals)
        return found
