"""The table of indexes in the room's database."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database, upsert
from services.chassis.errors import Conflict
from services.retrieval.backends.document_rows import document_states, state_of
from services.retrieval.backends.tables import documents, index_documents, indexes
from services.retrieval.domain import DocumentState, IndexRecord, IndexState, PendingDocument

__all__ = ["SqlIndexTable", "index_values"]

# Parameters that every database takes in one statement; a document has two.
_SLICE: Final = 200
_SEARCHABLE: Final = and_(documents.c.active_version > 0, ~documents.c.withheld, ~documents.c.removed)
_KEY: Final = ("index_name", "tenant", "document_id")


class SqlIndexTable:
    """Which index is live, which is being built and what that one holds.

    Args:
        database: The room's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def records(self) -> list[IndexRecord]:
        """Return all indexes."""
        async with self._database.connect() as connection:
            return [_record(row) for row in await connection.execute(select(indexes))]

    async def has_documents(self) -> bool:
        """Return whether any document was ever indexed."""
        async with self._database.connect() as connection:
            return bool(await connection.scalar(select(exists().where(documents.c.active_version > 0))))

    async def enter(self, record: IndexRecord) -> None:
        """Note the first index."""
        async with self._database.begin() as connection:
            await connection.execute(upsert(connection, indexes).values(index_values(record)).on_conflict_do_nothing())

    async def build(self, record: IndexRecord, *, holder: str, lease_s: float) -> bool:
        """Note that an index is being built, or go on with one whose builder is gone; return False while one is there."""
        now = time.time()
        async with self._database.begin() as connection:
            await connection.execute(
                upsert(connection, indexes)
                .values(index_values(record) | {"held_by": holder, "held_until": now + lease_s})
                .on_conflict_do_nothing()
            )
            rows = {
                row.state: row
                for row in await connection.execute(select(indexes).order_by(indexes.c.name).with_for_update())
            }
            building, old = rows.get(IndexState.BUILDING), rows.get(IndexState.OLD)
            if old is not None:
                raise Conflict(
                    f"The old index {old.name} is still kept; remove it first with "
                    "`python -m services.retrieval reembed --drop-old`."
                )
            if building is None or building.name != record.name:
                there = "none" if building is None else f"{building.name}, for {building.model},"
                raise Conflict(
                    f"Index {there} is being built; let that end, or remove it with "
                    "`python -m services.retrieval reembed --abandon`."
                )
            if building.held_by != holder and building.held_until > now:
                return False
            await connection.execute(
                update(indexes).where(indexes.c.name == record.name).values(held_by=holder, held_until=now + lease_s)
            )
        return True

    async def renew(self, name: str, *, holder: str, lease_s: float) -> None:
        """Keep the index for another `lease_s`."""
        async with self._database.begin() as connection:
            changed = await connection.execute(
                update(indexes)
                .where(indexes.c.name == name, indexes.c.held_by == holder)
                .values(held_until=time.time() + lease_s)
            )
            if changed.rowcount != 1:
                raise _lost(name)

    async def pending(self, name: str, after: PendingDocument | None, limit: int) -> list[PendingDocument]:
        """Return searchable documents that the index does not hold as they are now."""
        place = tuple_(documents.c.tenant, documents.c.document_id)
        query = (
            select(documents.c.tenant, documents.c.document_id)
            .select_from(_joined(name))
            .where(_SEARCHABLE, _is_pending())
            .order_by(documents.c.tenant, documents.c.document_id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(place > tuple_(after.tenant, after.document_id))
        async with self._database.connect() as connection:
            return [PendingDocument(row.tenant, row.document_id) for row in await connection.execute(query)]

    async def count(self, name: str) -> tuple[int, int]:
        """Return how many documents are searchable, and how many of them are pending."""
        async with self._database.connect() as connection:
            every = await connection.scalar(select(func.count()).select_from(documents).where(_SEARCHABLE))
            return int(every or 0), await _count_pending(connection, name)

    async def states(self, places: Sequence[PendingDocument]) -> dict[PendingDocument, DocumentState]:
        """Return what is known of the documents now."""
        async with self._database.connect() as connection:
            return await _states(connection, places, lock=False)

    async def held_version(self, name: str, places: Sequence[PendingDocument]) -> dict[PendingDocument, int]:
        """Return which version of each document the index holds in full."""
        found: dict[PendingDocument, int] = {}
        async with self._database.connect() as connection:
            for part in _parts(places):
                rows = await connection.execute(
                    select(index_documents).where(_of(name, part), ~index_documents.c.writing)
                )
                found |= {PendingDocument(row.tenant, row.document_id): row.version for row in rows}
        return found

    async def begin_writing(
        self, name: str, versions: Mapping[PendingDocument, int], *, holder: str
    ) -> dict[PendingDocument, DocumentState]:
        """Note that chunks of these versions are about to be written."""
        async with self._database.begin() as connection:
            await _check_holder(connection, name, holder)
            # Locked: who removes a document either did so before, or finds the note below.
            states = await _states(connection, list(versions), lock=True)
            wanted = {
                place: state
                for place, state in states.items()
                if state.is_searchable and state.active_version == versions[place]
            }
            for place, state in wanted.items():
                values = {
                    "version": state.active_version,
                    "access_revision": state.access_revision,
                    "attributes_revision": state.attributes_revision,
                    "writing": True,
                }
                key = dict(zip(_KEY, (name, place.tenant, place.document_id), strict=True))
                await connection.execute(
                    upsert(connection, index_documents)
                    .values(**key, **values)
                    .on_conflict_do_update(index_elements=list(_KEY), set_=values)
                )
        return wanted

    async def end_writing(self, name: str, places: Sequence[PendingDocument]) -> list[PendingDocument]:
        """Note that the chunks are written; return the documents that were removed all the same."""
        gone: list[PendingDocument] = []
        async with self._database.begin() as connection:
            for place in places:
                changed = await connection.execute(
                    update(index_documents).where(_of(name, [place])).values(writing=False)
                )
                if changed.rowcount != 1:
                    gone.append(place)
        return gone

    async def interrupted(self, name: str) -> list[PendingDocument]:
        """Return the documents whose writing did not end."""
        query = select(index_documents).where(index_documents.c.index_name == name, index_documents.c.writing)
        async with self._database.connect() as connection:
            return [PendingDocument(row.tenant, row.document_id) for row in await connection.execute(query)]

    async def forget_documents(self, name: str, places: Sequence[PendingDocument]) -> None:
        """Forget what the index holds of the documents."""
        async with self._database.begin() as connection:
            for part in _parts(places):
                await connection.execute(delete(index_documents).where(_of(name, part)))

    async def is_being_written(self, tenant: str, document_id: str) -> bool:
        """Return whether somebody who is there writes the document's chunks at this moment."""
        query = select(
            exists().where(
                index_documents.c.tenant == tenant,
                index_documents.c.document_id == document_id,
                index_documents.c.writing,
                indexes.c.name == index_documents.c.index_name,
                indexes.c.held_until > time.time(),
            )
        )
        async with self._database.connect() as connection:
            return bool(await connection.scalar(query))

    async def switch(self, name: str, *, holder: str) -> int:
        """Make the index live and the live one old, if nothing is pending; return what is."""
        async with self._database.begin() as connection:
            # Held to the end: an activation that has read it is over, and the next one reads what stands here then.
            await connection.execute(select(indexes.c.name).where(indexes.c.state == IndexState.LIVE).with_for_update())
            await _check_holder(connection, name, holder)
            if left := await _count_pending(connection, name):
                return left
            now = time.time()
            for state, following in ((IndexState.LIVE, IndexState.OLD), (IndexState.BUILDING, IndexState.LIVE)):
                await connection.execute(
                    update(indexes)
                    .where(indexes.c.state == state)
                    .values(state=following, since=now, held_by="", held_until=0.0)
                )
            # What the live index holds is what the register says.
            await connection.execute(delete(index_documents).where(index_documents.c.index_name == name))
        return 0

    async def forget(self, name: str) -> None:
        """Forget an index that is gone."""
        async with self._database.begin() as connection:
            await connection.execute(delete(index_documents).where(index_documents.c.index_name == name))
            await connection.execute(delete(indexes).where(indexes.c.name == name))


def _joined(name: str) -> Any:
    return documents.outerjoin(
        index_documents,
        and_(
            index_documents.c.index_name == name,
            index_documents.c.tenant == documents.c.tenant,
            index_documents.c.document_id == documents.c.document_id,
        ),
    )


def _is_pending() -> ColumnElement[bool]:
    """Return the condition that the index does not hold a document as it is: never, half, or as it was."""
    return or_(
        index_documents.c.version.is_(None),
        index_documents.c.writing,
        index_documents.c.version != documents.c.active_version,
        index_documents.c.access_revision != documents.c.access_revision,
        index_documents.c.attributes_revision != documents.c.attributes_revision,
    )


async def _count_pending(connection: AsyncConnection, name: str) -> int:
    query = select(func.count()).select_from(_joined(name)).where(_SEARCHABLE, _is_pending())
    return int(await connection.scalar(query) or 0)


async def _check_holder(connection: AsyncConnection, name: str, holder: str) -> None:
    held = await connection.scalar(
        select(indexes.c.held_by)
        .where(indexes.c.name == name, indexes.c.state == IndexState.BUILDING)
        .with_for_update(read=True)
    )
    if held != holder:
        raise _lost(name)


async def _states(
    connection: AsyncConnection, places: Sequence[PendingDocument], *, lock: bool
) -> dict[PendingDocument, DocumentState]:
    found: dict[PendingDocument, DocumentState] = {}
    for part in _parts(places):
        query = (
            document_states()
            .where(tuple_(documents.c.tenant, documents.c.document_id).in_(_pairs(part)))
            .order_by(documents.c.tenant, documents.c.document_id)
        )
        rows = await connection.execute(query.with_for_update(of=documents) if lock else query)
        found |= {PendingDocument(row.tenant, row.document_id): state_of(row) for row in rows}
    return found


def _of(name: str, places: Iterable[PendingDocument]) -> ColumnElement[bool]:
    return and_(
        index_documents.c.index_name == name,
        tuple_(index_documents.c.tenant, index_documents.c.document_id).in_(_pairs(places)),
    )


def _pairs(places: Iterable[PendingDocument]) -> list[tuple[str, str]]:
    return [(place.tenant, place.document_id) for place in places]


def _parts(places: Sequence[PendingDocument]) -> list[Sequence[PendingDocument]]:
    return [places[first : first + _SLICE] for first in range(0, len(places), _SLICE)]


def index_values(record: IndexRecord) -> dict[str, Any]:
    """Return the columns of an index's row."""
    return {
        "name": record.name,
        "digest": record.digest,
        "model": record.model,
        "dimension": record.dimension,
        "probes": record.probes.astype("<f4").tobytes(),
        "state": record.state.value,
        "since": record.since,
    }


def _record(row: Row[Any]) -> IndexRecord:
    return IndexRecord(
        name=row.name,
        digest=row.digest,
        model=row.model,
        dimension=row.dimension,
        probes=np.frombuffer(row.probes, "<f4").reshape(-1, row.dimension),
        state=IndexState(row.state),
        since=row.since,
    )


def _lost(name: str) -> Conflict:
    return Conflict(
        f"Index {name} is not this process's to build any more: another one goes on with it, or it is gone."
    )
