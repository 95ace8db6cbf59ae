"""One room's part of an installation: its tables, and what it keeps besides, to a folder and back."""

import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database, Migrations
from services.chassis.errors import Conflict, InvalidInput
from services.chassis.moving.tables import TableFile, check_empty, load_tables, save_tables
from services.chassis.settings import RoomSettings

__all__ = ["FORMAT", "Arrival", "Baggage", "PartFile", "RoomPart", "Tell"]

FORMAT: Final = 1
"""Of the files of a part; an archive of another number is refused."""

# How far behind its teller a room may be in what it heard, and clocks apart: what is older has reached everybody.
_HEARD_WITHIN_S: Final = 3600.0
_PART: Final = "part.json"
_TABLES: Final = "tables"

Tell = Callable[[str, int, int], None]
"""Hears how far something is: what, how many are done, of how many."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a room is told about the place that it comes to.

    Attributes:
        since: Seconds since 1970; what happened earlier has reached every room of the archive, what happened since may not.
        rebuild: The index comes without its vectors, and documents are to be announced to it anew.
        baggage: What the room's `Baggage.pack` returned.
    """

    since: float
    rebuild: bool = False
    baggage: Mapping[str, Any] = field(default_factory=dict)


class Baggage(Protocol):
    """What a room keeps besides its database."""

    async def note(self, connection: AsyncConnection) -> None:
        """Read in the snapshot of the tables what `pack` must know of them."""
        ...

    async def pack(self, folder: Path, tell: Tell) -> dict[str, Any]:
        """Write it into `folder`, as it fits what was noted; return what `unpack` must know.

        Raises:
            Conflict: It does not fit the tables.
        """
        ...

    async def check(self, said: dict[str, Any]) -> None:
        """See that what is to be unpacked can be.

        Raises:
            Conflict: Something is there already.
            InvalidInput: It does not fit this place.
        """
        ...

    async def unpack(self, folder: Path, said: dict[str, Any], tell: Tell) -> dict[str, Any]:
        """Bring it in; return what is to be reported. Doing it again changes nothing."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


@dataclass(frozen=True, slots=True)
class PartFile:
    """What `part.json` says.

    Attributes:
        room: Whose part it is.
        format: Of the files.
        began: When the snapshot was taken, seconds since 1970.
        revision: Version of the tables.
        tables: What each file of rows holds, by table.
        baggage: What the room keeps besides its database.
    """

    room: str
    format: int
    began: float
    revision: str
    tables: dict[str, TableFile]
    baggage: dict[str, Any]

    @property
    def rows(self) -> dict[str, int]:
        """Rows by table."""
        return {name: table.rows for name, table in self.tables.items()}

    @classmethod
    def read(cls, folder: Path, room: str) -> "PartFile":
        """Return what the part of a room in an archive says.

        Raises:
            InvalidInput: There is none, or it cannot be read.
        """
        path = folder / room / _PART
        try:
            said = json.loads(path.read_text())
            tables = {name: TableFile(**table) for name, table in said.pop("tables").items()}
            found = cls(tables=tables, **said)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidInput(f"{path} is not a room's part of an archive.", private=repr(error)) from error
        if found.format != FORMAT:
            raise InvalidInput(f"{path}: format {found.format!r} is not offered; this release reads {FORMAT}.")
        if found.room != room:
            raise InvalidInput(f"{path} is the part of {found.room}, not of {room}.")
        return found

    def write(self, folder: Path) -> None:
        """Write it; whatever is there is complete from then on."""
        (folder / self.room / _PART).write_text(json.dumps(dataclasses.asdict(self), indent=1))


async def _nothing(_connection: AsyncConnection, _arrival: Arrival) -> None:
    """Bring nothing into step."""


@dataclass(frozen=True, slots=True)
class RoomPart:
    """How a room is exported and imported.

    Attributes:
        room: Name of the room, which is also that of its folder.
        database_url: Where its tables are.
        migrations: Package with their history.
        access: How the database lets the room in; None for what the address says.
        left_out: Tables that say something of this place only.
        settle: Brings what was loaded into step with a place where nobody has heard of anything: leases end, and what others
            may have missed is put into the outbox again. In the transaction that loads the rows.
        baggage: Opens what the room keeps besides its database; None for nothing.
    """

    room: str
    database_url: str
    migrations: str
    access: RoomSettings | None
    left_out: frozenset[str] = frozenset()
    settle: Callable[[AsyncConnection, Arrival], Awaitable[None]] = field(default=_nothing)
    baggage: Callable[[], Awaitable[Baggage]] | None = None

    async def pack(self, folder: Path, tell: Tell) -> PartFile:
        """Write the room's part into `folder/<room>`, which must not be there; return what was written.

        Everything is of one moment; the room may go on meanwhile.

        Raises:
            Conflict: The folder holds the room's part already, or there is nothing to export.
            Unavailable: The database is away.
        """
        own = folder / self.room
        if own.exists():
            raise Conflict(f"{own} is there already; export into an empty folder.")
        (own / _TABLES).mkdir(parents=True)
        database = Database(self.database_url, access=self.access)
        baggage = None if self.baggage is None else await self.baggage()
        packed: dict[str, Any] = {}
        try:
            began = time.time()
            async with database.connect() as connection:
                revision, tables = await save_tables(connection, own / _TABLES, left_out=self.left_out)
                if baggage is not None:
                    await baggage.note(connection)
            # The snapshot is let go first: PostgreSQL ends a transaction that is silent for long.
            if baggage is not None:
                packed = await baggage.pack(own, tell)
        finally:
            if baggage is not None:
                await baggage.close()
            await database.close()
        part = PartFile(self.room, FORMAT, began, revision, tables, packed)
        part.write(folder)
        return part

    async def check(self, folder: Path) -> PartFile:
        """See, without writing anything, that the room's part of an archive can be imported; return what it says.

        Raises:
            InvalidInput: The archive cannot be read by this release.
            Conflict: The target is not empty.
        """
        part = PartFile.read(folder, self.room)
        revisions = Migrations(self.migrations).revisions()
        if part.revision not in revisions:
            raise InvalidInput(
                f"{self.room}: the archive's tables are of version {part.revision!r}, which this release does not know "
                f"(newest: {revisions[-1]!r}); import it with the release that wrote it, or a newer one."
            )
        database = Database(self.database_url, access=self.access)
        try:
            # Makes the schema where it is not there, and nothing else.
            async with database.migrating() as connection:
                await check_empty(connection, self.room)
        finally:
            await database.close()
        if self.baggage is not None:
            baggage = await self.baggage()
            try:
                await baggage.check(part.baggage)
            finally:
                await baggage.close()
        return part

    async def unpack(self, folder: Path, arrival: Arrival, tell: Tell) -> dict[str, Any]:
        """Bring the room's part of an archive in; return what is to be reported.

        The tables are filled in one transaction, last: a part that was interrupted is not there.

        Raises:
            InvalidInput: The archive cannot be read by this release.
            Conflict: The target is not empty.
            Unavailable: The database, or what the room keeps besides, is away.
        """
        part = await self.check(folder)
        report: dict[str, Any] = {"room": self.room}
        if self.baggage is not None:
            baggage = await self.baggage()
            try:
                report |= await baggage.unpack(folder / self.room, part.baggage, tell)
            finally:
                await baggage.close()
        rebuild = arrival.rebuild or bool(report.get("rebuild"))
        heard = Arrival(arrival.since - _HEARD_WITHIN_S, rebuild, part.baggage)
        database = Database(self.database_url, access=self.access)
        try:
            async with database.migrating() as connection:
                await check_empty(connection, self.room)
                report["rows"] = await load_tables(
                    connection,
                    folder / self.room / _TABLES,
                    part.tables,
                    migrations=Migrations(self.migrations),
                    revision=part.revision,
                )
                await self.settle(connection, heard)
        finally:
            await database.close()
        return report
