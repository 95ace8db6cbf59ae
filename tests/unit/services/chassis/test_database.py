import asyncio
import sys
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from services.chassis.database import Database, migrate
from services.chassis.errors import InvalidInput

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


async def test_migrations_go_forward_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = tmp_path / "kitchen_migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "kitchen_migrations" / "__init__.py").touch()
    (versions / "0001_pots.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path))
    database = Database(f"sqlite:///{tmp_path}/state/kitchen.db")
    await migrate(database, "kitchen_migrations")
    async with database.begin() as connection:
        await connection.execute(text("insert into pots values ('big')"))
    (versions / "0002_litres.py").write_text(SECOND)
    for _ in range(2):
        await migrate(database, "kitchen_migrations")
    async with database.connect() as connection:
        assert (await connection.execute(text("select name, litres from pots"))).all() == [("big", None)]
    await database.close()
    sys.modules.pop("kitchen_migrations", None)


async def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    async with database.begin() as connection:
        await connection.execute(text("create table pots (name text)"))
    with pytest.raises(RuntimeError, match="spilled"):
        async with database.begin() as connection:
            await connection.execute(text("insert into pots values ('big')"))
            raise RuntimeError("spilled")
    async with database.connect() as connection:
        assert (await connection.execute(text("select * from pots"))).all() == []
    await database.close()


async def test_what_was_to_be_written_stands_in_no_error() -> None:
    # Errors are logged: a question or a title must not come along.
    database = Database("sqlite://")
    with pytest.raises(IntegrityError) as caught:
        async with database.begin() as connection:
            await connection.execute(text("create table pots (name text, litres integer not null)"))
            await connection.execute(text("insert into pots values (:name, null)"), {"name": "the secret pot"})
    assert "secret" not in str(caught.value) + repr(caught.value)
    await database.close()


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(InvalidInput, match="mysql"):
        Database("mysql://nowhere")


async def test_work_that_is_cancelled_twice_leaves_nothing_behind_that_waits_for_ever(tmp_path: Path) -> None:
    async def write_for_ever(database: Database) -> None:
        while True:
            async with database.begin() as connection:
                await connection.exec_driver_sql("UPDATE kept SET value = value + 1")

    random = Random(7)
    for number in range(40):
        database = Database(f"sqlite:///{tmp_path}/{number}.db")
        async with database.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE kept (value INTEGER)")
        work = asyncio.create_task(write_for_ever(database))
        await asyncio.sleep(random.random() * 0.03)
        work.cancel()
        # A few turns of the loop later it is in the middle of closing its connection.
        for _ in range(random.randrange(8)):
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await database.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
