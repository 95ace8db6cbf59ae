"""The room's records as read from a database (SQLAlchemy Core; SQLite and PostgreSQL)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Executable, Row, Select, func, or_, select, union

from services.chassis.errors import InvalidInput
from services.ingestion.backends.rows import (
    batch_of,
    collection_of,
    deletion_of,
    document_of,
    document_query,
    file_of,
    is_newest,
    version_of,
)
from services.ingestion.backends.tables import (
    batch_documents,
    batches,
    collections,
    contents,
    deletions,
    documents,
    files,
    principals,
    versions,
)
from services.ingestion.domain.batches import FileBatch
from services.ingestion.domain.collections import Collection, CollectionUse
from services.ingestion.domain.deletion import Deletion
from services.ingestion.domain.documents import Document, DocumentQuery, DocumentState, Page, Version
from services.ingestion.domain.files import File

__all__ = ["Records"]

_DAY_S = 86_400
# Values in one IN list; databases limit the parameters of a statement.
_IN = 500
_USE_FIELD = {DocumentState.INDEXED: "indexed", DocumentState.FAILED: "failed", DocumentState.CANCELLED: "cancelled"}


class Records(ABC):
    """Reads records; what a subclass adds is the connection that it reads through."""

    @abstractmethod
    async def rows(self, query: Executable) -> Sequence[Row[Any]]:
        """Return the rows that a query finds."""

    async def first(self, query: Select[Any]) -> Row[Any] | None:
        """Return the first row that a query finds."""
        rows = await self.rows(query.limit(1))
        return rows[0] if rows else None

    async def file(self, tenant: str, file_id: str) -> File | None:
        """Return a file."""
        row = await self.first(select(files).where(files.c.tenant == tenant, files.c.file_id == file_id))
        return None if row is None else file_of(row)

    async def files(self, tenant: str, page: Page, *, owner: str | None, purpose: str) -> list[File]:
        """Return files of their own."""
        query = select(files).where(files.c.tenant == tenant, files.c.document_id.is_(None))
        if owner is not None:
            query = query.where(files.c.owner == owner)
        if purpose:
            query = query.where(files.c.purpose == purpose)
        return [file_of(row) for row in await self._page(query, files.c.file_id, page)]

    async def expired_files(self, now: float) -> list[File]:
        """Return files whose time has come."""
        return [file_of(row) for row in await self.rows(select(files).where(files.c.expires_at <= now).limit(_IN))]

    async def collection(self, tenant: str, collection_id: str) -> Collection | None:
        """Return a collection, without its use."""
        row = await self.first(
            select(collections).where(collections.c.tenant == tenant, collections.c.collection_id == collection_id)
        )
        return None if row is None else collection_of(row, CollectionUse())

    async def collection_use(self, collection_id: str) -> CollectionUse:
        """Return what a collection holds."""
        return (await self._use([collection_id]))[collection_id]

    async def collections(self, tenant: str, page: Page, *, name: str) -> list[Collection]:
        """Return collections with their use."""
        query = select(collections).where(collections.c.tenant == tenant)
        if name:
            query = query.where(collections.c.name == name)
        rows = await self._page(query, collections.c.collection_id, page)
        use = await self._use([row.collection_id for row in rows])
        return [collection_of(row, use[row.collection_id]) for row in rows]

    async def expired_collections(self, now: float) -> list[Collection]:
        """Return collections that expired."""
        columns = collections.c
        over = (columns.expires_after_days > 0) & (columns.last_active_at + columns.expires_after_days * _DAY_S <= now)
        rows = await self.rows(select(collections).where(over).limit(_IN))
        return [collection_of(row, CollectionUse()) for row in rows]

    async def document(self, tenant: str, document_id: str) -> Document | None:
        """Return a document."""
        return await self._document(documents.c.tenant == tenant, documents.c.document_id == document_id)

    async def document_by_key(self, tenant: str, collection_id: str, key: str) -> Document | None:
        """Return the document that holds a key."""
        return await self._document(
            documents.c.tenant == tenant, documents.c.collection_id == collection_id, documents.c.live_key == key
        )

    async def document_of_file(self, tenant: str, collection_id: str, file_id: str) -> Document | None:
        """Return the document whose newest version is made of a file."""
        return await self._document(
            documents.c.tenant == tenant,
            documents.c.collection_id == collection_id,
            documents.c.deleting.is_(False),
            versions.c.file_id == file_id,
        )

    async def documents_of_file(self, tenant: str, file_id: str) -> list[Document]:
        """Return the documents whose newest or searchable version is made of a file."""
        made = (
            select(versions.c.document_id)
            .join(documents, documents.c.document_id == versions.c.document_id)
            .where(
                versions.c.tenant == tenant,
                versions.c.file_id == file_id,
                or_(versions.c.number == documents.c.newest_version, versions.c.number == documents.c.active_version),
            )
        )
        query = document_query().where(
            documents.c.tenant == tenant, documents.c.deleting.is_(False), documents.c.document_id.in_(made)
        )
        return [document_of(row) for row in await self.rows(query.order_by(documents.c.document_id))]

    async def documents(self, tenant: str, collection_id: str, query: DocumentQuery) -> list[Document]:
        """Return documents of a collection."""
        statement = document_query().where(documents.c.tenant == tenant, documents.c.collection_id == collection_id)
        for condition in _conditions(query):
            statement = statement.where(condition)
        page = await self._with_document_ids(tenant, collection_id, query.page)
        return [document_of(row) for row in await self._page(statement, documents.c.document_id, page)]

    async def documents_in(self, tenant: str, collection_id: str) -> list[Document]:
        """Return every document of a collection."""
        query = document_query().where(
            documents.c.tenant == tenant,
            documents.c.collection_id == collection_id,
            documents.c.deleting.is_(False),
        )
        return [document_of(row) for row in await self.rows(query.order_by(documents.c.document_id))]

    async def version(self, document_id: str, number: int) -> Version | None:
        """Return one version."""
        row = await self.first(
            select(versions).where(versions.c.document_id == document_id, versions.c.number == number)
        )
        return None if row is None else version_of(row)

    async def deletion(self, tenant: str, document_id: str) -> Deletion | None:
        """Return the receipt of a deletion."""
        row = await self.first(
            select(deletions).where(deletions.c.tenant == tenant, deletions.c.document_id == document_id)
        )
        return None if row is None else deletion_of(row)

    async def batch(self, tenant: str, batch_id: str) -> FileBatch | None:
        """Return a batch with its use."""
        row = await self.first(select(batches).where(batches.c.tenant == tenant, batches.c.batch_id == batch_id))
        if row is None:
            return None
        states = (
            select(batch_documents.c.batch_id.label("owner_id"), versions.c.state, documents.c.active_version)
            .join(documents, documents.c.document_id == batch_documents.c.document_id)
            .join(versions, is_newest())
            .where(batch_documents.c.batch_id == batch_id, documents.c.deleting.is_(False))
        ).subquery()
        return batch_of(row, (await self._counted(states, [batch_id]))[batch_id])

    async def batch_documents(self, tenant: str, batch_id: str) -> list[Document]:
        """Return the documents of a batch."""
        members = select(batch_documents.c.document_id).where(batch_documents.c.batch_id == batch_id)
        query = document_query().where(
            documents.c.tenant == tenant, documents.c.deleting.is_(False), documents.c.document_id.in_(members)
        )
        return [document_of(row) for row in await self.rows(query.order_by(documents.c.document_id))]

    async def tenants(self) -> list[str]:
        """Return every tenant that keeps something."""
        named = union(select(files.c.tenant), select(documents.c.tenant), select(contents.c.tenant))
        return sorted(row.tenant for row in await self.rows(named))

    async def unknown_documents(self, document_ids: Sequence[str]) -> set[str]:
        """Return those of the ids that no document has."""
        return set(document_ids) - await self.among(documents.c.document_id, document_ids)

    async def among(self, column: Column[str], values: Sequence[str], *conditions: ColumnElement[bool]) -> set[str]:
        """Return those of the values that a column holds."""
        found: set[str] = set()
        for start in range(0, len(values), _IN):
            some = values[start : start + _IN]
            found |= {row[0] for row in await self.rows(select(column).where(column.in_(some), *conditions))}
        return found

    async def _document(self, *conditions: ColumnElement[bool]) -> Document | None:
        row = await self.first(document_query().where(*conditions))
        return None if row is None else document_of(row)

    async def _use(self, collection_ids: Sequence[str]) -> dict[str, CollectionUse]:
        """Return what collections hold."""
        states = (
            select(documents.c.collection_id.label("owner_id"), versions.c.state, documents.c.active_version)
            .join(versions, is_newest())
            .where(documents.c.collection_id.in_(collection_ids), documents.c.deleting.is_(False))
        ).subquery()
        use = await self._counted(states, collection_ids)
        active = (
            select(documents.c.collection_id, func.sum(versions.c.size_bytes).label("total"))
            .join(
                versions,
                (versions.c.document_id == documents.c.document_id) & (versions.c.number == documents.c.active_version),
            )
            .where(documents.c.collection_id.in_(collection_ids), documents.c.deleting.is_(False))
            .group_by(documents.c.collection_id)
        )
        for row in await self.rows(active) if collection_ids else ():
            held = use[row.collection_id]
            use[row.collection_id] = CollectionUse(
                held.in_progress, held.indexed, held.failed, held.cancelled, int(row.total)
            )
        return use

    async def _counted(self, states: Any, owners: Sequence[str]) -> dict[str, CollectionUse]:
        """Count documents by owner (a collection or a batch) and state."""
        counts: dict[str, dict[str, int]] = {owner: {} for owner in owners}
        query = select(states.c.owner_id, states.c.state, func.count().label("number")).group_by(
            states.c.owner_id, states.c.state
        )
        for row in await self.rows(query) if owners else ():
            field = _USE_FIELD.get(DocumentState(row.state), "in_progress")
            counts[row.owner_id][field] = counts[row.owner_id].get(field, 0) + row.number
        return {owner: CollectionUse(**fields) for owner, fields in counts.items()}

    async def _page(self, query: Select[Any], identity: Any, page: Page) -> list[Row[Any]]:
        """Return one page, and one row more where more follow. Ids sort by time."""
        if page.after:
            query = query.where(identity > page.after if page.ascending else identity < page.after)
        if page.before:
            query = query.where(identity < page.before if page.ascending else identity > page.before)
        # What ends before an id is read backwards from it, so that it is the page next to it.
        backwards = bool(page.before) and not page.after
        upwards = page.ascending != backwards
        rows = list(
            await self.rows(query.order_by(identity.asc() if upwards else identity.desc()).limit(page.limit + 1))
        )
        if not backwards:
            return rows
        more = rows[page.limit :]
        return [*reversed(rows[: page.limit]), *more]

    async def _with_document_ids(self, tenant: str, collection_id: str, page: Page) -> Page:
        """Return the page with file ids in its marks replaced by the ids of their documents."""

        async def document_id(mark: str, param: str) -> str:
            if not mark.startswith("file-"):
                return mark
            found = await self.document_of_file(tenant, collection_id, mark)
            if found is None:
                raise InvalidInput(f"{param}: {mark!r} is not in the collection.", param=param)
            return found.document_id

        after, before = await document_id(page.after, "after"), await document_id(page.before, "before")
        return Page(page.limit, after, before, page.ascending)


def _conditions(query: DocumentQuery) -> list[ColumnElement[bool]]:
    """Return what a query asks for as SQL."""
    found: list[ColumnElement[bool]] = []
    states = [state.value for state in query.states if state is not DocumentState.DELETING]
    wanted: list[ColumnElement[bool]] = []
    if states or not query.states:
        alive = documents.c.deleting.is_(False)
        wanted.append(alive & versions.c.state.in_(states) if states else alive)
    if DocumentState.DELETING in query.states:
        wanted.append(documents.c.deleting.is_(True))
    found.append(or_(*wanted))
    if query.file_ids:
        found.append(versions.c.file_id.in_(query.file_ids))
    if query.key_prefix:
        # Not LIKE: SQLite's ignores case.
        found.append(func.substr(documents.c.key, 1, len(query.key_prefix)) == query.key_prefix)
    if query.name_contains:
        found.append(versions.c.names.contains(query.name_contains.casefold(), autoescape=True))
    if query.visible_to is not None:
        shared = select(principals.c.document_id).where(principals.c.principal.in_(query.visible_to))
        found.append(or_(documents.c.owner == query.owner, documents.c.document_id.in_(shared)))
    return found
