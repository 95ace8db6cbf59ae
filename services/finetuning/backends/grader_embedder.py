"""The retrieval room's embedder, for graders that compare meaning."""

from collections.abc import Sequence
from typing import Final

import grpc
import numpy as np

from brain.retrieval.v1 import embedding_pb2, embedding_pb2_grpc
from services.chassis.errors import Internal
from services.chassis.rpc.client import remote

__all__ = ["IDEMPOTENT", "RemoteEmbedder"]

# Methods that may be tried again: none of them changes anything.
IDEMPOTENT: Final = ("brain.retrieval.v1.EmbeddingService/Embed",)
_ROOM: Final = "retrieval"


class RemoteEmbedder:
    """Vectors over gRPC, with the token of the request being served.

    Args:
        channel: Channel to the retrieval room; the caller closes it.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._embedding = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        self._timeout_s = timeout_s

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one unit vector for each text.

        Raises:
            Unavailable: The room is away.
            Internal: It answered with vectors of another size.
        """
        with remote(_ROOM, "Embed") as metadata:
            answer = await self._embedding.Embed(
                embedding_pb2.EmbedRequest(texts=texts), timeout=self._timeout_s, metadata=metadata
            )
        vectors = np.frombuffer(answer.vectors, dtype="<f4")
        if vectors.size != len(texts) * answer.dimension:
            raise Internal("The retrieval service returned vectors of another size than asked for.")
        rows: list[list[float]] = vectors.reshape(len(texts), answer.dimension).astype(float).tolist()
        return rows
