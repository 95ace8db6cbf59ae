"""What stands in the way of an import is said before any room is asked, and nothing is written."""

from pathlib import Path
from typing import Any

import pytest

from services.chassis.blobs import open_blobs
from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.chassis.moving.archive import Archive, Manifest
from services.local.moving import _bring_secrets, _fingerprint, _Installation, _pack_secrets, export_all, import_all
from services.local.plan import ROOMS
from services.local.stack import only_one, prepare

pytestmark = pytest.mark.usefixtures("socket_enabled")

SECRETS = {"api-keys.secret": b"one", "webhooks.secret": b"two"}


def tell(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""


async def archive(tmp_path: Path, **about: Any) -> Path:
    """Write an archive of blobs, and of rooms that nobody will come to read."""
    blobs = open_blobs(f"file://{tmp_path}/source")
    await blobs.put("acme/files/1", b"soup")
    made = Archive.made(tmp_path / "archive")
    await made.blobs.pack(blobs, tell)
    for name, secret in SECRETS.items():
        (tmp_path / name).write_bytes(secret)
    said: dict[str, Any] = {"rooms": {room: {} for room in ROOMS}, "blobs": {}, "format": 1, "version": "0"}
    said |= {"secrets": {name: _fingerprint(tmp_path / name) for name in SECRETS}}
    made.complete(Manifest(**(said | {"began": 1.0, "ended": 2.0} | about)))
    return made.folder


async def bring(state_dir: Path, folder: Path, *, new_secrets: bool = False) -> None:
    await import_all(state_dir=state_dir, environment={}, folder=folder, new_secrets=new_secrets, tell=tell)


async def test_keys_that_would_open_nothing_are_noticed(tmp_path: Path) -> None:
    folder, new = await archive(tmp_path), tmp_path / "new"
    with pytest.raises(NotFound, match=r"api-keys\.secret is not there, and the archive does not carry it"):
        await bring(new, folder)
    (new / "keys").mkdir()
    (new / "keys" / "api-keys.secret").write_bytes(b"another")
    with pytest.raises(Conflict, match="is not the secret that the archive's API keys were made with"):
        await bring(new, folder)
    (new / "keys" / "api-keys.secret").write_bytes(SECRETS["api-keys.secret"])
    with pytest.raises(NotFound, match="without which the archive's secrets of webhooks do not work"):
        await bring(new, folder)
    assert sorted(path.name for path in new.iterdir()) == ["keys", "lock"]


def test_secrets_travel_in_the_archive_where_that_is_asked_for(tmp_path: Path) -> None:
    old, new = (_Installation.of(tmp_path / name, {}) for name in ("old", "new"))
    prepare(old.plan)
    old.administrator.write_text("key-1")
    archive = Archive.made(tmp_path / "archive")
    _pack_secrets(old, archive)
    assert {path.name: path.stat().st_mode & 0o777 for path in archive.secrets.iterdir()} == dict.fromkeys(
        (*SECRETS, "administrator.key"), 0o600
    )
    said = {name: _fingerprint(path) for name, path in old.secret_files().items()}
    _bring_secrets(new, archive, Manifest(1, "0", 1.0, 2.0, {}, {}, said), new_secrets=False)
    assert {name: path.read_bytes() for name, path in new.secret_files().items()} == {
        name: path.read_bytes() for name, path in old.secret_files().items()
    }
    assert new.administrator.read_text() == "key-1"


async def test_a_store_that_holds_something_else_is_noticed(tmp_path: Path) -> None:
    folder, new = await archive(tmp_path), tmp_path / "new"
    await open_blobs(f"file://{new}/blobs").put("acme/files/other", b"x")
    with pytest.raises(Conflict, match="'acme/files/other', which is not of this archive"):
        await bring(new, folder, new_secrets=True)
    assert not (new / "gateway" / "room.db").exists()


async def test_a_part_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    folder, new = await archive(tmp_path, rooms={"retrieval": {}}), tmp_path / "new"
    with pytest.raises(InvalidInput, match="holds no part of ingestion"):
        await bring(new, folder)
    assert not new.exists()


async def test_a_stack_that_runs_is_noticed(tmp_path: Path) -> None:
    folder, new = await archive(tmp_path), tmp_path / "new"
    with only_one(new), pytest.raises(Conflict, match="Another stack is running"):
        await bring(new, folder)


async def test_there_must_be_an_installation_to_export(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no installation in"):
        await export_all(
            state_dir=tmp_path / "nowhere", environment={}, folder=tmp_path / "out", with_secrets=False, tell=tell
        )
    assert not (tmp_path / "nowhere").exists()
