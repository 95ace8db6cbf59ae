"""Chunks of versions as an index keeps them: embedded, with their search text and what is known of their documents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.retrieval.domain import Analyser, ChunkedVersion, ChunkRow, DocumentState, attribute_terms, chunk_id
from services.retrieval.ports import Embedder
from services.retrieval.telemetry import Metrics

__all__ = ["Place", "embedded", "places_of", "rows_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """A chunk that is to be written: of which version, and with what is known of its document."""

    version: ChunkedVersion
    state: DocumentState
    at: int

    @property
    def indexed(self) -> str:
        """What is embedded and searched."""
        return self.version.pieces[self.at].indexed


def places_of(versions: Sequence[tuple[ChunkedVersion, DocumentState]], chunks: int) -> Iterator[list[Place]]:
    """Yield the chunks of the versions, at most so many at once."""
    places = [Place(version, state, at) for version, state in versions for at in range(len(version.pieces))]
    for first in range(0, len(places), chunks):
        yield places[first : first + chunks]


async def embedded(places: Sequence[Place], *, embedder: Embedder, metrics: Metrics) -> NDArray[np.float32]:
    """Return the chunks' vectors, one row each."""
    with metrics.stage.labels(stage="embed_passages").time():
        vectors = (await embedder.embed([place.indexed for place in places], queries=False)).vectors
    metrics.embedded.labels(kind="passage").inc(len(places))
    return vectors


def rows_of(places: Sequence[Place], vectors: NDArray[np.float32], *, analyser: Analyser) -> list[ChunkRow]:
    """Return the rows; of two access lists the newer one counts."""
    rows = []
    for place, vector in zip(places, vectors, strict=True):
        version, state = place.version, place.state
        piece = version.pieces[place.at]
        newer = state.access_revision > version.access_revision
        rows.append(
            ChunkRow(
                chunk_id=chunk_id(version.tenant, version.document_id, version.version, piece.index),
                tenant=version.tenant,
                collection_id=version.collection_id,
                document_id=version.document_id,
                version=version.version,
                live=not state.withheld,
                principals=state.principals if newer else version.principals,
                access_revision=state.access_revision if newer else version.access_revision,
                attribute_terms=attribute_terms(version.attributes),
                text=piece.text,
                start=piece.start,
                end=piece.end,
                locator=piece.locator,
                search_text=analyser.search_text(piece.indexed),
                vector=vector,
            )
        )
    return rows
