"""The retrieval room over gRPC."""

from collections.abc import Sequence
from typing import Final

import grpc

from brain.retrieval.v1 import embedding_pb2, rerank_pb2
from brain.retrieval.v1 import search_pb2 as pb
from brain.retrieval.v1.embedding_pb2_grpc import EmbeddingServiceStub
from brain.retrieval.v1.rerank_pb2_grpc import RerankServiceStub
from brain.retrieval.v1.search_pb2_grpc import SearchServiceStub
from gateway.backends.wire import READ_TIMEOUT_S, WORK_TIMEOUT_S, locator
from gateway.domain.finding import Explanation, Outcome, Passage, Ranked, Ranking, ScoreParts, SearchSpec, Vectors
from services.chassis.rpc.client import remote

__all__ = ["IDEMPOTENT", "GrpcRetrieval"]

_ROOM = "retrieval"
IDEMPOTENT = (
    "brain.retrieval.v1.SearchService/Search",
    "brain.retrieval.v1.SearchService/Explain",
    "brain.retrieval.v1.RerankService/Rerank",
    "brain.retrieval.v1.EmbeddingService/Embed",
)
_FUSION: Final = {
    "": pb.FUSION_UNSPECIFIED,
    "relative_score": pb.FUSION_RELATIVE_SCORE,
    "reciprocal_rank": pb.FUSION_RECIPROCAL_RANK,
}
_OUTCOME: Final[dict[int, Outcome]] = {
    pb.OUTCOME_UNSPECIFIED: "unspecified",
    pb.OUTCOME_FOUND: "found",
    pb.OUTCOME_NOT_INDEXED: "not_indexed",
    pb.OUTCOME_OTHER_COLLECTION: "other_collection",
    pb.OUTCOME_FILTERED_OUT: "filtered_out",
    pb.OUTCOME_BELOW_THRESHOLD: "below_threshold",
    pb.OUTCOME_RANKED_TOO_LOW: "ranked_too_low",
    pb.OUTCOME_NO_MATCH: "no_match",
}


class GrpcRetrieval:
    """Searches, explanations, orders and vectors.

    Args:
        channel: To the retrieval room.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._search = SearchServiceStub(channel)
        self._rerank = RerankServiceStub(channel)
        self._embed = EmbeddingServiceStub(channel)

    async def search(self, spec: SearchSpec, *, explain: bool = False) -> Sequence[Passage]:
        """Return the best passages, best first."""
        request = pb.SearchRequest(spec=_spec(spec), explain=explain)
        with remote(_ROOM, "Search") as metadata:
            answer = await self._search.Search(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return [_passage(passage) for passage in answer.passages]

    async def explain(self, spec: SearchSpec, document_id: str) -> Explanation:
        """Say what becomes of one document in a search."""
        request = pb.ExplainRequest(spec=_spec(spec), document_id=document_id)
        with remote(_ROOM, "Explain") as metadata:
            answer = await self._search.Explain(request, timeout=READ_TIMEOUT_S, metadata=metadata)
        return Explanation(
            outcome=_OUTCOME[answer.outcome],
            rank=answer.rank,
            best=_passage(answer.best) if answer.HasField("best") else None,
            cutoff_score=answer.cutoff_score,
            missing_terms=tuple(answer.missing_terms),
            active_version=answer.active_version,
        )

    async def rerank(self, query: str, texts: Sequence[str], *, top_n: int = 0, ranker: str = "") -> Ranking:
        """Order texts by relevance to a query."""
        request = rerank_pb2.RerankRequest(query=query, texts=texts, top_n=top_n, ranker=ranker)
        with remote(_ROOM, "Rerank") as metadata:
            answer = await self._rerank.Rerank(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return Ranking(tuple(Ranked(result.index, result.score) for result in answer.results), answer.ranker)

    async def embed(self, texts: Sequence[str], *, queries: bool = False) -> Vectors:
        """Turn texts into unit vectors."""
        request = embedding_pb2.EmbedRequest(texts=texts, queries=queries)
        with remote(_ROOM, "Embed") as metadata:
            answer = await self._embed.Embed(request, timeout=WORK_TIMEOUT_S, metadata=metadata)
        return Vectors(answer.vectors, answer.dimension, answer.model, answer.token_count)


def _spec(spec: SearchSpec) -> pb.SearchSpec:
    message = pb.SearchSpec(
        queries=spec.queries,
        collection_ids=spec.collection_ids,
        filter_json=spec.filter_json,
        top_k=spec.top_k,
        fusion=_FUSION[spec.fusion],
        ranker=spec.ranker,
    )
    if spec.alpha is not None:
        message.alpha = spec.alpha
    if spec.score_threshold is not None:
        message.score_threshold = spec.score_threshold
    if spec.mmr_lambda is not None:
        message.mmr_lambda = spec.mmr_lambda
    return message


def _passage(passage: pb.Passage) -> Passage:
    return Passage(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        version=passage.version,
        collection_id=passage.collection_id,
        file_id=passage.file_id,
        filename=passage.filename,
        title=passage.title,
        text=passage.text,
        start=passage.start,
        end=passage.end,
        locator=locator(passage.locator),
        score=passage.score,
        parts=_parts(passage.parts) if passage.HasField("parts") else None,
        attributes_json=passage.attributes_json,
        similarity=passage.similarity,
    )


def _parts(parts: pb.ScoreParts) -> ScoreParts:
    return ScoreParts(
        dense=parts.dense if parts.HasField("dense") else None,
        bm25=parts.bm25 if parts.HasField("bm25") else None,
        dense_rank=parts.dense_rank,
        bm25_rank=parts.bm25_rank,
        fused=parts.fused,
        reranked=parts.reranked if parts.HasField("reranked") else None,
        query_index=parts.query_index,
    )
