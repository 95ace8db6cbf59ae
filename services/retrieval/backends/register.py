"""The register in the room's database."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from brain.events.v1.index_pb2 import DocumentRemoved, IndexEvent, VersionIndexed, VersionRejected
from services.chassis.database import Database, upsert
from services.chassis.events.log import new_envelope
from services.chassis.events.outbox import Outbox, OutboxRelay
from services.retrieval.backends.document_rows import document_states, state_of, version_of
from services.retrieval.backends.tables import documents, index_documents, indexes, outbox, versions
from services.retrieval.domain import ChunkedVersion, DocumentState, IndexMoved, IndexState, VersionState

__all__ = ["INDEX_TOPIC", "SqlRegister"]

INDEX_TOPIC: Final = "brain.index.v1"
# Parameters that every database takes in one statement.
_SLICE: Final = 500
_LIVE: Final = select(indexes.c.name).where(indexes.c.state == IndexState.LIVE)


class SqlRegister:
    """Table of active versions and access revisions.

    Args:
        database: The room's database.
        relay: Told when an announcement was added.
    """

    def __init__(self, database: Database, *, relay: OutboxRelay) -> None:
        self._database = database
        self._relay = relay
        self._outbox = Outbox(outbox)

    async def look_up(
        self, tenant: str, document_ids: Sequence[str], *, index: str | None = None
    ) -> dict[str, DocumentState]:
        """Return what is known of the documents, if `index` is live or None."""
        found: dict[str, DocumentState] = {}
        # One snapshot: what is said of the documents holds together with which index is live.
        async with self._database.connect() as connection:
            if index is not None:
                await _check_live(connection, index, _LIVE)
            for first in range(0, len(document_ids), _SLICE):
                rows = await connection.execute(
                    document_states().where(
                        documents.c.tenant == tenant,
                        documents.c.document_id.in_(document_ids[first : first + _SLICE]),
                    )
                )
                found.update({row.document_id: state_of(row) for row in rows})
        return found

    async def versions(self, tenant: str, pairs: Sequence[tuple[str, int]]) -> dict[tuple[str, int], VersionState]:
        """Return what is known of document versions."""
        if not pairs:
            return {}
        wanted = or_(*(and_(versions.c.document_id == one, versions.c.version == two) for one, two in pairs))
        async with self._database.connect() as connection:
            rows = await connection.execute(select(versions).where(versions.c.tenant == tenant, wanted))
            return {(row.document_id, row.version): version_of(row) for row in rows}

    async def activate(self, chunked: Sequence[ChunkedVersion], *, index: str) -> set[tuple[str, str]]:
        """Flip and announce in one transaction."""
        flipped: set[tuple[str, str]] = set()
        async with self._database.begin() as connection:
            # Whoever makes another index live waits until this transaction is over, or this one sees what it did.
            await _check_live(connection, index, _LIVE.with_for_update(read=True))
            # In one order: two who flip the same documents wait for each other and do not block each other. Versions of one
            # document stay in theirs.
            for version in sorted(chunked, key=lambda one: (one.tenant, one.document_id)):
                row = await self._row(connection, version.tenant, version.document_id)
                if row.removed or row.active_version >= version.version:
                    continue
                values: dict[str, Any] = {
                    "active_version": version.version,
                    "collection_id": version.collection_id,
                    # Facts of a document come in order, and a version brings the attributes of its moment.
                    "attributes": dict(version.attributes),
                }
                if version.access_revision >= row.access_revision:
                    values |= {"principals": list(version.principals), "access_revision": version.access_revision}
                await self._set(connection, version.tenant, version.document_id, **values)
                await self._keep_version(connection, version)
                fact = VersionIndexed(
                    document_id=version.document_id, version=version.version, chunk_count=len(version.pieces)
                )
                await self._announce(connection, version.tenant, IndexEvent(version_indexed=fact), version.document_id)
                flipped.add((version.tenant, version.document_id))
        self._relay.wake()
        return flipped

    async def reject(self, tenant: str, document_id: str, version: int, reason: str) -> None:
        """Announce that a version will never be indexed."""
        fact = VersionRejected(document_id=document_id, version=version, reason=reason)
        async with self._database.begin() as connection:
            await self._announce(connection, tenant, IndexEvent(version_rejected=fact), document_id)
        self._relay.wake()

    async def withhold(self, tenant: str, document_id: str) -> None:
        """Take the document out of every answer."""
        async with self._database.begin() as connection:
            await self._row(connection, tenant, document_id)
            await self._set(connection, tenant, document_id, withheld=True)

    async def restrict(self, tenant: str, document_id: str, principals: Sequence[str], revision: int) -> int:
        """Replace who may read the document unless a newer revision holds."""
        async with self._database.begin() as connection:
            row = await self._row(connection, tenant, document_id)
            if revision < row.access_revision:
                return int(row.access_revision)
            await self._set(connection, tenant, document_id, principals=list(principals), access_revision=revision)
        return revision

    async def set_attributes(
        self, tenant: str, document_id: str, attributes: Mapping[str, str | float | bool], revision: int
    ) -> bool:
        """Replace the document's attributes unless a newer revision holds."""
        async with self._database.begin() as connection:
            row = await self._row(connection, tenant, document_id)
            if revision < row.attributes_revision:
                return False
            await self._set(connection, tenant, document_id, attributes=dict(attributes), attributes_revision=revision)
        return True

    async def begin_removal(self, tenant: str, document_id: str, removed_count: int) -> bool:
        """Note that the document goes."""
        async with self._database.begin() as connection:
            row = await self._row(connection, tenant, document_id)
            if row.removal_announced:
                return False
            # A second try counts fewer: the first may have removed some.
            count = max(row.removed_count, removed_count)
            await self._set(connection, tenant, document_id, removed=True, withheld=True, removed_count=count)
        return True

    async def finish_removal(self, tenant: str, document_id: str) -> None:
        """Announce that nothing of the document is left, and forget its versions and readers."""
        async with self._database.begin() as connection:
            row = await self._row(connection, tenant, document_id)
            if row.removal_announced:
                return
            await connection.execute(
                delete(versions).where(versions.c.tenant == tenant, versions.c.document_id == document_id)
            )
            await connection.execute(
                delete(index_documents).where(
                    index_documents.c.tenant == tenant, index_documents.c.document_id == document_id
                )
            )
            await self._set(
                connection,
                tenant,
                document_id,
                removal_announced=True,
                active_version=0,
                principals=[],
                attributes={},
            )
            fact = DocumentRemoved(document_id=document_id, removed_count=row.removed_count, remaining_count=0)
            await self._announce(connection, tenant, IndexEvent(document_removed=fact), document_id)
        self._relay.wake()

    async def _row(self, connection: AsyncConnection, tenant: str, document_id: str) -> Row[Any]:
        """Return the document's row, locked; it is made when there is none."""
        await connection.execute(
            upsert(connection, documents).values(tenant=tenant, document_id=document_id).on_conflict_do_nothing()
        )
        found = await connection.execute(
            select(documents)
            .where(documents.c.tenant == tenant, documents.c.document_id == document_id)
            .with_for_update()
        )
        return found.one()

    async def _set(self, connection: AsyncConnection, tenant: str, document_id: str, **values: Any) -> None:
        await connection.execute(
            update(documents)
            .where(documents.c.tenant == tenant, documents.c.document_id == document_id)
            .values(**values)
        )

    async def _keep_version(self, connection: AsyncConnection, version: ChunkedVersion) -> None:
        key = {"tenant": version.tenant, "document_id": version.document_id, "version": version.version}
        values = {
            "file_id": version.file_id,
            "filename": version.filename,
            "title": version.title,
            "text_blob_key": version.text_blob_key,
            "chunks_blob_key": version.chunks_blob_key,
            "chunk_count": len(version.pieces),
        }
        await connection.execute(
            upsert(connection, versions)
            .values(**key, **values)
            .on_conflict_do_update(index_elements=list(key), set_=values)
        )

    async def _announce(self, connection: AsyncConnection, tenant: str, event: IndexEvent, document_id: str) -> None:
        kind = event.WhichOneof("fact") or ""
        envelope = new_envelope(tenant=tenant, type=kind, key=document_id, payload=event.SerializeToString())
        await self._outbox.add(connection, INDEX_TOPIC, envelope)


async def _check_live(connection: AsyncConnection, index: str, query: Select[Any]) -> None:
    if (live := await connection.scalar(query)) != index:
        raise IndexMoved(f"{live or 'another index'} is live, not {index}")
