"""A room's part goes to a folder and comes back: the same rows, whichever database they come from and go to."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
)

from services.chassis.database import Database, migrate
from services.chassis.errors import Conflict, InvalidInput
from services.chassis.moving.part import Arrival, PartFile, RoomPart
from tests.cluster_servers import ClusterServers
from tests.fresh_databases import fresh_schema

ROOMS = (
    "gateway",
    "services.chat",
    "services.finetuning",
    "services.generation",
    "services.ingestion",
    "services.retrieval",
)
ROWS = 3
NOW = Arrival(since=0.0)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.cluster)])
def other_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A second database, beside `database_url`."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/other.db"
        return
    servers: ClusterServers = request.getfixturevalue("cluster")
    with fresh_schema(servers.postgres) as url:
        yield url


def tell(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""


def part_of(package: str, url: str) -> RoomPart:
    return RoomPart(room=package.rpartition(".")[2], database_url=url, access=None, migrations=f"{package}.migrations")


def reflected(connection: Connection) -> dict[str, Table]:
    found = MetaData()
    found.reflect(connection)
    return {table.name: table for table in found.sorted_tables if table.name != "alembic_version"}


def value(kind: Any, name: str, number: int) -> Any:
    """Return something that a careless copy would spoil."""
    if isinstance(kind, DateTime):
        at = datetime(2026, 3, 29, 1, 30, 0, 123456 * number, tzinfo=UTC)
        return at if kind.timezone else at.replace(tzinfo=None)
    made: tuple[tuple[type, Any], ...] = (
        (Boolean, number % 2 == 0),
        (JSON, [{"ü\n": [1.5, 2**53, None, True]}, [], "null"][number % 3]),
        (LargeBinary, bytes(range(256)) * number),
        (Float, 1764297600.1234567 + number),
        (Integer, 2**31 - 10 + number),
        (String, f'{name} \t"quoted" \u2028 漢字 \\u0041 {number}'),
    )
    return next(found for of, found in made if isinstance(kind, of))


async def filled(url: str, package: str) -> None:
    database = Database(url)
    await migrate(database, f"{package}.migrations")
    async with database.begin() as connection:
        for table in (await connection.run_sync(reflected)).values():
            for number in range(ROWS):
                row = {
                    column.name: None if column.nullable and number == 1 else value(column.type, column.name, number)
                    for column in table.columns
                    if not column.foreign_keys
                }
                row |= {
                    column.name: value(column.type, next(iter(column.foreign_keys)).column.name, number)
                    for column in table.columns
                    if column.foreign_keys
                }
                await connection.execute(insert(table).values(row))
    await database.close()


def lines(folder: Path, room: str) -> dict[str, list[Any]]:
    return {
        path.name: [json.loads(line) for line in gzip.open(path, "rt")]
        for path in sorted((folder / room / "tables").iterdir())
    }


@pytest.mark.parametrize("package", ROOMS)
async def test_every_table_comes_back_the_same(package: str, database_url: str, other_url: str, tmp_path: Path) -> None:
    await filled(database_url, package)
    first, second = part_of(package, database_url), part_of(package, other_url)
    written = await first.pack(tmp_path / "out", tell)
    assert set(written.rows.values()) == {ROWS}
    report = await second.unpack(tmp_path / "out", NOW, tell)
    assert report == {"room": first.room, "rows": ROWS * len(written.rows)}
    await second.pack(tmp_path / "back", tell)
    assert lines(tmp_path / "back", first.room) == lines(tmp_path / "out", first.room)


@pytest.mark.parametrize(("package", "name"), [("services.chat", "turns"), ("services.generation", "adapters")])
async def test_numbers_go_on_behind_the_last_that_was_given(
    package: str, name: str, database_url: str, other_url: str, tmp_path: Path
) -> None:
    await filled(database_url, package)
    await part_of(package, database_url).pack(tmp_path / "out", tell)
    await part_of(package, other_url).unpack(tmp_path / "out", NOW, tell)
    database = Database(other_url)
    async with database.begin() as connection:
        table = (await connection.run_sync(reflected))[name]
        key = next(iter(table.primary_key.columns))
        largest = await connection.scalar(select(func.max(key)))
        row = (await connection.execute(select(table).order_by(key).limit(1))).one()._asdict()
        del row[key.name]
        row |= {"name": "another"} if "name" in row else {}
        given = (await connection.execute(insert(table).values(row))).inserted_primary_key
    await database.close()
    assert given is not None
    assert given[0] == largest + 1


async def test_a_target_that_holds_something_is_refused_and_left_as_it_is(database_url: str, tmp_path: Path) -> None:
    await filled(database_url, "services.chat")
    part = part_of("services.chat", database_url)
    await part.pack(tmp_path / "out", tell)
    with pytest.raises(Conflict, match=r"chat: the table comparisons of the target holds rows"):
        await part.check(tmp_path / "out")
    with pytest.raises(Conflict):
        await part.unpack(tmp_path / "out", NOW, tell)
    await part.pack(tmp_path / "again", tell)
    assert lines(tmp_path / "again", "chat") == lines(tmp_path / "out", "chat")


async def test_older_tables_are_brought_to_the_newest_version(database_url: str, tmp_path: Path) -> None:
    await filled(f"sqlite:///{tmp_path}/source.db", "services.chat")
    await part_of("services.chat", f"sqlite:///{tmp_path}/source.db").pack(tmp_path / "out", tell)
    # As a release before feedback would have written it.
    said = json.loads((tmp_path / "out/chat/part.json").read_text())
    old = {"conversations", "turns", "receipts"}
    said["tables"] = {name: table for name, table in said["tables"].items() if name in old}
    said["revision"] = "0001"
    (tmp_path / "out/chat/part.json").write_text(json.dumps(said))
    # The target was made by this release: it is empty, and newer.
    database = Database(database_url)
    await migrate(database, "services.chat.migrations")
    await database.close()
    part = part_of("services.chat", database_url)
    await part.unpack(tmp_path / "out", NOW, tell)
    again = await part.pack(tmp_path / "back", tell)
    assert again.revision == "0002"
    assert {name for name, rows in again.rows.items() if rows} == old


async def test_what_cannot_be_loaded_whole_is_not_loaded_at_all(database_url: str, tmp_path: Path) -> None:
    await filled(f"sqlite:///{tmp_path}/source.db", "services.retrieval")
    written = await part_of("services.retrieval", f"sqlite:///{tmp_path}/source.db").pack(tmp_path / "out", tell)
    part = part_of("services.retrieval", database_url)
    path = tmp_path / "out/retrieval/tables/versions.jsonl.gz"
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(b"\n".join(gzip.decompress(whole).splitlines()[:-1]) + b"\n"))
    with pytest.raises(InvalidInput, match=r"versions.jsonl.gz holds 2 rows where 3 are announced"):
        await part.unpack(tmp_path / "out", NOW, tell)
    path.write_bytes(whole[:-20])
    with pytest.raises(InvalidInput, match=r"versions.jsonl.gz cannot be read"):
        await part.unpack(tmp_path / "out", NOW, tell)
    path.write_bytes(whole)
    assert (await part.unpack(tmp_path / "out", NOW, tell))["rows"] == ROWS * len(written.rows)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"revision": "0099"}, "version '0099', which this release does not know"),
        ({"format": 2}, "format 2 is not offered; this release reads 1"),
        ({"room": "gateway"}, "is the part of gateway, not of chat"),
        ({"surprise": 1}, "is not a room's part of an archive"),
    ],
)
async def test_a_part_that_this_release_does_not_understand_is_refused(
    database_url: str, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    await filled(f"sqlite:///{tmp_path}/source.db", "services.chat")
    await part_of("services.chat", f"sqlite:///{tmp_path}/source.db").pack(tmp_path / "out", tell)
    path = tmp_path / "out/chat/part.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(InvalidInput, match=message):
        await part_of("services.chat", database_url).check(tmp_path / "out")


async def test_the_character_nul_becomes_the_replacement_character_where_no_text_may_hold_it(
    database_url: str, tmp_path: Path
) -> None:
    source = Database(f"sqlite:///{tmp_path}/source.db")
    await migrate(source, "gateway.migrations")
    async with source.begin() as connection:
        table = (await connection.run_sync(reflected))["audit"]
        row = {column.name: value(column.type, column.name, 1) for column in table.columns}
        await connection.execute(insert(table).values(row | {"reason": "no\0thing"}))
    await source.close()
    await part_of("gateway", f"sqlite:///{tmp_path}/source.db").pack(tmp_path / "out", tell)
    await part_of("gateway", database_url).unpack(tmp_path / "out", NOW, tell)
    database = Database(database_url)
    async with database.connect() as connection:
        found = await connection.scalar(select(table.c.reason))
    await database.close()
    assert found == ("no\0thing" if database_url.startswith("sqlite") else "no\ufffdthing")


async def test_an_export_is_of_one_moment_though_writers_go_on(database_url: str, tmp_path: Path) -> None:
    await filled(database_url, "services.chat")
    database = Database(database_url)
    stop = asyncio.Event()

    async def write() -> int:
        written = 0
        while not stop.is_set():
            async with database.begin() as connection:
                tables = await connection.run_sync(reflected)
                # Both or none: an export that holds one without the other is of two moments.
                for name in ("comparisons", "receipts"):
                    made = {column.name: value(column.type, column.name, 0) for column in tables[name].columns}
                    await connection.execute(insert(tables[name]).values(made | {"id": f"n{written}"}))
            written += 1
        return written

    writing = asyncio.create_task(write())
    for number in range(5):
        await asyncio.sleep(0.05)
        part = await part_of("services.chat", database_url).pack(tmp_path / str(number), tell)
        assert part.rows["comparisons"] == part.rows["receipts"]
    stop.set()
    assert await writing > 5
    await database.close()


async def test_a_room_that_was_never_started_has_nothing_to_export(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="never started"):
        await part_of("services.chat", database_url).pack(tmp_path / "out", tell)


async def test_a_part_says_when_it_was_taken(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/source.db"
    await filled(url, "services.chat")
    before = datetime.now(UTC)
    await part_of("services.chat", url).pack(tmp_path / "out", tell)
    began = datetime.fromtimestamp(PartFile.read(tmp_path / "out", "chat").began, UTC)
    assert before <= began <= before + timedelta(minutes=5)
    with pytest.raises(Conflict, match="is there already"):
        await part_of("services.chat", url).pack(tmp_path / "out", tell)
