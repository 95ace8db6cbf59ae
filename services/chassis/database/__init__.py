"""A room's own database: SQLite on one machine, PostgreSQL in a cluster; SQLAlchemy Core on asyncio.

One database (a SQLite file, a PostgreSQL schema) and one migration history per room.
"""

from services.chassis.database.connections import Database, hold, upsert
from services.chassis.database.migrating import Migrations, migrate

__all__ = ["Database", "Migrations", "hold", "migrate", "upsert"]
