"""The migrations make the tables that the back ends write to, and keep what was there."""

from datetime import UTC, datetime
from typing import Any

import orjson
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from services.chassis.database import Database, migrate
from services.chat.backends.database import SqlRecords
from services.chat.backends.tables import metadata

# A receipt as it was kept before receipts named the model that was asked for.
BEFORE: dict[str, Any] = {
    "id": "rcpt_1", "response_id": "resp_1", "conversation_id": "", "tenant": "acme", "owner": "anna",
    "created_at": "2026-01-01T00:00:00+00:00", "model": "base", "instructions": "", "history": [], "question": "Q?",
    "standalone": "Q?", "answer": "A.", "queries": [], "method": "none", "sources": [], "citations": [],
    "prompt_hash": "ab", "prompt_version": "2", "grounded": False, "strict": True, "sampling": {"stop": []},
    "usage": {}, "abstention": "none", "timings": {}, "trimmed": [], "collection_ids": [], "support": 0.0,
}  # fmt: skip


async def test_the_migrations_make_the_tables() -> None:
    database = Database("sqlite://")
    await migrate(database, "services.chat.migrations")

    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.connect() as connection:
        found = await connection.run_sync(differences)
    await database.close()
    assert [one for one in found if "alembic_version" not in str(one)] == []


async def test_receipts_of_before_are_still_read() -> None:
    database = Database("sqlite://")
    await migrate(database, "services.chat.migrations")
    async with database.begin() as connection:
        await connection.execute(
            text("INSERT INTO receipts VALUES ('rcpt_1', 'acme', 'anna', '', :at, :body)"),
            {"at": str(datetime(2026, 1, 1, tzinfo=UTC)), "body": orjson.dumps(BEFORE)},
        )
    records = SqlRecords(database, on_kept=lambda: None)
    receipt = await records.receipt("rcpt_1", tenant="acme")
    await database.close()
    assert receipt is not None
    assert (receipt.model, receipt.asked_model) == ("base", "")
