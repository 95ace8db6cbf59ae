"""What the indexer does with a fact about a document. Every step may be repeated: a crash anywhere is mended by replay.

Order for a version: write the chunks, count them, flip (one row, with the announcement), clear the old ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import structlog

from services.chassis.errors import BrainError, Unavailable
from services.chassis.telemetry import tracer
from services.retrieval.domain import Analyser, ChunkedVersion, DocumentState, IndexMoved, attribute_terms
from services.retrieval.ports import Index, IndexTable, Register
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases.rows import Place, embedded, places_of, rows_of
from services.retrieval.usecases.serving import LiveIndexes, Served

__all__ = ["ChangeAccess", "ChangeAttributes", "IndexVersions", "RemoveDocument"]

_log = structlog.get_logger()
_tracer = tracer("brain.retrieval")


class IndexVersions:
    """Makes versions searchable, several documents in one go.

    Args:
        indexes: Where the chunks go, and what turns them into vectors.
        register: Table of active versions.
        analyser: Writes their search text.
        metrics: Where the work is counted.
        batch_chunks: Chunks embedded and written in one commit.
    """

    def __init__(
        self,
        *,
        indexes: LiveIndexes,
        register: Register,
        analyser: Analyser,
        metrics: Metrics,
        batch_chunks: int,
    ) -> None:
        self._indexes = indexes
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
                # Asked anew for each group: a process that slept writes into no index that is not live any more.
                await self._indexes.refreshed()
                await self._indexes.on_live(partial(self._index_or_leave, versions=group))

    async def _index_or_leave(self, served: Served, versions: Sequence[ChunkedVersion]) -> None:
        try:
            await self._index_group(served, versions)
        except (IndexMoved, BrainError):
            await self._indexes.leave(served)
            raise

    async def _index_group(self, served: Served, versions: Sequence[ChunkedVersion]) -> None:
        todo: list[tuple[ChunkedVersion, DocumentState]] = []
        for tenant, own in _by_tenant(versions).items():
            states = await self._register.look_up(tenant, [version.document_id for version in own])
            for version in own:
                state = states.get(version.document_id) or DocumentState(version.document_id)
                if state.removed or state.active_version >= version.version:
                    # A repeated or late fact; what a crash left behind is cleared.
                    self._metrics.versions.labels(outcome="repeated").inc()
                    await self._tidy(served.index, tenant, {version.document_id: state.active_version or None})
                    continue
                todo.append((version, state))
        for places in places_of(todo, self._batch_chunks):
            await self._write(served, places)
        await self._check(served.index, [version for version, _ in todo])
        flipped = await self._register.activate([version for version, _ in todo], index=served.name)
        for tenant, own in _by_tenant([version for version, _ in todo]).items():
            await self._tidy(
                served.index,
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

    async def _write(self, served: Served, places: Sequence[Place]) -> None:
        vectors = await embedded(places, embedder=served.embedder, metrics=self._metrics)
        rows = rows_of(places, vectors, analyser=self._analyser)
        with self._metrics.stage.labels(stage="write").time():
            await served.index.write(rows)
        self._metrics.chunks_written.inc(len(rows))

    async def _check(self, index: Index, versions: Iterable[ChunkedVersion]) -> None:
        """Count what is in the index before it becomes the active version."""
        for tenant, own in _by_tenant(versions).items():
            counts = await index.counts(tenant, [version.document_id for version in own])
            for version in own:
                counted = counts.get((version.document_id, version.version), 0)
                if counted != len(version.pieces):
                    raise Unavailable(
                        "The index does not hold every chunk that was written.",
                        private=f"{version.document_id} v{version.version}: {counted} of {len(version.pieces)}",
                    )

    async def _tidy(self, index: Index, tenant: str, keep: Mapping[str, int | None]) -> None:
        """Remove the chunks of all versions but those to keep, where there are any."""
        if not keep:
            return
        counts = await index.counts(tenant, list(keep))
        others = {document for document, version in counts if keep[document] != version}
        if others:
            await index.clear(tenant, {document: keep[document] for document in others})


class RemoveDocument:
    """Removes every chunk of a document from every index, counts to zero, and says so.

    Args:
        indexes: Where the chunks are.
        table: Says whether chunks are being written to an index that is not live yet.
        register: Table of active versions.
    """

    def __init__(self, *, indexes: LiveIndexes, table: IndexTable, register: Register) -> None:
        self._indexes = indexes
        self._table = table
        self._register = register

    async def run(self, tenant: str, document_id: str) -> None:
        """Remove the document.

        Raises:
            Unavailable: An index or the database is away, chunks are left, or somebody still writes some.
        """
        # Indexes hold the same chunks, each in its own vectors: what is removed is counted once.
        before = max([await _count(index, tenant, document_id) for index in await self._indexes.every()], default=0)
        if not await self._register.begin_removal(tenant, document_id, before):
            return
        if await self._table.is_being_written(tenant, document_id):
            raise Unavailable("The document is being embedded again at this moment.", private=document_id)
        # Asked again: one that was begun meanwhile takes nothing of the document in, but may have before.
        for index in await self._indexes.every():
            await index.clear(tenant, {document_id: None})
            if left := await _count(index, tenant, document_id):
                raise Unavailable(
                    "The index still holds chunks of a removed document.", private=f"{document_id}: {left}"
                )
        await self._register.finish_removal(tenant, document_id)
        _log.info("document_removed", tenant=tenant, document_id=document_id, removed=before)


class ChangeAccess:
    """Applies a new access list: first in the table, which decides, then in every index.

    Args:
        indexes: Where the chunks are.
        register: Table of access revisions.
    """

    def __init__(self, *, indexes: LiveIndexes, register: Register) -> None:
        self._indexes = indexes
        self._register = register

    async def run(self, tenant: str, document_id: str, principals: Sequence[str], revision: int) -> None:
        """Replace the principals unless a newer revision is in force."""
        if await self._register.restrict(tenant, document_id, principals, revision) == revision:
            for index in await self._indexes.every():
                await index.set_access(tenant, document_id, principals, revision)


class ChangeAttributes:
    """Applies new attributes: in the table, which decides, and in every index.

    Args:
        indexes: Where the chunks are.
        register: Table of attributes.
    """

    def __init__(self, *, indexes: LiveIndexes, register: Register) -> None:
        self._indexes = indexes
        self._register = register

    async def run(
        self, tenant: str, document_id: str, attributes: Mapping[str, str | float | bool], revision: int
    ) -> None:
        """Replace the attributes unless a newer revision is in force."""
        if await self._register.set_attributes(tenant, document_id, attributes, revision):
            for index in await self._indexes.every():
                await index.set_attribute_terms(tenant, document_id, attribute_terms(attributes))


async def _count(index: Index, tenant: str, document_id: str) -> int:
    return sum((await index.counts(tenant, [document_id])).values())


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
