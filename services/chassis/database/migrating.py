"""Bringing a room's tables to their newest version (Alembic)."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from services.chassis.database.connections import Database

__all__ = ["VERSION_TABLE", "Migrations", "migrate"]

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


async def migrate(database: Database, package: str) -> None:
    """Bring the database to the newest version in `<package>/versions`; all of it, or nothing when something fails.

    Several processes may do it at once: the others wait for the first. PostgreSQL's schema is made where it is not there.

    Raises:
        Unavailable: The database is away.
    """
    async with database.migrating() as connection:
        await connection.run_sync(Migrations(package).upgrade)
