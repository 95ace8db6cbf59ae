"""The table of served adapters, on SQLAlchemy."""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, UniqueConstraint, delete, insert, select
from sqlalchemy.exc import IntegrityError

from services.chassis.database import Database
from services.chassis.errors import Conflict
from services.generation.domain import Adapter, AdapterFiles

__all__ = ["SqlAdapterTable"]

METADATA: Final = MetaData()
ADAPTERS: Final = Table(
    "adapters",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("path", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("tenant", "name"),
    # Numbers are never used again: the engine may still know the old one.
    sqlite_autoincrement=True,
)


class SqlAdapterTable:
    """Remembers served adapters in the room's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, name: str, files: AdapterFiles) -> Adapter:
        """Add an adapter and return it with its number."""
        now = datetime.now(UTC)
        row = {
            "tenant": tenant,
            "name": name,
            "path": files.path,
            "digest": files.digest,
            "rank": files.rank,
            "created_at": now,
        }
        try:
            async with self._database.begin() as connection:
                result = await connection.execute(insert(ADAPTERS).values(row))
        except IntegrityError as error:
            raise Conflict(f"name: there is an adapter {name!r} already.", param="name") from error
        key = result.inserted_primary_key
        assert key is not None
        return Adapter(int(key[0]), tenant, name, files, now)

    async def remove(self, tenant: str, name: str) -> Adapter | None:
        """Remove an adapter and return it."""
        mine = (ADAPTERS.c.tenant == tenant) & (ADAPTERS.c.name == name)
        async with self._database.begin() as connection:
            row = (await connection.execute(select(ADAPTERS).where(mine))).one_or_none()
            await connection.execute(delete(ADAPTERS).where(mine))
        return None if row is None else _adapter(row)

    async def all(self) -> list[Adapter]:
        """Return every adapter, oldest first."""
        async with self._database.connect() as connection:
            rows = await connection.execute(select(ADAPTERS).order_by(ADAPTERS.c.number))
            return [_adapter(row) for row in rows]


def _adapter(row: Any) -> Adapter:
    created = row.created_at if row.created_at.tzinfo else row.created_at.replace(tzinfo=UTC)
    return Adapter(row.number, row.tenant, row.name, AdapterFiles(row.path, row.digest, row.rank), created)
