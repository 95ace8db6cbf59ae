"""A room's tables as files: one line of JSON for each row, packed; the same for SQLite and PostgreSQL.

A line is a list of values in the order of the table's columns. JSON knows texts, numbers, booleans and what JSON columns
hold; bytes are base64, times are ISO 8601 in UTC.
"""

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
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
    literal_column,
    null,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database.migrating import VERSION_TABLE, Migrations
from services.chassis.errors import Conflict, Internal, InvalidInput

__all__ = ["TableFile", "check_empty", "load_tables", "save_tables"]

# Rows that are written in one statement, and read from the database at a time.
_ROWS: Final = 500
# Packed as fast as disks write; the files are mostly ids.
_LEVEL: Final = 3
_ENDING: Final = ".jsonl.gz"
# Of a sequence of PostgreSQL.
_LAST: Final = "CASE WHEN is_called THEN last_value ELSE 0 END"


@dataclass(frozen=True, slots=True)
class TableFile:
    """What a file of rows holds.

    Attributes:
        rows: How many.
        columns: The columns in order: name and kind (text, integer, float, boolean, json, bytes or time).
        counter: The last number that the table has given itself, where it gives numbers; else None.
    """

    rows: int
    columns: Mapping[str, str]
    counter: int | None = None


async def save_tables(
    connection: AsyncConnection, folder: Path, *, left_out: frozenset[str] = frozenset()
) -> tuple[str, dict[str, TableFile]]:
    """Write every table but those left out into `folder`; return the version of the tables and what was written.

    Args:
        connection: Sees one snapshot (`Database.connect`).
        folder: Is there and empty.
        left_out: Tables that say something of this place only.

    Raises:
        Conflict: There are no tables.
    """
    tables = await connection.run_sync(_tables)
    version = tables.pop(VERSION_TABLE, None)
    revision = None if version is None else await connection.scalar(select(version.c.version_num))
    if revision is None:
        raise Conflict("The database holds no tables: this room was never started on it.")
    written = {}
    for name, table in sorted(tables.items()):
        if name not in left_out:
            written[name] = await _save(connection, table, folder / f"{name}{_ENDING}")
    return str(revision), written


async def _save(connection: AsyncConnection, table: Table, path: Path) -> TableFile:
    columns = {column.name: _kind(column) for column in table.columns}
    out = [_OUT[kind] for kind in columns.values()]
    count = 0
    key = list(table.primary_key.columns)
    found = await connection.stream(select(table).order_by(*key), execution_options={"yield_per": _ROWS})
    with _written(path) as write:
        async for row in found:
            write([None if value is None else make(value) for make, value in zip(out, row, strict=True)])
            count += 1
    return TableFile(count, columns, await connection.run_sync(_counter, table))


async def check_empty(connection: AsyncConnection, room: str) -> None:
    """See that no table holds anything.

    Raises:
        Conflict: One does; the message says what to do.
    """
    for name, table in sorted((await connection.run_sync(_tables)).items()):
        if name != VERSION_TABLE and (await connection.execute(select(table).limit(1))).first() is not None:
            raise Conflict(
                f"{room}: the table {name} of the target holds rows, and an import needs an empty installation. Import into "
                "one that was never started: another state folder, or another schema (docs/moving.md)."
            )


async def load_tables(
    connection: AsyncConnection, folder: Path, files: Mapping[str, TableFile], *, migrations: Migrations, revision: str
) -> int:
    """Make the tables as they were, fill them, and bring them to the newest version; return the number of rows.

    Everything happens in the transaction that `connection` is in.

    Args:
        connection: Of an empty database (`check_empty`), in `Database.migrating`.
        folder: Where the files lie.
        files: What is in them.
        migrations: The room's history.
        revision: Version that the files are of; one of the history.

    Raises:
        InvalidInput: The files cannot be read, or do not fit their tables.
    """
    await connection.run_sync(_anew)
    await connection.run_sync(migrations.upgrade, revision)
    total = 0
    tables = await connection.run_sync(_tables)
    unknown = sorted(files.keys() - tables.keys())
    if unknown:
        raise InvalidInput(f"The archive holds a table {unknown[0]!r} that version {revision!r} does not have.")
    for name, table in tables.items():
        if name in files:
            total += await _load(connection, table, files[name], folder / f"{name}{_ENDING}")
    await connection.run_sync(migrations.upgrade)
    return total


async def _load(connection: AsyncConnection, table: Table, said: TableFile, path: Path) -> int:
    columns = {column.name: _kind(column) for column in table.columns}
    if dict(said.columns) != columns:
        raise InvalidInput(f"{path.name}: the columns are not those of the table {table.name}.")
    holds_nul = connection.dialect.name == "sqlite"
    makers = [_maker(column, holds_nul=holds_nul) for column in table.columns]
    count = 0
    for lines in _batches(_read(path)):
        rows = [{name: make(value) for name, make, value in zip(columns, makers, line, strict=True)} for line in lines]
        await connection.execute(insert(table), rows)
        count += len(rows)
    if count != said.rows:
        raise InvalidInput(f"{path.name} holds {count} rows where {said.rows} are announced.")
    if said.counter is not None:
        await connection.run_sync(_set_counter, table, said.counter)
    return count


