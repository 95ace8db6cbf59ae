"""What was kept by versions of before is still read."""

from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import text

from services.chassis.database import Database, migrate
from services.chat.backends.database import SqlRecords

# A receipt as it was kept before receipts named the model that was asked for.
BEFORE: dict[str, Any] = {
    "id": "rcpt_1", "response_id": "resp_1", "conversation_id": "", "tenant": "acme", "owner": "anna",
    "created_at": "2026-01-01T00:00:00+00:00", "model": "base", "instructions": "", "history": [], "question": "Q?",
    "standalone": "Q?", "answer": "A.", "queries": [], "method": "none", "sources": [], "citations": [],
    "prompt_hash": "ab", "prompt_version": "2", "grounded": False, "strict": True, "sampling": {"stop": []},
    "usage": {}, "abstention": "none", "timings": {}, "trimmed": [], "collection_ids": [], "support": 0.0,
}  # fmt: skip


async def test_receipts_of_before_are_still_read(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database, "services.chat.migrations")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    # What SQLAlchemy writes for SQLite, which has no type for moments.
    at = str(moment) if database_url.startswith("sqlite") else moment
    async with database.begin() as connection:
        await connection.execute(
            text("INSERT INTO receipts VALUES ('rcpt_1', 'acme', 'anna', '', :at, :body)"),
            {"at": at, "body": orjson.dumps(BEFORE)},
        )
    records = SqlRecords(database, on_kept=lambda: None)
    receipt = await records.receipt("rcpt_1", tenant="acme")
    await database.close()
    assert receipt is not None
    assert (receipt.model, receipt.asked_model) == ("base", "")
