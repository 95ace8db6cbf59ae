"""What a room's database promises, on SQLite and on PostgreSQL."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from services.chassis.database import Database, migrate, upsert
from services.chassis.errors import InvalidInput, Unavailable
from tests.fresh_databases import make_tables

FIRST = """
import sqlalchemy as sa
from alembic import op
revision = "0001"
down_revision = None
def upgrade():
    op.create_table("pots", sa.Column("name", sa.String, primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision = "0002"
down_revision = "0001"
def upgrade():
    op.add_column("pots", sa.Column("litres", sa.Integer))
"""
metadata = MetaData()
POTS = Table(
    "pots",
    metadata,
    Column("name", String, primary_key=True),
    Column("litres", Integer, nullable=False),
    Column("bytes", BigInteger),
    Column("at", Float),
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await make_tables(opened, metadata)
    yield opened
    await opened.close()


async def put(database: Database, name: str, litres: int) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(POTS).values(name=name, litres=litres))


async def litres(database: Database, name: str) -> int | None:
    async with database.connect() as connection:
        return await connection.scalar(select(POTS.c.litres).where(POTS.c.name == name))


async def test_what_a_block_did_is_there_after_it(database: Database) -> None:
    await put(database, "big", 9)
    assert await litres(database, "big") == 9


async def test_a_failed_block_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError, match="spilled"):
        async with database.begin() as connection:
            await connection.execute(insert(POTS).values(name="big", litres=9))
            raise RuntimeError("spilled")
    assert await litres(database, "big") is None


async def test_a_cancelled_block_leaves_nothing_and_holds_nothing(database: Database) -> None:
    begun = asyncio.Event()

    async def stuck() -> None:
        async with database.begin() as connection:
            await connection.execute(insert(POTS).values(name="big", litres=9))
            begun.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(stuck())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await put(database, "big", 1)
    assert await litres(database, "big") == 1


async def test_who_is_cancelled_while_the_database_works_is_cancelled(database: Database) -> None:
    await put(database, "big", 1)
    tasks = []
    async with database.begin() as connection:
        await connection.execute(update(POTS).values(litres=2))
        # They wait for this transaction, each for a moment longer.
        for number in range(5):
            tasks.append(asyncio.create_task(put(database, "big", 3)))
            await asyncio.sleep(0.01 * number)
            tasks[-1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError] * 5
    assert await litres(database, "big") == 2


async def test_a_reader_sees_one_moment(database: Database) -> None:
    await put(database, "big", 1)
    query = select(POTS.c.litres).where(POTS.c.name == "big")
    async with database.connect() as reader:
        before = await reader.scalar(query)
        async with database.begin() as connection:
            await connection.execute(update(POTS).values(litres=2))
        assert await reader.scalar(query) == before == 1
    assert await litres(database, "big") == 2


@pytest.mark.parametrize("alone", [False, True])
async def test_writers_who_hold_what_they_read_wait_for_each_other(database: Database, alone: bool) -> None:
    await put(database, "big", 0)

    async def pour() -> None:
        async with database.begin(alone=alone) as connection:
            query = select(POTS.c.litres).where(POTS.c.name == "big")
            before = await connection.scalar(query if alone else query.with_for_update())
            await connection.execute(update(POTS).values(litres=(before or 0) + 1))

    await asyncio.gather(*(pour() for _ in range(8)))
    assert await litres(database, "big") == 8


async def test_who_writes_alone_may_rely_on_what_is_not_there(database: Database) -> None:
    async def first() -> bool:
        async with database.begin(alone=True) as connection:
            if (await connection.execute(select(POTS))).first() is not None:
                return False
            await connection.execute(insert(POTS).values(name=f"pot {id(asyncio.current_task())}", litres=1))
            return True

    assert sorted(await asyncio.gather(*(first() for _ in range(6)))) == [False] * 5 + [True]


async def test_an_upsert_adds_or_replaces(database: Database) -> None:
    for amount in (1, 2):
        async with database.begin() as connection:
            statement = upsert(connection, POTS).values(name="big", litres=amount)
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_={"litres": statement.excluded.litres})
            )
    async with database.begin() as connection:
        statement = upsert(connection, POTS).values(name="big", litres=3)
        assert not (await connection.execute(statement.on_conflict_do_nothing())).rowcount
    assert await litres(database, "big") == 2


async def test_large_numbers_and_fine_times_come_back_as_they_were(database: Database) -> None:
    size, at = 5 * 1024**4, 1_795_821_477.123456
    async with database.begin() as connection:
        await connection.execute(insert(POTS).values(name="big", litres=1, bytes=size, at=at))
    async with database.connect() as connection:
        row = (await connection.execute(select(POTS.c.bytes, POTS.c.at))).one()
    assert tuple(row) == (size, at)


async def test_what_was_to_be_written_stands_in_no_error(database: Database) -> None:
    # Errors are logged: a question or a title must not come along.
    with pytest.raises(IntegrityError) as caught:
        async with database.begin() as connection:
            await connection.execute(insert(POTS).values(name="the secret pot", litres=None))
    assert "secret" not in str(caught.value)


async def test_one_process_at_a_time_has_a_name(database: Database, database_url: str) -> None:
    other = Database(database_url)
    async with database.only_one("relay") as mine, other.only_one("another") as free:
        assert mine
        assert free
        if database_url.startswith("postgresql"):
            async with other.only_one("relay") as second:
                assert not second
    async with other.only_one("relay") as mine:
        assert mine
    await other.close()


async def test_migrations_go_forward_once(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = tmp_path / "kitchen_migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "kitchen_migrations" / "__init__.py").touch()
    (versions / "0001_pots.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path))
    database = Database(database_url)
    await migrate(database, "kitchen_migrations")
    async with database.begin() as connection:
        await connection.execute(text("insert into pots values ('big')"))
    (versions / "0002_litres.py").write_text(SECOND)
    # As replicas do it that start together.
    replicas = [Database(database_url) for _ in range(3)]
    await asyncio.gather(*(migrate(replica, "kitchen_migrations") for replica in replicas))
    async with database.connect() as connection:
        assert (await connection.execute(text("select name, litres from pots"))).all() == [("big", None)]
    for one in (database, *replicas):
        await one.close()
    sys.modules.pop("kitchen_migrations", None)


async def test_a_database_that_is_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/room.db")
    # What stands in its place cannot be opened.
    (tmp_path / "room.db").mkdir()
    with pytest.raises(Unavailable):
        await migrate(database, "services.chat.migrations", wait_s=0)
    starting = asyncio.create_task(migrate(database, "services.chat.migrations"))
    await asyncio.sleep(0.2)
    assert not starting.done()
    (tmp_path / "room.db").rmdir()
    await starting
    await database.close()


async def test_a_migration_that_fails_changes_nothing(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = tmp_path / "broken_migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "broken_migrations" / "__init__.py").touch()
    (versions / "0001_pots.py").write_text(FIRST)
    (versions / "0002_litres.py").write_text(f"{SECOND}    raise RuntimeError('no water')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    database = Database(database_url)
    with pytest.raises(RuntimeError, match="no water"):
        await migrate(database, "broken_migrations")
    (versions / "0002_litres.py").write_text(SECOND)
    await migrate(database, "broken_migrations")
    await put(database, "big", 3)
    await database.close()
    sys.modules.pop("broken_migrations", None)


@pytest.mark.parametrize("rest", ["127.0.0.1:hidden/db", "127.0.0.1:1/db?sslmode=hidden"])
async def test_an_address_that_the_driver_does_not_understand_is_refused(rest: str) -> None:
    database = Database(f"postgresql://ann:hidden@{rest}")
    with pytest.raises(InvalidInput, match="database_url") as caught:
        async with database.connect():
            pytest.fail("nobody is there")
    assert "hidden" not in str(caught.value)
    await database.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://nowhere", "mysql"),
        ("postgresql://host", "DATABASE"),
        ("postgresql://host/db?schema=a-b", "schema 'a-b'"),
    ],
)
def test_an_address_that_is_none_is_said_to_be_none(url: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Database(url)


async def test_work_that_is_cancelled_twice_leaves_nothing_behind_that_waits_for_ever(database_url: str) -> None:
    async def write_for_ever(database: Database) -> None:
        while True:
            async with database.begin() as connection:
                await connection.execute(update(POTS).values(litres=POTS.c.litres + 1))

    random = Random(7)
    for number in range(40):
        database = Database(database_url)
        if number == 0:
            await make_tables(database, metadata)
        work = asyncio.create_task(write_for_ever(database))
        await asyncio.sleep(random.random() * 0.03)
        work.cancel()
        # A few turns of the loop later it is in the middle of closing its connection.
        for _ in range(random.randrange(8)):
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await database.close()
        assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()
