"""What the room remembers of adapters over a restart."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.chassis.database import Database, migrate
from services.chassis.errors import Conflict
from services.generation.backends.adapter_table import SqlAdapterTable, SqlTrialTable, SqlWithheldTable
from services.generation.domain import AdapterFiles, Registration

AT = datetime(2026, 11, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await migrate(opened, "services.generation.migrations")
    yield opened
    await opened.close()


def registration(name: str, size_bytes: int = 5 * 1024**3) -> Registration:
    return Registration("acme", name, AdapterFiles("/adapters/hr", "d" * 64, "c" * 64, 8, size_bytes), AT)


async def test_adapters_come_back_as_they_were_in_their_order(database: Database) -> None:
    table = SqlAdapterTable(database)
    for name in ("zeta", "alpha"):
        await table.add(registration(name))
    assert await table.all() == [registration("zeta"), registration("alpha")]
    with pytest.raises(Conflict, match="zeta"):
        await table.add(registration("zeta"))
    assert await table.remove("acme", "zeta")
    assert not await table.remove("acme", "zeta")
    assert await table.all() == [registration("alpha")]


async def test_replicas_that_withhold_the_same_adapters_do_not_block_each_other(database: Database) -> None:
    table, names = SqlWithheldTable(database), [f"hr@{number}" for number in range(20)]
    for revision in range(1, 4):
        await asyncio.gather(
            table.add("acme", dict.fromkeys(names, revision)),
            table.add("acme", dict.fromkeys(reversed(names), revision)),
        )
    assert await table.all() == {("acme", name): 3 for name in names}
    await table.add("acme", {"hr@1": 2})
    assert (await table.all())["acme", "hr@1"] == 3


async def test_tries_of_replicas_are_counted_together(database: Database) -> None:
    trials = SqlTrialTable(database)
    assert await trials.begin("digest") == 1
    assert sorted(await asyncio.gather(*(trials.begin("digest") for _ in range(4)))) == [2, 3, 4, 5]
    await trials.end("digest")
    assert await trials.begin("digest") == 1
