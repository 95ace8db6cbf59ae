"""How callers reach the room: wire to domain and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from brain.retrieval.v1 import embedding_pb2, rerank_pb2, search_pb2, withhold_pb2
from brain.types.v1 import locator_pb2
from services.chassis.auth import current_caller
from services.chassis.errors import InvalidInput
from services.retrieval.domain import (
    Fusion,
    Locator,
    Outcome,
    Passage,
    Reader,
    ScoreParts,
    SearchSpec,
    Span,
    parse_filter,
)
from services.retrieval.usecases import (
    EmbedTexts,
    ExplainDocument,
    RankTexts,
    ResolveSpans,
    RestrictDocument,
    Search,
    WithholdDocument,
)

__all__ = ["Defaults", "EmbeddingServicer", "RerankServicer", "SearchServicer", "WithholdServicer"]

# What the contracts promise, and what keeps one call from costing more than many.
_MAX_TEXTS: Final = 2_048
_MAX_RERANK_TEXTS: Final = 1_000
_MAX_QUERIES: Final = 16
_MAX_QUERY_CHARACTERS: Final = 16_000
_MAX_TEXT_CHARACTERS: Final = 1_000_000
_MAX_COLLECTIONS: Final = 100
_MAX_TOP_K: Final = 50
_MAX_SPANS: Final = 1_000
_MAX_PRINCIPALS: Final = 10_000

_FUSIONS: Final = {
    search_pb2.FUSION_RELATIVE_SCORE: Fusion.RELATIVE_SCORE,
    search_pb2.FUSION_RECIPROCAL_RANK: Fusion.RECIPROCAL_RANK,
}
_OUTCOMES: Final = {outcome: search_pb2.Outcome.Value(f"OUTCOME_{outcome.name}") for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a search takes where it does not say."""

    alpha: float
    fusion: Fusion
    ranker: str


class SearchServicer:
    """Serves `SearchService`.

    Args:
        search: Finds passages.
        explain: Says why not.
        resolve: Reads spans.
        defaults: What a search takes where it does not say.
    """

    def __init__(self, *, search: Search, explain: ExplainDocument, resolve: ResolveSpans, defaults: Defaults) -> None:
        self._search = search
        self._explain = explain
        self._resolve = resolve
        self._defaults = defaults

    async def Search(self, request: search_pb2.SearchRequest, _context: Any) -> search_pb2.SearchResponse:
        """Return the best passages."""
        passages = await self._search.run(_reader(), self._spec(request.spec))
        return search_pb2.SearchResponse(passages=[_passage(item, explain=request.explain) for item in passages])

    async def Explain(self, request: search_pb2.ExplainRequest, _context: Any) -> search_pb2.ExplainResponse:
        """Say what became of a document."""
        if not request.document_id:
            raise InvalidInput("document_id: must name a document.", param="document_id")
        found = await self._explain.run(_reader(), self._spec(request.spec), request.document_id)
        return search_pb2.ExplainResponse(
            outcome=_OUTCOMES[found.outcome],
            rank=found.rank,
            best=None if found.best is None else _passage(found.best, explain=True),
            cutoff_score=found.cutoff_score,
            missing_terms=found.missing_terms,
            active_version=found.active_version,
        )

    async def ResolveSpans(
        self, request: search_pb2.ResolveSpansRequest, _context: Any
    ) -> search_pb2.ResolveSpansResponse:
        """Return the text of spans."""
        _check_count("spans", len(request.spans), 0, _MAX_SPANS)
        spans = [Span(span.document_id, span.version, span.start, span.end) for span in request.spans]
        return search_pb2.ResolveSpansResponse(
            spans=[
                search_pb2.ResolvedSpan(
                    available=span.available,
                    text=span.text,
                    filename=span.filename,
                    title=span.title,
                    current=span.current,
                )
                for span in await self._resolve.run(_reader(), spans)
            ]
        )

    def _spec(self, spec: search_pb2.SearchSpec) -> SearchSpec:
        queries = tuple(query.strip() for query in spec.queries)
        _check_count("queries", len(queries), 1, _MAX_QUERIES)
        _check_texts("queries", queries, _MAX_QUERY_CHARACTERS)
        _check_count("collection_ids", len(spec.collection_ids), 1, _MAX_COLLECTIONS)
        if not 1 <= spec.top_k <= _MAX_TOP_K:
            raise InvalidInput(f"top_k: {spec.top_k} is not from 1 to {_MAX_TOP_K}.", param="top_k")
        return SearchSpec(
            queries=queries,
            collection_ids=tuple(dict.fromkeys(spec.collection_ids)),
            top_k=spec.top_k,
            alpha=self._defaults.alpha if (alpha := _unit(spec, "alpha")) is None else alpha,
            fusion=self._fusion(spec.fusion),
            ranker=spec.ranker or self._defaults.ranker,
            filter=parse_filter(spec.filter_json),
            score_threshold=_unit(spec, "score_threshold"),
            mmr_lambda=_unit(spec, "mmr_lambda"),
        )

    def _fusion(self, number: int) -> Fusion:
        if number == search_pb2.FUSION_UNSPECIFIED:
            return self._defaults.fusion
        if number not in _FUSIONS:
            allowed = ", ".join(search_pb2.Fusion.Name(known) for known in _FUSIONS)
            raise InvalidInput(f"fusion: {number} is not one of {allowed}.", param="fusion")
        return _FUSIONS[search_pb2.Fusion.ValueType(number)]


