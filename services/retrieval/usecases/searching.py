"""Search: by meaning and by words at once, joined, checked, reranked, and kept from repeating itself."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import InvalidInput
from services.chassis.telemetry import tracer
from services.retrieval.domain import (
    Analyser,
    Candidate,
    DocumentState,
    Fusion,
    Hit,
    Passage,
    Reader,
    Scope,
    ScoreParts,
    SearchSpec,
    diversify,
    join_rankings,
)
from services.retrieval.ports import Register, Reranker
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases.gathering import Admitted, Gather
from services.retrieval.usecases.serving import LiveIndexes, Served

__all__ = ["NO_RANKER", "Ranked", "Search", "choose_ranker"]

NO_RANKER: Final = "none"
# Diversity is chosen among this many times the passages wanted.
_DIVERSE_DEPTH: Final = 4
_Found = TypeVar("_Found")
_tracer = tracer("brain.retrieval")


@dataclass(frozen=True, slots=True)
class Ranked:
    """All candidates, best first, with the states of their documents."""

    candidates: tuple[Candidate, ...]
    states: Mapping[str, DocumentState]


def choose_ranker(rerankers: Mapping[str, Reranker], name: str) -> Reranker | None:
    """Return the reranker of that name; None for `none`.

    Raises:
        InvalidInput: There is none of that name.
    """
    if name == NO_RANKER:
        return None
    if name not in rerankers:
        allowed = ", ".join((NO_RANKER, *sorted(rerankers)))
        raise InvalidInput(f"ranker: {name!r} is not one of {allowed}.", param="ranker")
    return rerankers[name]


class Search:
    """Finds passages under the reader's rights.

    Args:
        indexes: Chunks, and what turns queries into vectors like theirs.
        register: Decides which hits the reader may see.
        analyser: Writes the queries as the index knows words.
        rerankers: By name.
        metrics: Where results and durations are counted.
        candidates: Hits taken from each ranking.
        rerank_candidates: Best candidates that a reranker sees.
    """

    def __init__(
        self,
        *,
        indexes: LiveIndexes,
        register: Register,
        analyser: Analyser,
        rerankers: Mapping[str, Reranker],
        metrics: Metrics,
        candidates: int,
        rerank_candidates: int,
    ) -> None:
        self._indexes = indexes
        self._analyser = analyser
        self._rerankers = rerankers
        self._metrics = metrics
        self._candidates = candidates
        self._rerank_candidates = rerank_candidates
        self._gather = Gather(register=register, metrics=metrics)

    async def run(self, reader: Reader, spec: SearchSpec) -> list[Passage]:
        """Return at most `top_k` passages, best first.

        Raises:
            InvalidInput: The reranker is not known.
            Overloaded: Too many texts wait for the embedder.
            Unavailable: The index, the database or the reranker is away.
        """
        return await self._indexes.on_live(lambda served: self.on(served, reader, spec))

    async def on(self, served: Served, reader: Reader, spec: SearchSpec) -> list[Passage]:
        """Do what `run` does on one index.

        Raises:
            IndexMoved: It is not live any more.
        """
        with _tracer.start_as_current_span(
            "retrieval.search", attributes={"brain.retrieval.queries": len(spec.queries)}
        ) as span:
            ranked = await self.rank(served, reader, spec, depth=max(self._candidates, spec.top_k))
            passages = self.cut(ranked, spec)
            span.set_attribute("brain.retrieval.results", len(passages))
        self._metrics.results.observe(len(passages))
        return passages

    async def rank(self, served: Served, reader: Reader, spec: SearchSpec, *, depth: int) -> Ranked:
        """Return all candidates, taken `depth` deep from each ranking, best first.

        Raises:
            IndexMoved: The index is not live any more.
        """
        reranker = choose_ranker(self._rerankers, spec.ranker)
        with _tracer.start_as_current_span("retrieval.embed"), self._metrics.stage.labels(stage="embed").time():
            vectors = (await served.embedder.embed(spec.queries, queries=True)).vectors
        scope = Scope(
            tenant=reader.tenant,
            collection_ids=spec.collection_ids,
            principals=None if reader.is_administrator else reader.principals,
            filter=spec.filter,
        )
        with _tracer.start_as_current_span("retrieval.rank"), self._metrics.stage.labels(stage="rank").time():
            pairs = await _all(
                *(
                    self._both(served, reader, spec, scope, query, vectors[at], depth)
                    for at, query in enumerate(spec.queries)
                )
            )
        states: dict[str, DocumentState] = {}
        for pair in pairs:
            for admitted in pair:
                for document, state in admitted.states.items():
                    known = states.get(document)
                    if known is None or state.active_version >= known.active_version:
                        states[document] = state
        candidates = _join(pairs, spec, vectors, states)
        if reranker is not None and candidates:
            with _tracer.start_as_current_span("retrieval.rerank"), self._metrics.stage.labels(stage="rerank").time():
                candidates = await self._rerank(reranker, spec, candidates)
        return Ranked(tuple(candidates), states)

    def cut(self, ranked: Ranked, spec: SearchSpec) -> list[Passage]:
        """Return the passages that threshold, diversity and `top_k` leave."""
        good = [
            candidate
            for candidate in ranked.candidates
            if spec.score_threshold is None or candidate.score >= spec.score_threshold
        ]
        if spec.mmr_lambda is not None:
            good = good[: spec.top_k * _DIVERSE_DEPTH]
            order = diversify(
                [candidate.score for candidate in good],
                [candidate.hit.vector for candidate in good],
                top_k=spec.top_k,
                weight=spec.mmr_lambda,
            )
            good = [good[at] for at in order]
        return [as_passage(candidate, ranked.states) for candidate in good[: spec.top_k]]

    async def _both(
        self,
        served: Served,
        reader: Reader,
        spec: SearchSpec,
        scope: Scope,
        query: str,
        vector: NDArray[np.float32],
        depth: int,
    ) -> tuple[Admitted, Admitted]:
        """Ask both rankings at once; one that has no weight or no words is not asked."""
        words = self._analyser.search_text(query)

        async def dense(limit: int) -> list[Hit]:
            return await served.index.dense(scope, vector, limit=limit) if spec.alpha > 0 else []

        async def keyword(limit: int) -> list[Hit]:
            return await served.index.keyword(scope, words, limit=limit) if words and spec.alpha < 1 else []

        near, worded = await _all(
            self._gather.run(reader, spec.collection_ids, spec.filter, dense, depth, index=served.name),
            self._gather.run(reader, spec.collection_ids, spec.filter, keyword, depth, index=served.name),
        )
        return near, worded

    async def _rerank(self, reranker: Reranker, spec: SearchSpec, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Order the best candidates anew, each against the query that found it; the others are let go."""
        chosen = candidates[: max(self._rerank_candidates, spec.top_k)]
        scores: dict[int, float] = {}
        for at, query in enumerate(spec.queries):
            places = [place for place, candidate in enumerate(chosen) if candidate.parts.query_index == at]
            if places:
                found = await reranker.score(query, [chosen[place].hit.text for place in places])
                scores.update(zip(places, found, strict=True))
        rescored = [
            replace(candidate, score=scores[place], parts=replace(candidate.parts, reranked=scores[place]))
            for place, candidate in enumerate(chosen)
        ]
        return sorted(rescored, key=_order)


