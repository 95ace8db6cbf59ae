"""What the room remembers of adapters over a restart, on SQLAlchemy."""

import time
from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from services.chassis.database import Database, upsert
from services.chassis.errors import Conflict
from services.generation.domain import AdapterFiles, Registration

__all__ = ["TRIALS", "SqlAdapterTable", "SqlTrialTable", "SqlWithheldTable"]

METADATA: Final = MetaData()
ADAPTERS: Final = Table(
    "adapters",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String, nullable=False),
    Column("name", String, nullable=False),
    Column("path", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("config_digest", String, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("tenant", "name"),
    sqlite_autoincrement=True,
)
WITHHELD: Final = Table(
    "withheld",
    METADATA,
    Column("tenant", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
TRIALS: Final = Table(
    "trials",
    METADATA,
    Column("content", String, primary_key=True),
    Column("tries", Integer, nullable=False),
    Column("tried_at", Float, nullable=False),
)
# A try that nobody ended counts for so long: an engine that ends every minute is noticed, and a power cut is forgiven.
_LATELY_S: Final = 3600


class SqlAdapterTable:
    """Remembers adapters that were registered by hand."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, registration: Registration) -> None:
        """Add an adapter."""
        files = registration.files
        row = {
            "tenant": registration.tenant,
            "name": registration.name,
            "path": files.path,
            "digest": files.digest,
            "config_digest": files.config_digest,
            "rank": files.rank,
            "size_bytes": files.size_bytes,
            "created_at": registration.created_at,
        }
        try:
            async with self._database.begin() as connection:
                await connection.execute(insert(ADAPTERS).values(row))
        except IntegrityError as error:
            raise Conflict(f"name: there is an adapter {registration.name!r} already.", param="name") from error

    async def remove(self, tenant: str, name: str) -> bool:
        """Remove an adapter."""
        async with self._database.begin() as connection:
            gone = await connection.execute(
                delete(ADAPTERS).where(ADAPTERS.c.tenant == tenant, ADAPTERS.c.name == name)
            )
            return bool(gone.rowcount)

    async def all(self) -> list[Registration]:
        """Return every adapter, oldest first."""
        async with self._database.connect() as connection:
            rows = await connection.execute(select(ADAPTERS).order_by(ADAPTERS.c.number))
            return [_registration(row) for row in rows]


class SqlWithheldTable:
    """Remembers adapters that are withheld."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, revisions: Mapping[str, int]) -> None:
        """Withhold adapters in one transaction."""
        async with self._database.begin() as connection:
            # In one order: two who do it wait for each other and do not block each other.
            for name, revision in sorted(revisions.items()):
                statement = upsert(connection, WITHHELD).values(tenant=tenant, name=name, revision=revision)
                await connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["tenant", "name"],
                        set_={"revision": revision},
                        where=WITHHELD.c.revision < revision,
                    )
                )

    async def remove(self, tenant: str, name: str) -> None:
        """Forget one."""
        async with self._database.begin() as connection:
            await connection.execute(delete(WITHHELD).where(WITHHELD.c.tenant == tenant, WITHHELD.c.name == name))

    async def all(self) -> dict[tuple[str, str], int]:
        """Return all of them."""
        async with self._database.connect() as connection:
            rows = await connection.execute(select(WITHHELD))
            return {(row.tenant, row.name): row.revision for row in rows}


class SqlTrialTable:
    """Remembers what the engine is being tried with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, content: str) -> int:
        """Note a try."""
        now = time.time()
        async with self._database.begin() as connection:
            row = (
                await connection.execute(select(TRIALS).where(TRIALS.c.content == content).with_for_update())
            ).one_or_none()
            tries = 1 if row is None or now - row.tried_at > _LATELY_S else row.tries + 1
            values = {"tries": tries, "tried_at": now}
            statement = upsert(connection, TRIALS).values(content=content, **values)
            await connection.execute(statement.on_conflict_do_update(index_elements=["content"], set_=values))
        return tries

    async def end(self, content: str) -> None:
        """Forget the tries."""
        async with self._database.begin() as connection:
            await connection.execute(delete(TRIALS).where(TRIALS.c.content == content))


def _registration(row: Any) -> Registration:
    created = row.created_at if row.created_at.tzinfo else row.created_at.replace(tzinfo=UTC)
    files = AdapterFiles(row.path, row.digest, row.config_digest, row.rank, row.size_bytes)
    return Registration(row.tenant, row.name, files, created)
