"""The room's part of an installation, brought into step with a place where nobody has heard of documents."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from sqlalchemy import Row, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.blobs import BlobStore
from services.chassis.events.log import new_envelope
from services.chassis.events.outbox import Outbox
from services.chassis.jobs.table import end_leases
from services.chassis.moving.part import Arrival
from services.ingestion.backends.facts import DOCUMENT_TOPIC, encoded
from services.ingestion.backends.tables import contents, deletions, documents, jobs, outbox, versions
from services.ingestion.domain.access import readers
from services.ingestion.domain.blobs import Blob, document_folders, files_folder, version_key
from services.ingestion.domain.documents import DocumentState
from services.ingestion.domain.facts import AccessChanged, AttributesChanged, Chunked, Deleted, Fact

__all__ = ["Settle"]

# Revision of what a document was made with; others were set later, and told by an event of their own.
_FIRST: Final = 1


class Settle:
    """Ends the leases of workers, and tells again what other rooms may not have heard.

    What that is, and why hearing it twice changes nothing, is in decision record 0036.

    Args:
        blobs: Where the blobs of documents lie that were removed while they were copied.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def __call__(self, connection: AsyncConnection, arrival: Arrival) -> None:
        """Do it in the transaction that `connection` is in."""
        await end_leases(connection, jobs)
        if arrival.rebuild:
            await _unindex(connection)
        box = Outbox(outbox)
        async for tenant, fact in _missed(connection, arrival):
            kind, payload = encoded(fact)
            envelope = new_envelope(tenant=tenant, type=kind, key=fact.document_id, payload=payload)
            await box.add(connection, DOCUMENT_TOPIC, envelope)
        await self._clear(connection, arrival)

    async def _clear(self, connection: AsyncConnection, arrival: Arrival) -> None:
        """Remove blobs of documents whose deletion ended before the tables were read, and after they were copied."""
        late = select(deletions.c.tenant, deletions.c.document_id).where(deletions.c.completed_at >= arrival.since)
        gone = (await connection.execute(late)).all()
        for row in gone:
            for folder in document_folders(row.tenant, row.document_id):
                await self._blobs.delete(await self._blobs.list(folder))
        for tenant in {row.tenant for row in gone}:
            kept = await connection.scalars(select(contents.c.digest).where(contents.c.tenant == tenant))
            folder = files_folder(tenant)
            wanted = {f"{folder}/{digest}" for digest in kept}
            await self._blobs.delete(set(await self._blobs.list(folder)) - wanted)


async def _unindex(connection: AsyncConnection) -> None:
    """Have versions that can be found wait for the index again, which comes without them."""
    active = select(documents.c.document_id).where(
        documents.c.document_id == versions.c.document_id, documents.c.active_version == versions.c.number
    )
    indexed = versions.c.state == DocumentState.INDEXED.value
    await connection.execute(update(versions).where(indexed, active.exists()).values(state=DocumentState.CHUNKED.value))


async def _missed(connection: AsyncConnection, arrival: Arrival) -> AsyncIterator[tuple[str, Fact]]:
    """Yield what others may not have heard, with its tenant; facts of one document in their order."""
    announced = versions.c.state.in_([DocumentState.CHUNKED.value, DocumentState.INDEXED.value])
    # What the index said of a version long ago it knew when it was exported.
    unheard = or_(versions.c.state == DocumentState.CHUNKED.value, versions.c.updated_at >= arrival.since)
    query = (
        select(documents, *(column.label(f"version_{column.name}") for column in versions.c))
        .select_from(
            documents.outerjoin(versions, and_(versions.c.document_id == documents.c.document_id, announced, unheard))
        )
        .where(
            documents.c.deleting.is_(False),
            or_(
                versions.c.number.is_not(None),
                documents.c.updated_at >= arrival.since,
                documents.c.attributes_revision > _FIRST,
            ),
        )
        .order_by(documents.c.document_id, versions.c.number)
    )
    before = None
    for row in (await connection.execute(query)).all():
        if before is not None and before.document_id != row.document_id:
            for fact in _changed(before, arrival):
                yield before.tenant, fact
        if row.version_number is not None:
            yield row.tenant, _chunked(row)
        before = row
    if before is not None:
        for fact in _changed(before, arrival):
            yield before.tenant, fact
    open_still = or_(deletions.c.completed_at.is_(None), deletions.c.completed_at >= arrival.since)
    for row in (await connection.execute(select(deletions).where(open_still))).all():
        yield row.tenant, Deleted(row.document_id, row.collection_id)


def _chunked(row: Row[Any]) -> Chunked:
    def key(kind: tuple[str, str]) -> str:
        return version_key(row.tenant, kind, row.document_id, row.version_number)

    return Chunked(
        document_id=row.document_id,
        collection_id=row.collection_id,
        version=row.version_number,
        file_id=row.version_file_id,
        chunks_key=key(Blob.CHUNKS),
        text_key=key(Blob.TEXT),
        chunk_count=row.version_chunk_count,
        principals=readers(row.owner, tuple(row.principals)),
        access_revision=row.access_revision,
    )


def _changed(row: Row[Any], arrival: Arrival) -> Iterator[Fact]:
    """Yield what was changed of a document after it came."""
    if row.access_revision > _FIRST and row.updated_at >= arrival.since:
        allowed = readers(row.owner, tuple(row.principals))
        yield AccessChanged(row.document_id, row.collection_id, allowed, row.access_revision)
    if row.attributes_revision > _FIRST:
        # Nothing else tells them: a version brings those of its moment.
        place = version_key(row.tenant, Blob.ATTRIBUTES, row.document_id, row.attributes_revision)
        yield AttributesChanged(row.document_id, row.collection_id, place, row.attributes_revision)
