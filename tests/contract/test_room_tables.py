"""Each room's migrations make the tables that its back ends write to, on SQLite and on PostgreSQL."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, inspect

import gateway.backends.tables
import services.chat.backends.tables
import services.finetuning.backends.tables
import services.generation.backends.adapter_table
import services.ingestion.backends.tables
import services.retrieval.backends.tables
from services.chassis.database import Database, migrate

ROOMS: dict[str, MetaData] = {
    "gateway": gateway.backends.tables.metadata,
    "services.chat": services.chat.backends.tables.metadata,
    "services.finetuning": services.finetuning.backends.tables.METADATA,
    "services.generation": services.generation.backends.adapter_table.METADATA,
    "services.ingestion": services.ingestion.backends.tables.metadata,
    "services.retrieval": services.retrieval.backends.tables.metadata,
}


@pytest.mark.parametrize("room", ROOMS)
async def test_the_migrations_make_the_tables(room: str, database_url: str) -> None:
    database = Database(database_url)
    await migrate(database, f"{room}.migrations")

    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), ROOMS[room]))

    def lengths(connection: Connection) -> list[str]:
        found = inspect(connection)
        return [
            f"{table}.{column['name']}"
            for table in ROOMS[room].tables
            for column in found.get_columns(table)
            if getattr(column["type"], "length", None)
        ]

    async with database.connect() as connection:
        assert await connection.run_sync(differences) == []
        # PostgreSQL would refuse what SQLite has always taken: lengths are checked where people are told of them.
        assert await connection.run_sync(lengths) == []
    await database.close()
