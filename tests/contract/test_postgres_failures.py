"""PostgreSQL away, gone, frozen, slow or blocked: `Unavailable` in a bounded time, and well again by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text, update

from services.chassis.database import Database, postgresql
from services.chassis.errors import BrainError, InvalidInput, Unavailable
from tests.cluster.servers.postgres import PostgresServer
from tests.cluster.servers.process import free_port, passable_folder
from tests.cluster_servers import ClusterServers
from tests.fresh_databases import fresh_schema, make_tables

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

metadata = MetaData()
POTS = Table("pots", metadata, Column("name", String, primary_key=True), Column("litres", Integer))


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    with passable_folder() as folder:
        server = PostgresServer(folder / "postgres")
        server.start()
        yield server
        server.stop()


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of a cluster, shortened; read when an engine is opened."""
    monkeypatch.setattr(postgresql, "_CONNECT_TIMEOUT_S", 2.0)
    monkeypatch.setattr(postgresql, "_LOCK_TIMEOUT_S", 0.5)
    monkeypatch.setattr(postgresql, "_STATEMENT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(postgresql, "_ANSWER_TIMEOUT_S", 2.0)
    monkeypatch.setattr(postgresql, "_POOL_TIMEOUT_S", 1.0)


@pytest.fixture
async def database(cluster: ClusterServers) -> AsyncIterator[Database]:
    with fresh_schema(cluster.postgres) as url:
        opened = Database(url)
        await make_tables(opened, metadata)
        await put(opened, "big", 1)
        await put(opened, "small", 1)
        yield opened
        await opened.close()


@pytest.fixture
async def mortal(own_server: PostgresServer) -> AsyncIterator[Database]:
    """A database on a server that may be hurt."""
    opened = Database(f"{own_server.url}/postgres?schema=kitchen")
    await make_tables(opened, metadata)
    async with opened.begin() as connection:
        await connection.execute(POTS.delete())
    await put(opened, "big", 1)
    yield opened
    await opened.close()


async def put(database: Database, name: str, litres: int) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(POTS).values(name=name, litres=litres))


async def names(database: Database) -> list[str]:
    async with database.connect() as connection:
        return sorted((await connection.scalars(select(POTS.c.name))).all())


async def test_a_server_that_is_away_is_unavailable() -> None:
    database = Database(f"postgresql://brain@127.0.0.1:{free_port()}/postgres")
    for block in (database.begin, database.connect, database.migrating):
        with pytest.raises(Unavailable):
            async with block():
                pytest.fail("nobody is there")
    await database.close()


async def test_a_server_that_dies_within_a_block(own_server: PostgresServer, mortal: Database) -> None:
    with pytest.raises(Unavailable) as caught:
        async with mortal.begin() as connection:
            await connection.execute(insert(POTS).values(name="lost", litres=1))
            own_server.kill()
            await connection.execute(insert(POTS).values(name="lost too", litres=1))
    assert caught.value.retry_after_s
    own_server.start()
    assert await names(mortal) == ["big"]


async def test_a_server_that_dies_before_the_commit(own_server: PostgresServer, mortal: Database) -> None:
    with pytest.raises(Unavailable):
        async with mortal.begin() as connection:
            await connection.execute(insert(POTS).values(name="lost", litres=1))
            own_server.kill()
    own_server.start()
    assert await names(mortal) == ["big"]


async def test_the_blocks_own_errors_stay_as_they_are(own_server: PostgresServer, mortal: Database) -> None:
    # An error of a file or of another server is no fault of the database, also when that dies in the same moment.
    for error in (OSError("the disk"), TimeoutError("the oven"), ConnectionError("the waiter")):
        with pytest.raises(type(error), match=str(error)):
            async with mortal.begin() as connection:
                await connection.execute(insert(POTS).values(name="lost", litres=1))
                raise error
    assert await names(mortal) == ["big"]


async def test_a_restart_between_calls_is_noticed_by_nobody(own_server: PostgresServer, mortal: Database) -> None:
    await asyncio.gather(*(names(mortal) for _ in range(4)))
    own_server.restart()
    assert await asyncio.gather(*(names(mortal) for _ in range(8))) == [["big"]] * 8


async def test_a_frozen_server_is_given_up(own_server: PostgresServer, mortal: Database) -> None:
    await names(mortal)
    own_server.freeze()
    began = time.monotonic()
    found = await asyncio.gather(*(put(mortal, f"pot {n}", 1) for n in range(4)), return_exceptions=True)
    took_s = time.monotonic() - began
    own_server.thaw()
    assert [type(one) for one in found] == [Unavailable] * 4
    # An answer's time and a connection's, and what the pool takes to let go of both.
    assert took_s < 15
    await put(mortal, "small", 1)
    assert await names(mortal) == ["big", "small"]


async def test_who_waits_too_long_for_a_row_is_turned_away(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(update(POTS).where(POTS.c.name == "big").values(litres=2))
        with pytest.raises(Unavailable):
            async with database.begin() as other:
                await other.execute(update(POTS).where(POTS.c.name == "big").values(litres=3))
    async with database.connect() as connection:
        assert await connection.scalar(select(POTS.c.litres).where(POTS.c.name == "big")) == 2


async def test_a_statement_that_takes_too_long_is_ended(database: Database) -> None:
    with pytest.raises(Unavailable):
        async with database.connect() as connection:
            await connection.execute(text("select pg_sleep(30)"))
    assert await names(database) == ["big", "small"]


async def test_of_two_that_block_each_other_one_gives_way(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = asyncio.Barrier(2)

    async def pour(first: str, second: str) -> None:
        async with database.begin() as connection:
            await connection.execute(update(POTS).where(POTS.c.name == first).values(litres=5))
            await ready.wait()
            await connection.execute(update(POTS).where(POTS.c.name == second).values(litres=5))

    found = await asyncio.gather(pour("big", "small"), pour("small", "big"), return_exceptions=True)
    assert sorted(str(type(one)) for one in found) == sorted([str(type(None)), str(Unavailable)])


async def test_who_gets_no_connection_is_turned_away(database: Database) -> None:
    full = asyncio.Event()

    async def hold() -> None:
        async with database.connect():
            await full.wait()

    holding = [asyncio.create_task(hold()) for _ in range(postgresql._POOL_SIZE + postgresql._POOL_OVERFLOW)]
    await asyncio.sleep(0.3)
    with pytest.raises(Unavailable):
        async with database.connect():
            pytest.fail("all are taken")
    full.set()
    await asyncio.gather(*holding)
    assert await names(database) == ["big", "small"]


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(BrainError):
        async with database.connect() as connection:
            await connection.execute(insert(POTS).values(name="wrong", litres=1))


async def test_a_text_with_nul_is_the_callers_fault(database: Database) -> None:
    with pytest.raises(InvalidInput, match="NUL") as caught:
        await put(database, "the secret\0pot", 1)
    assert "secret" not in str(caught.value)


async def test_a_schema_is_made_and_others_are_left_alone(cluster: ClusterServers, database: Database) -> None:
    with fresh_schema(cluster.postgres) as url:
        other = Database(url)
        await make_tables(other, metadata)
        assert await names(other) == []
        await other.close()
    assert await names(database) == ["big", "small"]