class EmbeddingServicer:
    """Serves `EmbeddingService`.

    Args:
        embed: Turns texts into vectors.
    """

    def __init__(self, *, embed: EmbedTexts) -> None:
        self._embed = embed

    async def Embed(self, request: embedding_pb2.EmbedRequest, _context: Any) -> embedding_pb2.EmbedResponse:
        """Return one vector for each text."""
        _check_count("texts", len(request.texts), 1, _MAX_TEXTS)
        _check_texts("texts", request.texts, _MAX_TEXT_CHARACTERS)
        model, found = await self._embed.run(list(request.texts), queries=request.queries)
        return embedding_pb2.EmbedResponse(
            vectors=found.vectors.astype("<f4").tobytes(),
            dimension=found.vectors.shape[1],
            model=model,
            token_count=found.token_count,
        )


class RerankServicer:
    """Serves `RerankService`.

    Args:
        rank: Orders texts.
    """

    def __init__(self, *, rank: RankTexts) -> None:
        self._rank = rank

    async def Rerank(self, request: rerank_pb2.RerankRequest, _context: Any) -> rerank_pb2.RerankResponse:
        """Order the texts."""
        _check_texts("query", [request.query], _MAX_QUERY_CHARACTERS)
        _check_count("texts", len(request.texts), 1, _MAX_RERANK_TEXTS)
        name, results = await self._rank.run(
            request.query, list(request.texts), top_n=request.top_n, ranker=request.ranker
        )
        return rerank_pb2.RerankResponse(
            ranker=name, results=[rerank_pb2.RerankResult(index=index, score=score) for index, score in results]
        )


class WithholdServicer:
    """Serves `WithholdService`.

    Args:
        withhold: Takes a document out of answers.
        restrict: Narrows its readers.
    """

    def __init__(self, *, withhold: WithholdDocument, restrict: RestrictDocument) -> None:
        self._withhold = withhold
        self._restrict = restrict

    async def WithholdDocument(
        self, request: withhold_pb2.WithholdDocumentRequest, _context: Any
    ) -> withhold_pb2.WithholdDocumentResponse:
        """Withhold a document of the caller's tenant."""
        _check_texts("document_id", [request.document_id], _MAX_QUERY_CHARACTERS)
        count = await self._withhold.run(current_caller().tenant, request.document_id)
        return withhold_pb2.WithholdDocumentResponse(withheld_count=count)

    async def RestrictDocument(
        self, request: withhold_pb2.RestrictDocumentRequest, _context: Any
    ) -> withhold_pb2.RestrictDocumentResponse:
        """Restrict a document of the caller's tenant."""
        _check_texts("document_id", [request.document_id], _MAX_QUERY_CHARACTERS)
        _check_count("principals", len(request.principals), 0, _MAX_PRINCIPALS)
        revision = await self._restrict.run(
            current_caller().tenant, request.document_id, list(request.principals), request.access_revision
        )
        return withhold_pb2.RestrictDocumentResponse(access_revision=revision)


def _reader() -> Reader:
    caller = current_caller()
    return Reader(caller.tenant, caller.principals, caller.is_administrator)


def _check_count(name: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        raise InvalidInput(f"{name}: {count} given; {least} to {most} are allowed.", param=name)


def _check_texts(name: str, texts: Sequence[str], most: int) -> None:
    for text in texts:
        if not text.strip():
            raise InvalidInput(f"{name}: must not be empty.", param=name)
        if len(text) > most:
            raise InvalidInput(f"{name}: {len(text)} characters; at most {most} are allowed.", param=name)


def _unit(spec: search_pb2.SearchSpec, name: Any) -> float | None:
    """Return an optional field that lies within 0 and 1, or None when it is not set."""
    if not spec.HasField(name):
        return None
    value = float(getattr(spec, name))
    if not 0.0 <= value <= 1.0:
        raise InvalidInput(f"{name}: {value} is not from 0 to 1.", param=name)
    return value


def _locator(locator: Locator) -> locator_pb2.Locator:
    return locator_pb2.Locator(
        page_first=locator.page_first,
        page_last=locator.page_last,
        heading_path=locator.heading_path,
        part=locator.part,
    )


def _parts(parts: ScoreParts) -> search_pb2.ScoreParts:
    return search_pb2.ScoreParts(
        dense=parts.dense,
        bm25=parts.bm25,
        dense_rank=parts.dense_rank,
        bm25_rank=parts.bm25_rank,
        fused=parts.fused,
        reranked=parts.reranked,
        query_index=parts.query_index,
    )


def _passage(passage: Passage, *, explain: bool) -> search_pb2.Passage:
    return search_pb2.Passage(
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
        locator=_locator(passage.locator),
        score=passage.score,
        parts=_parts(passage.parts) if explain else None,
        attributes_json=orjson.dumps(dict(passage.attributes)).decode(),
        similarity=passage.similarity,
    )
