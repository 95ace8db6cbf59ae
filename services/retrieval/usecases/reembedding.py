"""Changing the embedder: a second index is built beside the live one, and they change places in one transaction.

The register says what must be in it, and what it holds is noted document by document; the difference is what is left to
do. So whatever changes meanwhile, and wherever a process was ended, the next look finds it. A document is noted before its
chunks are written, by a transaction that locks its row: who removes it waits until they are, and removes them.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import structlog

from services.chassis.errors import Conflict, InvalidInput, Overloaded, Unavailable
from services.retrieval.domain import (
    Analyser,
    ChunkedVersion,
    DocumentState,
    IndexState,
    PendingDocument,
    Unembeddable,
    attribute_terms,
)
from services.retrieval.ports import ChunkSets, Embedder, Index, IndexShelf, IndexTable
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases.building import held_by
from services.retrieval.usecases.rows import embedded, places_of, rows_of
from services.retrieval.usecases.serving import record_of

__all__ = ["Progress", "Reembed"]

_log = structlog.get_logger()

# Documents looked up at once.
_PAGE: Final = 64
_READ_AT_ONCE: Final = 8
# Between two tries where something is away.
_PAUSE_S: Final = 1.0
_PASSING: Final = (Unavailable, Overloaded)
# Documents named in a message.
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the new index is: searchable documents, and those that it does not hold as they are now."""

    documents: int
    pending: int


