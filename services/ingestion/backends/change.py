"""A transaction on the room's database."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Executable, Row, Table, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import hold, upsert
from services.chassis.errors import Conflict
from services.chassis.events.log import new_envelope
from services.chassis.events.outbox import Outbox
from services.chassis.jobs.table import Job, JobTable
from services.ingestion.backends.facts import DOCUMENT_TOPIC, encoded
from services.ingestion.backends.records import Records
from services.ingestion.backends.rows import collection_row, document_row, file_row, version_row
from services.ingestion.backends.tables import (
    batch_documents,
    batches,
    collections,
    contents,
    deletions,
    documents,
    files,
    outbox,
    principals,
    versions,
)
from services.ingestion.domain.batches import FileBatch
from services.ingestion.domain.collections import Collection
from services.ingestion.domain.deletion import Deletion
from services.ingestion.domain.documents import PARSE_JOB, WAITING, Attributes, Document, DocumentState, Version
from services.ingestion.domain.facts import Fact
from services.ingestion.domain.files import File

__all__ = ["SqlChange"]

# States in which a version has been announced to the index.
_ANNOUNCED = (DocumentState.CHUNKED.value, DocumentState.INDEXED.value)


class SqlChange(Records):
    """Writes records, in the transaction that `connection` is in.

    What is read to be changed is held until the end. Everybody takes hold in one order, so that nobody blocks another:
    collection, file, document, version, job, content; of several documents by their ids.

    Args:
        connection: A connection in a write transaction.
        jobs: The room's job table.
        outbox: The room's outbox.
    """

    def __init__(self, connection: AsyncConnection, *, jobs: JobTable, outbox: Outbox) -> None:
        self._connection = connection
        self._jobs = jobs
        self._outbox = outbox

    async def rows(self, query: Executable) -> Sequence[Row[Any]]:
        """Return the rows that a query finds, as this transaction sees them."""
        return (await self._connection.execute(query)).all()

    async def collection(self, tenant: str, collection_id: str) -> Collection | None:
        """Return a collection; it is not removed until the end."""
        held = select(collections.c.collection_id).where(
            collections.c.tenant == tenant, collections.c.collection_id == collection_id
        )
        await hold(self._connection, held.with_for_update(read=True, key_share=True))
        return await super().collection(tenant, collection_id)

    async def hold_collection(self, collection_id: str) -> None:
        """Keep others from changing a collection and from adding to it."""
        its = select(collections.c.collection_id).where(collections.c.collection_id == collection_id)
        await hold(self._connection, its.with_for_update())

    async def file(self, tenant: str, file_id: str) -> File | None:
        """Return a file; it is not removed until the end."""
        held = select(files.c.file_id).where(files.c.tenant == tenant, files.c.file_id == file_id)
        await hold(self._connection, held.with_for_update(read=True, key_share=True))
        return await super().file(tenant, file_id)

    async def document(self, tenant: str, document_id: str) -> Document | None:
        """Return a document; nobody else changes it until the end."""
        await self._hold(documents.c.tenant == tenant, documents.c.document_id == document_id)
        return await super().document(tenant, document_id)

    async def document_by_key(self, tenant: str, collection_id: str, key: str) -> Document | None:
        """Return the document that holds a key; nobody else changes it until the end."""
        await self._hold(
            documents.c.tenant == tenant, documents.c.collection_id == collection_id, documents.c.live_key == key
        )
        return await super().document_by_key(tenant, collection_id, key)

    async def batch_documents(self, tenant: str, batch_id: str) -> list[Document]:
        """Return the documents of a batch; nobody else changes them until the end."""
        members = select(batch_documents.c.document_id).where(batch_documents.c.batch_id == batch_id)
        await self._hold(documents.c.tenant == tenant, documents.c.document_id.in_(members))
        return await super().batch_documents(tenant, batch_id)

    async def add_file(self, file: File) -> None:
        """Note a file, and that its bytes are kept."""
        await self._put_new(contents, {"tenant": file.tenant, "digest": file.digest})
        await self._connection.execute(insert(files).values(file_row(file)))

    async def remove_file(self, file: File) -> None:
        """Forget a file."""
        await self._connection.execute(delete(files).where(files.c.file_id == file.file_id))

    async def hold_content(self, tenant: str, digest: str) -> int:
        """Keep other transactions from keeping or removing these bytes; return how many records refer to them."""
        added = upsert(self._connection, contents).values(tenant=tenant, digest=digest)
        # Added or held in one step: between two of them it could be forgotten.
        held = added.on_conflict_do_update(index_elements=["tenant", "digest"], set_={"digest": digest})
        await self._connection.execute(held)
        of_files = select(func.count()).where(files.c.tenant == tenant, files.c.digest == digest)
        of_versions = select(func.count()).where(versions.c.tenant == tenant, versions.c.digest == digest)
        total = select(of_files.scalar_subquery() + of_versions.scalar_subquery())
        return int((await self.rows(total))[0][0])

    async def forget_content(self, tenant: str, digest: str) -> None:
        """Note that these bytes are no longer kept."""
        await self._connection.execute(delete(contents).where(contents.c.tenant == tenant, contents.c.digest == digest))

    async def idle_content(self, tenant: str) -> list[str]:
        """Return digests of bytes that no record refers to."""
        by_file = exists().where(files.c.tenant == contents.c.tenant, files.c.digest == contents.c.digest)
        by_version = exists().where(versions.c.tenant == contents.c.tenant, versions.c.digest == contents.c.digest)
        query = select(contents.c.digest).where(contents.c.tenant == tenant, ~by_file, ~by_version)
        return [row.digest for row in await self.rows(query.order_by(contents.c.digest))]

    async def content(self, tenant: str, digests: Sequence[str]) -> set[str]:
        """Return those of the digests whose bytes are noted as kept."""
        return await self.among(contents.c.digest, digests, contents.c.tenant == tenant)

    async def put_collection(self, collection: Collection) -> None:
        """Add a collection or replace its record."""
        row = collection_row(collection)
        changed = await self._connection.execute(
            update(collections).where(collections.c.collection_id == collection.collection_id).values(row)
        )
        if changed.rowcount == 0:
            await self._connection.execute(insert(collections).values(row))

    async def touch_collection(self, collection_id: str, at: float) -> None:
        """Note that a collection was changed; who is noting it in the same moment does it for both."""
        its = select(collections.c.collection_id).where(collections.c.collection_id == collection_id)
        # Not waited for: uploads into one collection would stand in a queue until each other's bytes are in their place.
        free = its.with_for_update(skip_locked=True, key_share=True)
        await self._connection.execute(
            update(collections).where(collections.c.collection_id.in_(free)).values(last_active_at=at)
        )

    async def remove_collection(self, collection_id: str) -> None:
        """Forget a collection and its batches."""
        of_it = select(batches.c.batch_id).where(batches.c.collection_id == collection_id)
        await self._connection.execute(delete(batch_documents).where(batch_documents.c.batch_id.in_(of_it)))
        await self._connection.execute(delete(batches).where(batches.c.collection_id == collection_id))
        await self._connection.execute(delete(collections).where(collections.c.collection_id == collection_id))

    async def add_document(self, document: Document) -> None:
        """Note a document with its first version."""
        try:
            await self._connection.execute(insert(documents).values(document_row(document)))
        except IntegrityError as error:
            raise Conflict("key: another upload took it in the same moment; try again.", param="key") from error
        await self._put_principals(document.document_id, document.principals)
        row = version_row(document.newest) | {"tenant": document.tenant}
        await self._connection.execute(insert(versions).values(row))

    async def add_version(self, tenant: str, version: Version) -> None:
        """Note a further version of a document and make it the newest."""
        if not await self._alter(
            documents.c.document_id == version.document_id,
            documents.c.newest_version == version.number - 1,
            newest_version=version.number,
            updated_at=version.updated_at,
        ):
            raise Conflict("The document changed in the same moment; try again.")
        await self._connection.execute(insert(versions).values(version_row(version) | {"tenant": tenant}))

    async def put_version(self, version: Version) -> None:
        """Replace the record of a version."""
        await self._connection.execute(
            update(documents)
            .where(documents.c.document_id == version.document_id, documents.c.newest_version == version.number)
            .values(updated_at=version.updated_at)
        )
        await self._connection.execute(
            update(versions)
            .where(versions.c.document_id == version.document_id, versions.c.number == version.number)
            .values(version_row(version))
        )

    async def supersede(self, document_id: str, before: int, at: float) -> list[int]:
        """Cancel every version below `before` that waits for its reader; return their numbers."""
        waiting = (
            (versions.c.document_id == document_id)
            & (versions.c.number < before)
            & versions.c.state.in_([state.value for state in WAITING])
        )
        numbers = [row.number for row in await self.rows(select(versions.c.number).where(waiting))]
        if numbers:
            await self._connection.execute(
                update(versions).where(waiting).values(state=DocumentState.CANCELLED.value, updated_at=at)
            )
        return numbers

    async def announced_after(self, document_id: str, number: int) -> bool:
        """Return whether a version above `number` was announced to the index."""
        later = select(versions.c.number).where(
            versions.c.document_id == document_id,
            versions.c.number > number,
            versions.c.state.in_(_ANNOUNCED),
        )
        return await self.first(later) is not None

    async def activate(self, document_id: str, number: int, at: float) -> None:
        """Note that a version is searchable, unless a higher one is."""
        await self._connection.execute(
            update(documents)
            .where(documents.c.document_id == document_id, documents.c.active_version < number)
            .values(active_version=number, updated_at=at)
        )

    async def set_access(self, document: Document, principals: tuple[str, ...], at: float) -> bool:
        """Replace an access list and raise its revision."""
        changed = await self._alter(
            documents.c.document_id == document.document_id,
            documents.c.access_revision == document.access_revision,
            principals=list(principals),
            access_revision=document.access_revision + 1,
            updated_at=at,
        )
        if changed:
            await self._put_principals(document.document_id, principals)
        return changed

    async def set_attributes(self, document: Document, attributes: Attributes, at: float) -> bool:
        """Replace attributes and raise their revision."""
        return await self._alter(
            documents.c.document_id == document.document_id,
            documents.c.attributes_revision == document.attributes_revision,
            attributes=dict(attributes),
            attributes_revision=document.attributes_revision + 1,
            updated_at=at,
        )

    async def begin_deletion(self, document: Document, receipt: Deletion, at: float) -> bool:
        """Mark a document as going, free its key, end its jobs, and open the receipt."""
        its = documents.c.document_id == document.document_id
        if not await self._alter(its, deleting=True, live_key=None, updated_at=at):
            return False
        await self._jobs.cancel(self._connection, document.document_id)
        await self._connection.execute(insert(deletions).values(asdict(receipt)))
        return True

    async def put_deletion(self, deletion: Deletion) -> None:
        """Replace a receipt."""
        await self._connection.execute(
            update(deletions).where(deletions.c.document_id == deletion.document_id).values(asdict(deletion))
        )

    async def remove_document(self, document_id: str) -> tuple[list[str], int]:
        """Forget a document; return the digests it referred to and the number of its versions."""
        await self._hold(documents.c.document_id == document_id)
        rows = await self.rows(select(versions.c.digest).where(versions.c.document_id == document_id))
        for table in (documents, versions, principals, batch_documents):
            await self._connection.execute(delete(table).where(table.c.document_id == document_id))
        # Files that were uploaded with the document go with it.
        await self._connection.execute(delete(files).where(files.c.document_id == document_id))
        return sorted({row.digest for row in rows}), len(rows)

    async def count_versions(self, document_id: str) -> int:
        """Return how many versions of a document are on record."""
        return await self._count(versions, versions.c.document_id == document_id)

    async def count_events(self, document_id: str) -> int:
        """Return how many facts about a document wait to be sent."""
        return await self._count(outbox, outbox.c.key == document_id)

    async def add_batch(self, batch: FileBatch, documents: Sequence[Document]) -> None:
        """Note a batch and the documents in it."""
        await self._connection.execute(
            insert(batches).values(
                batch_id=batch.batch_id,
                tenant=batch.tenant,
                collection_id=batch.collection_id,
                owner=batch.owner,
                created_at=batch.created_at,
                cancelled=batch.cancelled,
                file_ids=list(batch.file_ids),
            )
        )
        members = [{"batch_id": batch.batch_id, "document_id": entry.document_id} for entry in documents]
        await self._connection.execute(insert(batch_documents), members)

    async def cancel_batch(self, batch_id: str) -> None:
        """Note that a batch was cancelled."""
        await self._connection.execute(update(batches).where(batches.c.batch_id == batch_id).values(cancelled=True))

    async def add_parse_job(self, tenant: str, document_id: str, number: int) -> None:
        """Ask for a version to be read."""
        await self._jobs.enqueue(
            self._connection,
            kind=PARSE_JOB,
            key=document_id,
            tenant=tenant,
            payload={"document_id": document_id, "version": number},
        )

    async def cancel_parse_jobs(self, document_id: str) -> None:
        """Withdraw what was asked for a document."""
        await self._jobs.cancel(self._connection, document_id)

    async def complete(self, job: Job) -> None:
        """Note that a job is done."""
        await self._jobs.complete(self._connection, job)

    async def announce(self, tenant: str, fact: Fact) -> None:
        """Tell other rooms once this transaction is kept."""
        kind, payload = encoded(fact)
        envelope = new_envelope(tenant=tenant, type=kind, key=fact.document_id, payload=payload)
        await self._outbox.add(self._connection, DOCUMENT_TOPIC, envelope)

    async def _hold(self, *conditions: ColumnElement[bool]) -> None:
        """Wait until nobody else changes the documents, and keep others from it.

        In a statement of its own: a query with its join, which waited, would still see the newest version of before.
        """
        query = select(documents.c.document_id).where(*conditions).order_by(documents.c.document_id)
        await hold(self._connection, query.with_for_update())

    async def _alter(self, *conditions: ColumnElement[bool], **values: Any) -> bool:
        """Change a document that is not on its way out; return whether there was one as the conditions say."""
        alive = documents.c.deleting.is_(False)
        changed = await self._connection.execute(update(documents).where(*conditions, alive).values(values))
        return changed.rowcount > 0

    async def _count(self, table: Table, condition: Any) -> int:
        return int((await self.rows(select(func.count()).select_from(table).where(condition)))[0][0])

    async def _put_principals(self, document_id: str, names: Sequence[str]) -> None:
        await self._connection.execute(delete(principals).where(principals.c.document_id == document_id))
        if names:
            rows = [{"document_id": document_id, "principal": name} for name in names]
            await self._connection.execute(insert(principals), rows)

    async def _put_new(self, table: Table, row: dict[str, Any]) -> None:
        """Add a row unless it is there."""
        await self._connection.execute(upsert(self._connection, table).values(row).on_conflict_do_nothing())
