"""What the indexer does with a fact about a document. Every step may be repeated: a crash anywhere is mended by replay.

Order for a version: write the chunks, count them, flip (one row, with the announcement), clear the old ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from services.chassis.errors import Unavailable
from services.chassis.telemetry import tracer
from services.retrieval.domain import Analyser, ChunkedVersion, ChunkRow, DocumentState, attribute_terms, chunk_id
from services.retrieval.ports import Embedder, Index, Register
from services.retrieval.telemetry import Metrics

__all__ = ["ChangeAccess", "ChangeAttributes", "IndexVersions", "RemoveDocument"]

_log = structlog.get_logger()
_tracer = tracer("brain.retrieval")


@dataclass(frozen=True, slots=True)
class _Place:
    """A chunk that is to be written: of which version, and with what is known of its document."""

    version: ChunkedVersion
    state: DocumentState
    at: int


class IndexVersions:
    """Makes versions searchable, several documents in one go.

    Args:
        index: Where the chunks go.
        embedder: Turns them into vectors.
        register: Table of active versions.
        analyser: Writes their search text.
        metrics: Where the work is counted.
        batch_chunks: Chunks embedded and written in one commit.
    """

    def __init__(
        self,
        *,
        index: Index,
        embedder: Embedder,
        register: Register,
        analyser: Analyser,
        metrics: Metrics,
        batch_chunks: int,
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._register = register
        self._analyser = analyser
        self._metrics = metrics
        self._batch_chunks = batch_chunks

    async def run(self, versions: Sequence[ChunkedVersion]) -> None:
        """Index the versions (of different documents) in groups of about `batch_chunks` chunks.

        Raises:
            Unavailable: The index, the database or the blob store is away; nothing half-written is searchable.
        """
        for group in _grouped(versions, self._batch_chunks):
            with _tracer.start_as_current_span("retrieval.index", attributes={"brain.retrieval.documents": len(group)}):
                await self._index_group(group)

    async def _index_group(self, versions: Sequence[ChunkedVersion]) -> None:
        todo: list[tuple[ChunkedVersion, DocumentState]] = []
        for tenant, own in _by_tenant(versions).items():
            states = await self._register.look_up(tenant, [version.document_id for version in own])
            for version in own:
                state = states.get(version.document_id) or DocumentState(version.document_id)
                if state.removed or state.active_version >= version.version:
                    # A repeated or late fact; what a crash left behind is cleared.
                    self._metrics.versions.labels(outcome="repeated").inc()
                    await self._tidy(tenant, {version.document_id: state.active_version or None})
                    continue
                todo.append((version, state))
        places = [_Place(version, state, at) for version, state in todo for at in range(len(version.pieces))]
        for first in range(0, len(places), self._batch_chunks):
            await self._write(places[first : first + self._batch_chunks])
        await self._check([version for version, _ in todo])
        flipped = await self._register.activate([version for version, _ in todo])
        for tenant, own in _by_tenant([version for version, _ in todo]).items():
            await self._tidy(
                tenant,
                {
                    version.document_id: version.version if (tenant, version.document_id) in flipped else None
                    for version in own
                    if (tenant, version.document_id) in flipped
                },
            )
        self._metrics.versions.labels(outcome="indexed").inc(len(flipped))
        for version, _ in todo:
            _log.info(
                "version_indexed",
                tenant=version.tenant,
                document_id=version.document_id,
                version=version.version,
                chunk_count=len(version.pieces),
            )

    async def _write(self, places: Sequence[_Place]) -> None:
        texts = [place.version.pieces[place.at].indexed for place in places]
        with self._metrics.stage.labels(stage="embed_passages").time():
            vectors = (await self._embedder.embed(texts, queries=False)).vectors
        self._metrics.embedded.labels(kind="passage").inc(len(texts))
        rows = []
        for place, text, vector in zip(places, texts, vectors, strict=True):
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
                    search_text=self._analyser.search_text(text),
                    vector=vector,
                )
            )
        with self._metrics.stage.labels(stage="write").time():
            await self._index.write(rows)
        self._metrics.chunks_written.inc(len(rows))

    async def _check(self, versions: Iterable[ChunkedVersion]) -> None:
        """Count what is in the index before it becomes the active version."""
        for tenant, own in _by_tenant(versions).items():
            counts = await self._index.counts(tenant, [version.document_id for version in own])
            for version in own:
                counted = counts.get((version.document_id, version.version), 0)
                if counted != len(version.pieces):
                    raise Unavailable(
                        "The index does not hold every chunk that was written.",
                        private=f"{version.document_id} v{version.version}: {counted} of {len(version.pieces)}",
                    )

    async def _tidy(self, tenant: str, keep: Mapping[str, int | None]) -> None:
        """Remove the chunks of all versions but those to keep, where there are any."""
        if not keep:
            return
        counts = await self._index.counts(tenant, list(keep))
        others = {document for document, version in counts if keep[document] != version}
        if others:
            await self._index.clear(tenant, {document: keep[document] for document in others})


class RemoveDocument:
    """Removes every chunk of a document, counts to zero, and says so.

    Args:
        index: Where the chunks are.
        register: Table of active versions.
    """

    def __init__(self, *, index: Index, register: Register) -> None:
        self._index = index
        self._register = register

    async def run(self, tenant: str, document_id: str) -> None:
        """Remove the document.

        Raises:
            Unavailable: The index or the database is away, or chunks are left.
        """
        before = await self._index.counts(tenant, [document_id])
        if not await self._register.begin_removal(tenant, document_id, sum(before.values())):
            return
        await self._index.clear(tenant, {document_id: None})
        left = sum((await self._index.counts(tenant, [document_id])).values())
        if left:
            raise Unavailable("The index still holds chunks of a removed document.", private=f"{document_id}: {left}")
        await self._register.finish_removal(tenant, document_id)
        _log.info("document_removed", tenant=tenant, document_id=document_id, removed=sum(before.values()))


class ChangeAccess:
    """Applies a new access list: first in the table, which decides, then in the index.

    Args:
        index: Where the chunks are.
        register: Table of access revisions.
    """

    def __init__(self, *, index: Index, register: Register) -> None:
        self._index = index
        self._register = register

    async def run(self, tenant: str, document_id: str, principals: Sequence[str], revision: int) -> None:
        """Replace the principals unless a newer revision is in force."""
        if await self._register.restrict(tenant, document_id, principals, revision) == revision:
            await self._index.set_access(tenant, document_id, principals, revision)


class ChangeAttributes:
    """Applies new attributes: in the table, which decides, and in the index.

    Args:
        index: Where the chunks are.
        register: Table of attributes.
    """

    def __init__(self, *, index: Index, register: Register) -> None:
        self._index = index
        self._register = register

    async def run(
        self, tenant: str, document_id: str, attributes: Mapping[str, str | float | bool], revision: int
    ) -> None:
        """Replace the attributes unless a newer revision is in force."""
        if await self._register.set_attributes(tenant, document_id, attributes, revision):
            await self._index.set_attribute_terms(tenant, document_id, attribute_terms(attributes))


def _by_tenant(versions: Iterable[ChunkedVersion]) -> dict[str, list[ChunkedVersion]]:
    found: dict[str, list[ChunkedVersion]] = {}
    for version in versions:
        found.setdefault(version.tenant, []).append(version)
    return found


def _grouped(versions: Sequence[ChunkedVersion], chunks: int) -> list[list[ChunkedVersion]]:
    """Split the versions, in order, where a group would exceed `chunks`."""
    groups: list[list[ChunkedVersion]] = []
    held = 0
    for version in versions:
        if not groups or held + len(version.pieces) > chunks:
            groups.append([])
            held = 0
        groups[-1].append(version)
        held += len(version.pieces)
    return groups
