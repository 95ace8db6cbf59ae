"""Each room's migrations make the tables that its back ends write to, on SQLite and on PostgreSQL."""

from importlib import resources
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text

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


async def test_versions_from_before_say_where_their_chunks_lie(database_url: str) -> None:
    database = Database(database_url)
    await _migrate_to(database, "services.retrieval.migrations", "0001")
    keys = {"doc_1": "acme/text/doc_1/3.txt", "doc_2": "elsewhere/doc_2.txt"}
    async with database.begin() as connection:
        for document_id, key in keys.items():
            await connection.execute(
                text(
                    "INSERT INTO versions (tenant, document_id, version, file_id, filename, title, text_blob_key, chunk_count) "
                    "VALUES ('acme', :document_id, 3, 'file-1', 'a.md', 'A', :key, 1)"
                ),
                {"document_id": document_id, "key": key},
            )
    await migrate(database, "services.retrieval.migrations")
    async with database.connect() as connection:
        found = await connection.execute(text("SELECT document_id, chunks_blob_key FROM versions ORDER BY document_id"))
        assert [tuple(row) for row in found] == [("doc_1", "acme/chunks/doc_1/3.pb"), ("doc_2", "")]
    await database.close()


async def _migrate_to(database: Database, package: str, revision: str) -> None:
    """Bring tables to an earlier version, as a release of that time left them."""
    with resources.as_file(resources.files(package)) as folder:
        script = ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])

        def upgrade(connection: Connection) -> None:
            def steps(now: Any, _context: MigrationContext) -> Any:
                return script._upgrade_revs(revision, now)

            config = Config()
            with EnvironmentContext(config, script, fn=steps) as environment:
                environment.configure(connection=connection, render_as_batch=True)
                with environment.begin_transaction():
                    environment.run_migrations()

        async with database.migrating() as connection:
            await connection.run_sync(upgrade)
