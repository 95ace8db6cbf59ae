"""The room's part of an installation: the register goes with the tables, the chunks with their vectors beside them."""

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlalchemy import Select, and_, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from brain.events.v1.index_pb2 import DocumentRemoved, IndexEvent, VersionIndexed
from services.chassis.database import Database
from services.chassis.errors import Conflict, InvalidInput, Unavailable
from services.chassis.events.log import new_envelope
from services.chassis.events.outbox import Outbox
from services.chassis.moving.part import Arrival, Tell
from services.retrieval.backends.index_table import index_values
from services.retrieval.backends.register import INDEX_TOPIC
from services.retrieval.backends.row_file import RowFile, read_rows
from services.retrieval.backends.tables import documents, indexes, outbox, versions
from services.retrieval.domain import Analyser, ChunkRow, IndexRecord, IndexState, alike, attribute_terms
from services.retrieval.ports import Index

__all__ = ["IndexBaggage", "settle"]

_FILE: Final = "chunks.parquet"
# What an analyser makes of this tells it from another one.
_SAMPLE: Final = "Renewing the POL-12 policies, 401(k) isn't naïve: r&d über café's v1.2 l’été 東京 data_set ﬁnal"
# Documents counted in one question.
_COUNTED: Final = 500


@dataclass(frozen=True, slots=True)
class _Active:
    """What the register says of a document that can be found."""

    version: int
    chunk_count: int
    principals: tuple[str, ...]
    access_revision: int
    attributes: Mapping[str, str | float | bool]
    live: bool


