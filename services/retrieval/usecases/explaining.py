"""Why a document was not found."""

from dataclasses import replace
from typing import Final

import numpy as np

from services.retrieval.domain import (
    Analyser,
    Candidate,
    DocumentState,
    Explanation,
    Outcome,
    Passage,
    Reader,
    Scope,
    ScoreParts,
    SearchSpec,
)
from services.retrieval.ports import Register
from services.retrieval.usecases.searching import Ranked, Search, as_passage
from services.retrieval.usecases.serving import LiveIndexes, Served

__all__ = ["ExplainDocument"]

# How much deeper than a search an explanation looks, and the least depth.
_DEEPER: Final = 5
_DEPTH: Final = 500


class ExplainDocument:
    """Says what became of one document in one search.

    Args:
        search: The search that is explained.
        indexes: Chunks, and what turns queries into vectors like theirs.
        register: What is known of documents.
        analyser: Tells which words a document lacks.
    """

    def __init__(self, *, search: Search, indexes: LiveIndexes, register: Register, analyser: Analyser) -> None:
        self._search = search
        self._indexes = indexes
        self._register = register
        self._analyser = analyser

    async def run(self, reader: Reader, spec: SearchSpec, document_id: str) -> Explanation:
        """Return the outcome. Of a document that the reader may not read it is that of one that is not there."""
        return await self._indexes.on_live(lambda served: self._on(served, reader, spec, document_id))

    async def _on(self, served: Served, reader: Reader, spec: SearchSpec, document_id: str) -> Explanation:
        state = (await self._register.look_up(reader.tenant, [document_id])).get(document_id)
        if state is None or not state.is_searchable or not reader.may_read(state.principals):
            return Explanation(Outcome.NOT_INDEXED)
        version = state.active_version
        missing = await self._missing_terms(served, reader, spec, state)
        known = Explanation(Outcome.NO_MATCH, missing_terms=missing, active_version=version)
        if state.collection_id not in spec.collection_ids:
            return replace(known, outcome=Outcome.OTHER_COLLECTION)
        if spec.filter is not None and not spec.filter.matches(state.attributes):
            return replace(known, outcome=Outcome.FILTERED_OUT, best=await self._nearest(served, reader, spec, state))
        passages = await self._search.on(served, reader, spec)
        known = replace(known, cutoff_score=passages[-1].score if passages else 0.0)
        for rank, passage in enumerate(passages, 1):
            if passage.document_id == document_id:
                return replace(known, outcome=Outcome.FOUND, rank=rank, best=passage)
        ranked = await self._search.rank(served, reader, spec, depth=max(_DEPTH, spec.top_k * _DEEPER))
        return await self._left_out(served, reader, spec, state, ranked, known)

    async def _left_out(
        self, served: Served, reader: Reader, spec: SearchSpec, state: DocumentState, ranked: Ranked, known: Explanation
    ) -> Explanation:
        for rank, candidate in enumerate(ranked.candidates, 1):
            if candidate.hit.document_id == state.document_id:
                below = spec.score_threshold is not None and candidate.score < spec.score_threshold
                return replace(
                    known,
                    outcome=Outcome.BELOW_THRESHOLD if below else Outcome.RANKED_TOO_LOW,
                    rank=rank,
                    best=as_passage(candidate, ranked.states),
                )
        return replace(known, best=await self._nearest(served, reader, spec, state))

    async def _missing_terms(
        self, served: Served, reader: Reader, spec: SearchSpec, state: DocumentState
    ) -> tuple[str, ...]:
        held = await served.index.tokens(reader.tenant, state.document_id, state.active_version)
        words: dict[str, frozenset[str]] = {}
        for query in spec.queries:
            words.update(self._analyser.words(query))
        return tuple(word for word, tokens in words.items() if held.isdisjoint(tokens))

    async def _nearest(self, served: Served, reader: Reader, spec: SearchSpec, state: DocumentState) -> Passage | None:
        """Return the document's passage nearest to any of the queries, whatever its place."""
        vectors = (await served.embedder.embed(spec.queries, queries=True)).vectors
        scope = Scope(
            tenant=reader.tenant,
            collection_ids=(state.collection_id,),
            principals=None if reader.is_administrator else reader.principals,
            document_id=state.document_id,
        )
        best: Candidate | None = None
        for at, vector in enumerate(vectors):
            for hit in await served.index.dense(scope, vector, limit=10):
                similarity = float(np.dot(vector, hit.vector))
                if hit.version == state.active_version and (best is None or similarity > best.similarity):
                    parts = ScoreParts(dense=similarity, query_index=at)
                    best = Candidate(hit=hit, score=0.0, similarity=similarity, parts=parts)
        return None if best is None else as_passage(best, {state.document_id: state})