class Reembed:
    """Builds an index for another embedder and makes it the live one.

    Args:
        table: Says which index is live and what the new one holds.
        shelf: Where indexes stand.
        embedder: The one that is to come.
        chunks: What documents were cut into.
        analyser: Writes search text.
        metrics: Where the work is counted.
        holder: Name of this process, which no other has.
        batch_chunks: Chunks embedded and written at once.
        report: Told how far it is.
    """

    def __init__(
        self,
        *,
        table: IndexTable,
        shelf: IndexShelf,
        embedder: Embedder,
        chunks: ChunkSets,
        analyser: Analyser,
        metrics: Metrics,
        holder: str,
        batch_chunks: int,
        report: Callable[[Progress], None],
    ) -> None:
        self._table = table
        self._shelf = shelf
        self._embedder = embedder
        self._chunks = chunks
        self._analyser = analyser
        self._metrics = metrics
        self._holder = holder
        self._batch_chunks = batch_chunks
        self._report = report
        self._name = shelf.name_of(embedder.digest)
        self._stopped = asyncio.Event()
        self._progress = Progress(0, 0)
        # Noted by this process, with an end that is not known.
        self._unsure: set[PendingDocument] = set()
        self._index: Index

    def stop(self) -> None:
        """End after the batch in progress; what is done stays done."""
        self._stopped.set()

    async def run(self) -> bool:
        """Build until nothing is left, and switch; return whether it came to that, or was stopped before.

        Raises:
            Conflict: It cannot be: the live index is this embedder's already, another process builds, an old index is
                still kept, or there are documents that cannot be embedded again.
        """
        await self._check()
        self._index = await self._shelf.open(self._name, dimension=self._embedder.dimension, create=True)
        try:
            record = await record_of(self._embedder, self._name, IndexState.BUILDING)
            async with held_by(self._table, record, self._holder):
                _log.info("reembedding_started", index=self._name, model=record.model, dimension=record.dimension)
                return await self._build()
        finally:
            await self._index.close()

    async def _check(self) -> None:
        for record in sorted(await self._table.records(), key=lambda one: one.state is not IndexState.LIVE):
            if record.state is IndexState.LIVE and record.digest == self._embedder.digest:
                raise Conflict(f"The live index {record.name} holds this embedder's vectors already ({record.model}).")
            if record.state is IndexState.OLD:
                raise Conflict(f"The old index {record.name} is still kept; remove it first with --drop-old.")
            if record.state is IndexState.BUILDING and record.name != self._name:
                raise Conflict(
                    f"Index {record.name} is being built for {record.model}; let that end, or remove it with --abandon."
                )

    async def _build(self) -> bool:
        while not self._stopped.is_set():
            self._tell(*await self._table.count(self._name))
            failed = await self._look_through()
            if self._stopped.is_set():
                break
            await self._refuse(failed)
            await self._index.maintain()
            if not await self._table.switch(self._name, holder=self._holder):
                self._tell(self._progress.documents, 0)
                _log.info("index_switched", index=self._name, model=self._embedder.model)
                return True
        _log.info("reembedding_stopped", index=self._name, pending=self._progress.pending)
        return False

    async def _look_through(self) -> list[tuple[PendingDocument, int, str]]:
        """Do what is pending, each document once; return those that cannot be embedded: which version, and why."""
        failed: list[tuple[PendingDocument, int, str]] = []
        after: PendingDocument | None = None
        while not self._stopped.is_set():
            try:
                await self._settle()
                page = await self._table.pending(self._name, after, _PAGE)
                if not page:
                    break
                failed += await self._do(page)
                await self._index.maintain()
                after = page[-1]
            except _PASSING as error:
                _log.warning("reembedding_waits", reason=error.message, private=error.private)
                await asyncio.sleep(_PAUSE_S)
        return failed

    async def _settle(self) -> None:
        """Remove what was written in part, by this process or one before it."""
        # The table does not name those that were removed while it could not be reached.
        places = list(self._unsure.union(await self._table.interrupted(self._name)))
        await self._clear(places)
        await self._table.forget_documents(self._name, places)
        self._unsure.clear()

    async def _do(self, page: Sequence[PendingDocument]) -> list[tuple[PendingDocument, int, str]]:
        states = await self._table.states(page)
        held = await self._table.held_version(self._name, page)
        failed: list[tuple[PendingDocument, int, str]] = []
        rest: dict[PendingDocument, DocumentState] = {}
        for place, state in states.items():
            if not state.is_searchable:
                continue
            if held.get(place) == state.active_version:
                await self._change(place, state)
            else:
                rest[place] = state
        versions: list[ChunkedVersion] = []
        for place, found in await self._read(rest):
            if isinstance(found, InvalidInput):
                failed.append((place, rest[place].active_version, found.message))
            else:
                versions.append(found)
        for batch in _batches(versions, self._batch_chunks):
            if self._stopped.is_set():
                break
            failed += await self._embed(batch)
        return failed

    async def _change(self, place: PendingDocument, state: DocumentState) -> None:
        """Give chunks that are there the document's access list and attributes."""
        allowed = await self._begin({place: state.active_version})
        for one, now in allowed.items():
            await self._index.set_access(one.tenant, one.document_id, now.principals, now.access_revision)
            await self._index.set_attribute_terms(one.tenant, one.document_id, attribute_terms(now.attributes))
        await self._end(list(allowed), outcome="changed")

    async def _read(
        self, states: dict[PendingDocument, DocumentState]
    ) -> list[tuple[PendingDocument, ChunkedVersion | InvalidInput]]:
        free = asyncio.Semaphore(_READ_AT_ONCE)

        async def one(place: PendingDocument, state: DocumentState) -> ChunkedVersion | InvalidInput:
            active = state.active
            if active is None or not active.chunks_blob_key:
                return InvalidInput("Where its chunks lie is not known.")
            try:
                async with free:
                    content = await self._chunks.read(active.chunks_blob_key, text_key=active.text_blob_key)
            except InvalidInput as error:
                return error
            if len(content.pieces) != active.chunk_count:
                return InvalidInput(f"There are {len(content.pieces)} chunks where {active.chunk_count} were indexed.")
            return ChunkedVersion(
                tenant=place.tenant,
                document_id=place.document_id,
                collection_id=state.collection_id,
                version=active.version,
                file_id=active.file_id,
                filename=active.filename,
                title=active.title,
                text_blob_key=active.text_blob_key,
                chunks_blob_key=active.chunks_blob_key,
                attributes=state.attributes,
                principals=state.principals,
                access_revision=state.access_revision,
                pieces=content.pieces,
            )

        found = await asyncio.gather(*(one(place, state) for place, state in states.items()))
        return list(zip(states, found, strict=True))

    async def _embed(self, versions: Sequence[ChunkedVersion]) -> list[tuple[PendingDocument, int, str]]:
        """Embed and write some documents; where one is refused it is found out which."""
        try:
            await self._write(versions)
        except InvalidInput as error:
            if len(versions) == 1:
                return [(_place_of(versions[0]), versions[0].version, error.message)]
            return [failed for version in versions for failed in await self._embed([version])]
        return []

    async def _write(self, versions: Sequence[ChunkedVersion]) -> None:
        # Embedding takes long and locks nobody out; what the rows say of the document is asked for afterwards.
        blank = DocumentState("")
        vectors = {}
        for places in places_of([(version, blank) for version in versions], self._batch_chunks):
            found = await embedded(places, embedder=self._embedder, metrics=self._metrics)
            vectors.update(
                {(_place_of(place.version), place.at): vector for place, vector in zip(places, found, strict=True)}
            )
        allowed = await self._begin({_place_of(version): version.version for version in versions})
        todo = [(_current(version, state), state) for version, state in _both(versions, allowed)]
        for places in places_of(todo, self._batch_chunks):
            own = np.stack([vectors[_place_of(place.version), place.at] for place in places])
            rows = rows_of(places, own, analyser=self._analyser)
            await self._index.write(rows)
            self._metrics.chunks_written.inc(len(rows))
        await self._count([version for version, _ in todo])
        await self._end(list(allowed), outcome="embedded")

    async def _count(self, versions: Iterable[ChunkedVersion]) -> None:
        """Count what was written, and remove other versions of the same documents."""
        for tenant, own in _by_tenant(versions).items():
            counts = await self._index.counts(tenant, list(own))
            for document, version in own.items():
                counted = counts.get((document, version.version), 0)
                if counted != len(version.pieces):
                    raise Unavailable(
                        "The index does not hold every chunk that was written.",
                        private=f"{document} v{version.version}: {counted} of {len(version.pieces)}",
                    )
            others = {document for document, number in counts if number != own[document].version}
            if others:
                await self._index.clear(tenant, {document: own[document].version for document in others})

    async def _begin(self, versions: dict[PendingDocument, int]) -> dict[PendingDocument, DocumentState]:
        self._unsure.update(versions)
        return await self._table.begin_writing(self._name, versions, holder=self._holder)

    async def _end(self, places: Sequence[PendingDocument], *, outcome: str) -> None:
        # Only one that was taken for gone, while it was frozen, meets documents that were removed all the same.
        gone = await self._table.end_writing(self._name, places)
        await self._clear(gone)
        self._unsure.clear()
        self._metrics.reembedded.labels(outcome=outcome).inc(len(places) - len(gone))
        self._tell(self._progress.documents, max(0, self._progress.pending - len(places)))

    async def _clear(self, places: Iterable[PendingDocument]) -> None:
        by_tenant: dict[str, dict[str, int | None]] = {}
        for place in places:
            by_tenant.setdefault(place.tenant, {})[place.document_id] = None
        for tenant, keep in by_tenant.items():
            await self._index.clear(tenant, keep)

    async def _refuse(self, failed: Sequence[tuple[PendingDocument, int, str]]) -> None:
        """Raise where documents are left that cannot be embedded; those that changed or went meanwhile are not."""
        states = await self._table.states([place for place, _, _ in failed])
        left = [
            Unembeddable(place.tenant, place.document_id, reason)
            for place, version, reason in failed
            if (state := states.get(place)) is not None and state.is_searchable and state.active_version == version
        ]
        for one in left:
            _log.error("document_not_embedded", tenant=one.tenant, document_id=one.document_id, reason=one.reason)
        if left:
            named = "; ".join(f"{one.document_id} of {one.tenant}: {one.reason}" for one in left[:_NAMED])
            raise Conflict(
                f"{len(left)} documents cannot be embedded again, and the index is not switched ({named}). Delete them or "
                "upload them anew, then run this again: it goes on where it was."
            )

    def _tell(self, documents: int, pending: int) -> None:
        self._progress = Progress(documents, pending)
        self._metrics.reembedding_pending.set(pending)
        self._report(self._progress)