class IndexBaggage:
    """The chunks of all active versions.

    Args:
        database: The room's database.
        index: Where the chunks are.
        record: What is known of that index, and of the embedder whose vectors it holds.
        closing: Lets go of both.
    """

    def __init__(
        self, database: Database, index: Index, record: IndexRecord, *, closing: Callable[[], Awaitable[None]]
    ) -> None:
        self._database = database
        self._index = index
        self._record = record
        self._makes = {
            "embedder": record.digest,
            "dimension": record.dimension,
            "analyser": hashlib.sha256(Analyser().search_text(_SAMPLE).encode()).hexdigest(),
        }
        self._dimension = record.dimension
        self._closing = closing
        self._active: dict[tuple[str, str], _Active] = {}

    async def close(self) -> None:
        """Let go of index and database."""
        await self._closing()

    async def note(self, connection: AsyncConnection) -> None:
        """Remember which versions are active."""
        rows = await connection.stream(_active_rows(), execution_options={"yield_per": 1_000})
        self._active = {
            (row.tenant, row.document_id): _Active(
                row.active_version,
                row.chunk_count,
                tuple(row.principals),
                row.access_revision,
                row.attributes,
                not row.withheld,
            )
            async for row in rows
        }

    async def pack(self, folder: Path, tell: Tell) -> dict[str, Any]:
        """Write the chunks of the active versions, with the rights and attributes that the register knows.

        Raises:
            Conflict: The index does not hold every chunk of a version that is active.
        """
        found = dict.fromkeys(self._active, 0)
        total, done = sum(one.chunk_count for one in self._active.values()), 0
        tenants = sorted({tenant for tenant, _ in self._active})
        with RowFile(folder / _FILE, dimension=self._dimension) as file:
            for tenant in tenants:
                async for batch in self._index.scan(tenant):
                    rows = [row for one in batch if (row := self._carried(one)) is not None]
                    for row in rows:
                        found[row.tenant, row.document_id] += 1
                    file.write(rows)
                    done += len(rows)
                    tell("chunks", done, total)
        missing = [key for key, one in self._active.items() if found[key] != one.chunk_count]
        moved = await self._moved(missing)
        return self._makes | {
            "model": self._record.model,
            "probes": self._record.probes.tolist(),
            "chunks": done,
            "documents": len(self._active) - len(moved),
            "tenants": tenants,
            "moved": sorted(moved),
        }

    async def check(self, said: dict[str, Any]) -> None:
        """See that the index holds nothing of the archive's tenants."""
        for tenant in said["tenants"]:
            async for _ in self._index.scan(tenant):
                raise Conflict(
                    f"retrieval: the index of the target holds chunks of the tenant {tenant!r}, and an import needs an "
                    "empty index. Import into another folder or another collection (docs/moving.md)."
                )

    async def unpack(self, folder: Path, said: dict[str, Any], tell: Tell) -> dict[str, Any]:
        """Write the chunks as they are, unless other vectors are made here: then documents must be embedded anew.

        Raises:
            InvalidInput: The file cannot be read.
            Unavailable: The index is away, or did not keep every chunk.
        """
        same = all(said[name] == value for name, value in self._makes.items())
        if not same or not alike(np.asarray(said["probes"], np.float32), self._record.probes):
            return {"chunks": 0, "rebuild": True}
        written: dict[str, dict[str, int]] = {tenant: {} for tenant in said["tenants"]}
        done = 0
        for rows in read_rows(folder / _FILE, dimension=self._dimension):
            await self._index.write(rows)
            for row in rows:
                written[row.tenant][row.document_id] = written[row.tenant].get(row.document_id, 0) + 1
            done += len(rows)
            tell("chunks", done, said["chunks"])
        for tenant, counted in written.items():
            await self._count(tenant, counted)
        if done != said["chunks"]:
            raise InvalidInput(f"{folder / _FILE} holds {done} chunks where {said['chunks']} are announced.")
        return {"chunks": done, "rebuild": False}

    def _carried(self, row: ChunkRow) -> ChunkRow | None:
        """Return a chunk as the register would have it; None for one of another version than the active one."""
        known = self._active.get((row.tenant, row.document_id))
        if known is None or known.version != row.version:
            return None
        return replace(
            row,
            live=known.live,
            principals=known.principals,
            access_revision=known.access_revision,
            attribute_terms=attribute_terms(known.attributes),
        )

    async def _moved(self, missing: list[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return the documents whose chunks went because they were replaced or removed while these were read.

        Raises:
            Conflict: There is another reason.
        """
        if not missing:
            return set()
        async with self._database.connect() as connection:
            rows = await connection.execute(_active_rows())
            now = {(row.tenant, row.document_id): row.active_version for row in rows}
        for key in missing:
            if now.get(key) == self._active[key].version:
                raise Conflict(
                    f"retrieval: the index does not hold every chunk of document {key[1]} of tenant {key[0]!r}; upload the "
                    "document again, or delete it, before you export."
                )
        return set(missing)

    async def _count(self, tenant: str, written: Mapping[str, int]) -> None:
        names = list(written)
        for first in range(0, len(names), _COUNTED):
            counts = await self._index.counts(tenant, names[first : first + _COUNTED])
            held = {document: count for (document, _), count in counts.items()}
            for name in names[first : first + _COUNTED]:
                if held.get(name) != written[name]:
                    raise Unavailable("The index does not hold every chunk that was written.", private=name)


async def settle(connection: AsyncConnection, arrival: Arrival, *, first_index: str) -> None:
    """Say whose vectors the index holds, and again what it holds: who waits for that may not have heard.

    Documents that come without chunks are active no more; they are found again when they were announced and indexed.

    Args:
        connection: In the transaction that loads the tables.
        arrival: What came.
        first_index: Name of an installation's first index.

    Raises:
        InvalidInput: The chunks are not those of the register.
    """
    box = Outbox(outbox)
    columns = documents.c
    if arrival.rebuild:
        await connection.execute(update(documents).values(active_version=0))
    else:
        said = arrival.baggage
        probes = np.asarray(said["probes"], np.float32)
        record = IndexRecord(
            first_index, said["embedder"], said["model"], said["dimension"], probes, IndexState.LIVE, time.time()
        )
        await connection.execute(insert(indexes).values(index_values(record)))
    for tenant, document_id in arrival.baggage["moved"]:
        its = and_(columns.tenant == tenant, columns.document_id == document_id)
        await connection.execute(update(documents).where(its).values(active_version=0))
    active = (await connection.execute(_active_rows())).all()
    if not arrival.rebuild and len(active) != arrival.baggage["documents"]:
        raise InvalidInput("retrieval: the chunks of the archive are not those of its tables.")
    facts = [
        (
            row,
            IndexEvent(
                version_indexed=VersionIndexed(
                    document_id=row.document_id, version=row.active_version, chunk_count=row.chunk_count
                )
            ),
        )
        for row in active
    ]
    gone = (await connection.execute(select(documents).where(columns.removal_announced))).all()
    facts += [
        (
            row,
            IndexEvent(
                document_removed=DocumentRemoved(
                    document_id=row.document_id, removed_count=row.removed_count, remaining_count=0
                )
            ),
        )
        for row in gone
    ]
    for row, event in facts:
        kind = event.WhichOneof("fact") or ""
        payload = event.SerializeToString()
        envelope = new_envelope(tenant=row.tenant, type=kind, key=row.document_id, payload=payload)
        await box.add(connection, INDEX_TOPIC, envelope)


def _active_rows() -> Select[Any]:
    """Return the query for documents that have an active version, with the number of its chunks."""
    same = and_(
        versions.c.tenant == documents.c.tenant,
        versions.c.document_id == documents.c.document_id,
        versions.c.version == documents.c.active_version,
    )
    return (
        select(documents, versions.c.chunk_count)
        .select_from(documents.join(versions, same))
        .where(documents.c.active_version > 0, documents.c.removed.is_(False))
    )