async def _all(*works: Awaitable[_Found]) -> list[_Found]:
    """Return what each work comes to; where one fails, all have ended before that is raised."""
    found = await asyncio.gather(*works, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]


def as_passage(candidate: Candidate, states: Mapping[str, DocumentState]) -> Passage:
    """Return a candidate as a search result."""
    hit, state = candidate.hit, states[candidate.hit.document_id]
    active = state.active
    return Passage(
        chunk_id=hit.chunk_id,
        document_id=hit.document_id,
        version=hit.version,
        collection_id=state.collection_id,
        file_id=active.file_id if active else "",
        filename=active.filename if active else "",
        title=active.title if active else "",
        text=hit.text,
        start=hit.start,
        end=hit.end,
        locator=hit.locator,
        score=min(1.0, max(0.0, candidate.score)),
        similarity=candidate.similarity,
        parts=candidate.parts,
        attributes=state.attributes,
    )


def _order(candidate: Candidate) -> tuple[float, float, str]:
    return (-candidate.score, -candidate.similarity, candidate.hit.chunk_id)


def _join(
    pairs: Sequence[tuple[Admitted, Admitted]],
    spec: SearchSpec,
    vectors: NDArray[np.float32],
    states: Mapping[str, DocumentState],
) -> list[Candidate]:
    """Return each passage once, with its best score over the queries."""
    best: dict[tuple[str, int, int], Candidate] = {}
    for at, pair in enumerate(pairs):
        # A flip between two index queries may show two versions: the newest counts.
        near, worded = (
            {hit.chunk_id: hit for hit in admitted.hits if hit.version == states[hit.document_id].active_version}
            for admitted in pair
        )
        # Every hit brings its vector: one that only its words found still has a cosine to be weighed by. Ranks are
        # those of the rankings themselves.
        met = worded | near if spec.fusion is Fusion.RELATIVE_SCORE else near
        fused = join_rankings(
            {chunk: float(vectors[at] @ hit.vector) for chunk, hit in met.items()},
            {chunk: hit.score for chunk, hit in worded.items()},
            alpha=spec.alpha,
            fusion=spec.fusion,
        )
        near_ranks = {chunk: rank for rank, chunk in enumerate(near, 1)}
        worded_ranks = {chunk: rank for rank, chunk in enumerate(worded, 1)}
        for chunk, score in fused.items():
            hit = near.get(chunk) or worded[chunk]
            candidate = Candidate(
                hit=hit,
                score=score,
                similarity=float((vectors @ hit.vector).max()),
                parts=ScoreParts(
                    dense=near[chunk].score if chunk in near else None,
                    bm25=worded[chunk].score if chunk in worded else None,
                    dense_rank=near_ranks.get(chunk, 0),
                    bm25_rank=worded_ranks.get(chunk, 0),
                    fused=score,
                    query_index=at,
                ),
            )
            # Windows of one parent passage are one passage.
            place = (hit.document_id, hit.start, hit.end)
            if place not in best or _order(candidate) < _order(best[place]):
                best[place] = candidate
    return sorted(best.values(), key=_order)
