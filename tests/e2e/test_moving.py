"""Export and import by the rooms' own programs, of an installation whose rooms do not run."""

from pathlib import Path

import pytest
from sqlalchemy import text

from services.chassis.blobs import open_blobs
from services.chassis.database import Database, migrate
from services.local.moving import export_all, import_all
from services.local.plan import ROOMS, free_addresses, plan_stack
from services.local.stack import prepare
from tests.moved_stacks import asked

# Starts each room's program a dozen times, which takes minutes: it runs with the tests of the cluster that installations move to.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SAID: list[str] = []
SECRETS = ("api-keys.secret", "webhooks.secret")


def tell(what: str, _done: int, _total: int) -> None:
    SAID.append(what)


async def made(state_dir: Path) -> None:
    """Make an installation as the rooms would at their first start, with a key, a deletion and a blob."""
    prepare(plan_stack(state_dir=state_dir, addresses=free_addresses(0), inherited={}))
    for room in ROOMS:
        database = Database(f"sqlite:///{state_dir}/{room}/room.db")
        await migrate(database, "gateway.migrations" if room == "gateway" else f"services.{room}.migrations")
        if room == "gateway":
            async with database.begin() as connection:
                await connection.execute(text("INSERT INTO quotas VALUES ('acme', 5)"))
        await database.close()
    await open_blobs(f"file://{state_dir}/blobs").put("acme/files/1", b"soup")
    (state_dir / "keys" / "administrator.key").write_text("key-1")


def secrets(state_dir: Path) -> dict[str, bytes]:
    return {name: (state_dir / "keys" / name).read_bytes() for name in SECRETS}


async def quota(state_dir: Path) -> int:
    database = Database(f"sqlite:///{state_dir}/gateway/room.db")
    async with database.connect() as connection:
        found = await connection.scalar(text("SELECT tokens_per_day FROM quotas"))
    await database.close()
    return int(found)


async def test_an_installation_comes_back_whole_with_the_secrets_that_open_it(tmp_path: Path) -> None:
    old, new, archive = (tmp_path / name for name in ("old", "new", "archive"))
    await made(old)
    done = await export_all(state_dir=old, environment={}, folder=archive, with_secrets=True, tell=tell)
    assert (done["rooms"]["gateway"], done["blobs"], done["bring_by_hand"]) == (1, {"count": 1, "bytes": 4}, {})
    assert {path.name: path.stat().st_mode & 0o777 for path in (archive / "secrets").iterdir()} == dict.fromkeys(
        (*SECRETS, "administrator.key"), 0o600
    )
    brought = await import_all(state_dir=new, environment={}, folder=archive, new_secrets=False, tell=tell)
    assert (brought["rooms"], brought["blobs"], brought["rebuild"]) == (done["rooms"], 1, False)
    assert secrets(new) == secrets(old)
    assert (new / "keys" / "administrator.key").read_text() == "key-1"
    assert await quota(new) == 5
    assert await open_blobs(f"file://{new}/blobs").get("acme/files/1") == b"soup"
    assert {"blobs", "retrieval: done", "gateway: done"} <= set(SAID)


def test_the_command_says_what_stands_in_the_way(tmp_path: Path) -> None:
    said = asked(tmp_path / "nowhere", {}, "export", str(tmp_path / "archive"))
    assert said == f"export failed: state-dir: there is no installation in '{tmp_path}/nowhere'."
    (tmp_path / "archive").mkdir()
    said = asked(tmp_path / "new", {}, "import", str(tmp_path / "archive"))
    assert "holds no manifest.json: it is no archive, or one whose export did not end." in said
