"""The index behind retrieval's WithholdService."""

from collections.abc import Sequence

import grpc

from brain.retrieval.v1 import withhold_pb2, withhold_pb2_grpc
from services.chassis.rpc.client import remote

__all__ = ["IDEMPOTENT", "RetrievalIndex"]

# Both set a state; saying it twice changes nothing.
IDEMPOTENT = (
    "brain.retrieval.v1.WithholdService/WithholdDocument",
    "brain.retrieval.v1.WithholdService/RestrictDocument",
)


class RetrievalIndex:
    """Asks retrieval with the token of the request being served.

    Args:
        channel: Channel to the retrieval room.
        timeout_s: How long to wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub = withhold_pb2_grpc.WithholdServiceStub(channel)
        self._timeout_s = timeout_s

    async def withhold(self, document_id: str) -> int:
        """Stop every search from returning the document."""
        request = withhold_pb2.WithholdDocumentRequest(document_id=document_id)
        with remote("retrieval", "WithholdDocument") as metadata:
            answer = await self._stub.WithholdDocument(request, timeout=self._timeout_s, metadata=metadata)
        return int(answer.withheld_count)

    async def restrict(self, document_id: str, principals: Sequence[str], access_revision: int) -> None:
        """Let nobody but `principals` find the document."""
        request = withhold_pb2.RestrictDocumentRequest(
            document_id=document_id, principals=principals, access_revision=access_revision
        )
        with remote("retrieval", "RestrictDocument") as metadata:
            await self._stub.RestrictDocument(request, timeout=self._timeout_s, metadata=metadata)
