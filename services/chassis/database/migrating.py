"""Bringing a room's tables to their newest version (Alembic)."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any, Final

import structlog
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from services.chassis.database.connections import Database
from services.chassis.errors import Unavailable

__all__ = ["VERSION_TABLE", "Migrations", "migrate"]

_log = structlog.get_logger()

# Between two tries to reach a database that is away.
_PAUSE_S: Final = 1.0

VERSION_TABLE = "alembic_version"
"""Where a database says at which version its tables are."""


class Migrations:
    """The history of a room's tables.

    Args:
        package: Package that holds it, in `versions`.
    """

    def __init__(self, package: str) -> None:
        self._package = package

    def revisions(self) -> list[str]:
        """Return every version, oldest first."""
        with self._scripts() as (_, script):
            return [found.revision for found in script.walk_revisions()][::-1]

    def upgrade(self, connection: Connection, revision: str = "head") -> None:
        """Bring the tables to a version, in the transaction that `connection` is in."""
        with self._scripts() as (config, script):

            def steps(present: Any, _context: MigrationContext) -> Any:
                return script._upgrade_revs(revision, present)  # noqa: SLF001  what Alembic's own command passes

            with EnvironmentContext(config, script, fn=steps) as environment:
                environment.configure(connection=connection, render_as_batch=True, version_table=VERSION_TABLE)
                with environment.begin_transaction():
                    environment.run_migrations()

    @contextmanager
    def _scripts(self) -> Iterator[tuple[Config, ScriptDirectory]]:
        config = Config()
        with resources.as_file(resources.files(self._package)) as folder:
            config.set_main_option("script_location", str(folder))
            config.set_main_option("path_separator", "os")
            yield config, ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])


async def migrate(database: Database, package: str, *, wait_s: float = 30.0) -> None:
    """Bring the database to the newest version in `<package>/versions`; all of it, or nothing when something fails.

    Several processes may do it at once: the others wait for the first. PostgreSQL's schema is made where it is not there. A
    database that is away is waited for: rooms and servers start in any order, and many at once are slow.

    Raises:
        Unavailable: The database is still away after `wait_s` seconds.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            async with database.migrating() as connection:
                await connection.run_sync(Migrations(package).upgrade)
        except Unavailable as error:
            if time.monotonic() + _PAUSE_S > until:
                raise
            _log.warning("database_waited_for", reason=error.message, private=error.private)
            await asyncio.sleep(_PAUSE_S)
        else:
            return
