"""The retrieval room as the library of the chat room."""

from collections.abc import Sequence

import grpc
import numpy as np
from numpy.typing import NDArray

from brain.retrieval.v1 import (
    embedding_pb2,
    embedding_pb2_grpc,
    rerank_pb2,
    rerank_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from brain.types.v1 import locator_pb2
from services.chassis.errors import DeadlineExceeded, Internal, Unavailable
from services.chassis.rpc.client import remote
from services.chat.domain.receipts import ResolvedSpan, Span
from services.chat.domain.turn import Locator, Passage, RetrievalOptions

IDEMPOTENT = (
    "brain.retrieval.v1.SearchService/Search",
    "brain.retrieval.v1.SearchService/ResolveSpans",
    "brain.retrieval.v1.EmbeddingService/Embed",
    "brain.retrieval.v1.RerankService/Rerank",
)
"""Methods that may be tried again: none of them changes anything."""

_ROOM = "retrieval"
# The score that abstention was calibrated with; another one would need other weights.
_LEAST_MET = "minilm-maxsim-weakest"


class RemoteLibrary:
    """Passages, vectors and stored text over gRPC.

    Args:
        channel: Channel to the retrieval room; the caller closes it.
        top_k: Passages sought when the caller does not say.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.aio.Channel, *, top_k: int, timeout_s: float) -> None:
        self._search = search_pb2_grpc.SearchServiceStub(channel)
        self._embedding = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        self._reranking = rerank_pb2_grpc.RerankServiceStub(channel)
        self._top_k = top_k
        self._timeout_s = timeout_s

    async def search(self, queries: Sequence[str], options: RetrievalOptions) -> list[Passage]:
        """Return the best passages; an index that does not answer in time is away (no answer without it)."""
        spec = search_pb2.SearchSpec(
            queries=queries,
            collection_ids=options.collection_ids,
            filter_json=options.filter_json,
            top_k=options.top_k or self._top_k,
            ranker=options.ranker,
        )
        if options.alpha is not None:
            spec.alpha = options.alpha
        if options.score_threshold is not None:
            spec.score_threshold = options.score_threshold
        try:
            with remote(_ROOM, "Search") as metadata:
                answer = await self._search.Search(
                    search_pb2.SearchRequest(spec=spec), timeout=self._timeout_s, metadata=metadata
                )
        except DeadlineExceeded as error:
            raise Unavailable("The retrieval service did not answer in time.", retry_after_s=1.0) from error
        return [_passage(passage) for passage in answer.passages]

    async def embed(self, texts: Sequence[str], *, queries: bool = False) -> NDArray[np.float32]:
        """Return the vectors as rows."""
        with remote(_ROOM, "Embed") as metadata:
            answer = await self._embedding.Embed(
                embedding_pb2.EmbedRequest(texts=texts, queries=queries), timeout=self._timeout_s, metadata=metadata
            )
        vectors = np.frombuffer(answer.vectors, dtype="<f4")
        if vectors.size != len(texts) * answer.dimension:
            raise Internal("The retrieval service returned vectors of another size than asked for.")
        return vectors.reshape(len(texts), answer.dimension)

    async def least_met(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return the scores in the order of the texts."""
        with remote(_ROOM, "Rerank") as metadata:
            answer = await self._reranking.Rerank(
                rerank_pb2.RerankRequest(query=question, texts=texts, ranker=_LEAST_MET),
                timeout=self._timeout_s,
                metadata=metadata,
            )
        scores = {result.index: result.score for result in answer.results}
        return [scores.get(at, 0.0) for at in range(len(texts))]

    async def resolve(self, spans: Sequence[Span]) -> list[ResolvedSpan]:
        """Return the stored text of spans under the caller's rights."""
        if not spans:
            return []
        request = search_pb2.ResolveSpansRequest(
            spans=[
                search_pb2.Span(document_id=span.document_id, version=span.version, start=span.start, end=span.end)
                for span in spans
            ]
        )
        with remote(_ROOM, "ResolveSpans") as metadata:
            answer = await self._search.ResolveSpans(request, timeout=self._timeout_s, metadata=metadata)
        return [
            ResolvedSpan(span.available, span.text, span.filename, span.title, span.current) for span in answer.spans
        ]


def _locator(locator: locator_pb2.Locator) -> Locator:
    return Locator(locator.page_first, locator.page_last, tuple(locator.heading_path), locator.part)


def _passage(passage: search_pb2.Passage) -> Passage:
    return Passage(
        document_id=passage.document_id,
        version=passage.version,
        start=passage.start,
        end=passage.end,
        text=passage.text,
        title=passage.title,
        filename=passage.filename,
        collection_id=passage.collection_id,
        file_id=passage.file_id,
        locator=_locator(passage.locator),
        score=passage.score,
        similarity=passage.similarity,
    )
