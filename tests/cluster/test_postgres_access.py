"""PostgreSQL behind TLS and a password: what a room is told, and what it is refused."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from services.chassis.database import Database, migrate
from services.chassis.errors import InvalidInput, Unavailable
from services.chassis.settings import RoomSettings
from services.chat.bootstrap import moving as chat_part
from services.chat.settings import ChatSettings
from services.generation.bootstrap import moving as generation_part
from services.generation.settings import GenerationSettings
from tests.cluster.guarded_servers import PASSWORD, GuardedPostgres, PostgresCaller, Shown
from tests.cluster.servers.postgres import USER
from tests.cluster.servers.process import passable_folder
from tests.cluster_servers import ClusterServers

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def guarded(cluster: ClusterServers) -> Iterator[GuardedPostgres]:
    with passable_folder() as folder:
        made = GuardedPostgres(folder / "guarded")
        yield made
        made.process.stop()


@pytest.fixture
def shown(guarded: GuardedPostgres) -> Shown:
    return Shown(guarded.authority.file, *guarded.authority.sign(USER))


async def hung_up(guarded: GuardedPostgres) -> None:
    """Wait until no connection to the server is left: asyncpg does not wait for the end of one that was refused."""
    port = int(guarded.at[0].rpartition(":")[2])
    async with asyncio.timeout(30):
        while any(one.raddr and one.raddr.port == port for one in psutil.Process().net_connections("tcp")):
            await asyncio.sleep(0.01)


async def test_tables_are_made_and_read_over_tls(guarded: GuardedPostgres, shown: Shown) -> None:
    database = guarded.database(shown)
    await migrate(database, "gateway.migrations")
    async with database.connect() as connection:
        seen = text("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = :user")
        assert await connection.scalar(seen, {"user": USER})
        assert await connection.scalar(text("SELECT count(*) FROM api_keys")) == 0
    await database.close()


async def test_what_libpq_knows_may_stand_in_the_address(guarded: GuardedPostgres, shown: Shown) -> None:
    files = f"sslrootcert={shown.ca}&sslcert={shown.cert}&sslkey={shown.key}"
    url = f"postgresql://{USER}@{guarded.at[0]}/postgres?sslmode=verify-full&{files}"
    caller = PostgresCaller(Database(url, access=RoomSettings(database_password_file=guarded.password)))
    await caller.reach()
    await caller.close()


@pytest.mark.parametrize("what", ["plain text", "another user's certificate", "password"])
async def test_who_may_not_is_refused(guarded: GuardedPostgres, shown: Shown, tmp_path: Path, what: str) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("incorrect donkey")
    match what:
        case "plain text":
            known = RoomSettings(database_password_file=guarded.password)
            database = Database(f"postgresql://{USER}@{guarded.at[0]}/postgres?sslmode=disable", access=known)
        case "password":
            database = guarded.database(shown, database_password_file=wrong)
        case _:
            database = guarded.database(Shown(shown.ca, *guarded.authority.sign("somebody")))
    with pytest.raises(Unavailable):
        await PostgresCaller(database).reach()
    await database.close()
    await hung_up(guarded)


async def test_a_new_password_is_read_for_the_next_connection(guarded: GuardedPostgres, shown: Shown) -> None:
    caller = PostgresCaller(guarded.database(shown))
    await caller.reach()
    standing = guarded.database(shown)
    async with standing.begin() as connection:
        await connection.execute(text(f"ALTER ROLE {USER} PASSWORD 'renewed'"))
    with pytest.raises(Unavailable):
        await caller.reach()
    guarded.password.write_text("renewed")
    await caller.reach()
    async with standing.begin() as connection:
        await connection.execute(text(f"ALTER ROLE {USER} PASSWORD '{PASSWORD}'"))
    guarded.password.write_text(PASSWORD)
    await caller.close()
    await standing.close()
    await hung_up(guarded)


def test_certificates_are_said_in_one_place(guarded: GuardedPostgres, shown: Shown) -> None:
    url = f"postgresql://{USER}@host/db?schema=kitchen&sslmode=require&sslrootcert=x"
    with pytest.raises(InvalidInput, match="leave sslmode, sslrootcert out"):
        Database(url, access=RoomSettings(database_ca_file=shown.ca))
    with pytest.raises(InvalidInput, match="database_cert_key_file"):
        guarded.database(shown, database_cert_key_file=None)


@pytest.mark.parametrize("room", ["chat", "generation"])
async def test_a_rooms_tables_are_exported_with_its_password(
    guarded: GuardedPostgres, shown: Shown, tmp_path: Path, room: str
) -> None:
    known: dict[str, Any] = {
        "database_url": f"postgresql://{USER}@{guarded.at[0]}/postgres?schema={room}",
        "database_password_file": guarded.password,
        "database_ca_file": shown.ca,
        "database_cert_file": shown.cert,
        "database_cert_key_file": shown.key,
    }
    part = chat_part(ChatSettings(**known)) if room == "chat" else generation_part(GenerationSettings(**known))
    database = Database(part.database_url, access=part.access)
    await migrate(database, part.migrations)
    await database.close()
    assert (await part.pack(tmp_path, lambda *_: None)).rows
