"""Bringing a room's tables to their newest version (Alembic)."""

from importlib import resources
from typing import Any

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from services.chassis.database.connections import Database

__all__ = ["migrate"]


async def migrate(database: Database, package: str) -> None:
    """Bring the database to the newest version in `<package>/versions`; all of it, or nothing when something fails.

    Several processes may do it at once: the others wait for the first. PostgreSQL's schema is made where it is not there.

    Raises:
        Unavailable: The database is away.
    """
    config = Config()
    with resources.as_file(resources.files(package)) as folder:
        config.set_main_option("script_location", str(folder))
        config.set_main_option("path_separator", "os")
        script = ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])
        async with database.migrating() as connection:
            await connection.run_sync(_upgrade, config, script)


def _upgrade(connection: Connection, config: Config, script: ScriptDirectory) -> None:
    def steps(revision: Any, _context: MigrationContext) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001  what Alembic's own command passes

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, render_as_batch=True)
        with environment.begin_transaction():
            environment.run_migrations()