def _place_of(version: ChunkedVersion) -> PendingDocument:
    return PendingDocument(version.tenant, version.document_id)


def _both(
    versions: Iterable[ChunkedVersion], states: dict[PendingDocument, DocumentState]
) -> Iterator[tuple[ChunkedVersion, DocumentState]]:
    for version in versions:
        if (state := states.get(_place_of(version))) is not None:
            yield version, state


def _current(version: ChunkedVersion, state: DocumentState) -> ChunkedVersion:
    """Return the version with what the register says of its document now."""
    return replace(
        version,
        collection_id=state.collection_id,
        attributes=state.attributes,
        principals=state.principals,
        access_revision=state.access_revision,
    )


def _by_tenant(versions: Iterable[ChunkedVersion]) -> dict[str, dict[str, ChunkedVersion]]:
    found: dict[str, dict[str, ChunkedVersion]] = {}
    for version in versions:
        found.setdefault(version.tenant, {})[version.document_id] = version
    return found


def _batches(versions: Iterable[ChunkedVersion], chunks: int) -> Iterator[list[ChunkedVersion]]:
    """Yield the versions in batches of about so many chunks; a document is never parted."""
    batch: list[ChunkedVersion] = []
    held = 0
    for version in versions:
        if batch and held + len(version.pieces) > chunks:
            yield batch
            batch, held = [], 0
        batch.append(version)
        held += len(version.pieces)
    if batch:
        yield batch