def _tables(connection: Connection) -> dict[str, Table]:
    """Return the tables that are there; those that others refer to come first."""
    found = MetaData()
    found.reflect(connection)
    return {table.name: table for table in found.sorted_tables}


def _anew(connection: Connection) -> None:
    """Remove tables that are there, all of them empty: they may be of another version than the files."""
    found = MetaData()
    found.reflect(connection)
    found.drop_all(connection)


def _kind(column: Column[Any]) -> str:
    kinds: tuple[tuple[type, str], ...] = (
        (Boolean, "boolean"),
        (JSON, "json"),
        (LargeBinary, "bytes"),
        (DateTime, "time"),
        (Float, "float"),
        (Integer, "integer"),
        (String, "text"),
    )
    for kind, name in kinds:
        if isinstance(column.type, kind):
            return name
    raise Internal("A column is of a kind that cannot be moved.", private=repr(column))


def _iso(value: datetime) -> str:
    """Return a time in UTC; times without a zone are UTC already."""
    return (value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)).isoformat()


_OUT: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "json": lambda value: value,
    "bytes": lambda value: base64.b64encode(value).decode("ascii"),
    "time": _iso,
}


def _maker(column: Column[Any], *, holds_nul: bool) -> Callable[[Any], Any]:
    """Return what makes a value of a column from the value of a line."""
    kind = _kind(column)
    made: Callable[[Any], Any] = lambda value: value  # noqa: E731  most kinds are what JSON says
    if kind == "bytes":
        made = base64.b64decode
    elif kind == "time":
        zone = UTC if getattr(column.type, "timezone", False) else None
        made = lambda value: datetime.fromisoformat(value).replace(tzinfo=zone)  # noqa: E731
    elif kind in {"text", "json"} and not holds_nul:
        # As the rooms do it where they store what people wrote.
        made = _without_nul
    # None in a JSON column would be JSON's null.
    absent = null() if kind == "json" else None
    return lambda value: absent if value is None else made(value)


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case list():
            return [_without_nul(one) for one in value]
        case dict():
            return {_without_nul(key): _without_nul(one) for key, one in value.items()}
        case _:
            return value


@contextmanager
def _written(path: Path) -> Iterator[Callable[[Sequence[Any]], None]]:
    with gzip.open(path, "wt", compresslevel=_LEVEL, encoding="utf-8", newline="\n") as file:

        def write(row: Sequence[Any]) -> None:
            file.write(json.dumps(row, separators=(",", ":")) + "\n")

        yield write


def _read(path: Path) -> Iterator[list[Any]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, EOFError, ValueError) as error:
        raise InvalidInput(f"{path.name} cannot be read.", private=repr(error)) from error


def _batches(rows: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _ROWS)):
        yield batch


def _numbered(table: Table) -> Column[Any] | None:
    """Return the column that gives itself numbers; None where there is none."""
    columns = list(table.primary_key.columns)
    return columns[0] if len(columns) == 1 and isinstance(columns[0].type, Integer) else None


def _counter(connection: Connection, table: Table) -> int | None:
    """Return the last number that a table has given itself, also to rows that are gone."""
    column = _numbered(table)
    if column is None:
        return None
    held = int(connection.scalar(select(func.max(column))) or 0)
    if connection.dialect.name != "sqlite":
        name = _sequence(connection, table, column)
        # Not of the snapshot: what was given meanwhile is skipped, too.
        last = 0 if name is None else connection.scalar(select(literal_column(_LAST)).select_from(text(name)))
        return max(held, int(last or 0))
    if connection.scalar(text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")):
        given = connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        return max(held, int(given or 0))
    return held


def _set_counter(connection: Connection, table: Table, last: int) -> None:
    """Have a table go on behind a number."""
    column = _numbered(table)
    if column is None or not last:
        return
    if connection.dialect.name != "sqlite":
        name = _sequence(connection, table, column)
        if name is not None:
            connection.execute(text("SELECT setval(:name, :last)"), {"name": name, "last": last})
        return
    # Only tables that were told to never give a number twice are in this list; others go on behind their largest.
    told = connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table.name})
    if "AUTOINCREMENT" in str(told):
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        values = {"name": table.name, "last": last}
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)


def _sequence(connection: Connection, table: Table, column: Column[Any]) -> str | None:
    names = {"table": f'"{table.name}"', "column": column.name}
    found = connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), names)
    return None if found is None else str(found)
