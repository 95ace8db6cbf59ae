"""An archive is complete, whole and understood, or nothing of it is imported."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.errors import Conflict, InvalidInput
from services.chassis.moving.archive import Archive, Manifest

CONTENTS = {"acme/files/1": b"soup" * 1_000_000, "acme/files/2": b"", "acme/text/same": b"soup" * 1_000_000}


def tell(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""


def manifest(**about: Any) -> Manifest:
    given: dict[str, Any] = {"format": 1, "version": "0.1", "began": 1.0, "ended": 2.0, "rooms": {}, "blobs": {}}
    return Manifest(**(given | {"secrets": {}} | about))


async def filled(url: str) -> BlobStore:
    blobs = open_blobs(url)
    for key, data in CONTENTS.items():
        await blobs.put(key, data)
    return blobs


async def made(tmp_path: Path) -> Archive:
    archive = Archive.made(tmp_path / "archive")
    (archive.folder / "chat").mkdir()
    (archive.folder / "chat" / "part.json").write_text("{}")
    await archive.blobs.pack(await filled(f"file://{tmp_path}/blobs"), tell)
    archive.complete(manifest())
    return archive


async def test_blobs_come_back_under_their_keys_and_the_same_content_is_kept_once(tmp_path: Path) -> None:
    archive = await made(tmp_path)
    assert [blob.key for blob in archive.blobs.kept()] == sorted(CONTENTS)
    contents = [path for path in (archive.folder / "blobs").rglob("*") if len(path.name) == 64]
    assert len(contents) == 2
    assert archive.verify(tell).version == "0.1"
    target = open_blobs(f"file://{tmp_path}/other")
    await archive.blobs.check(target)
    assert await archive.blobs.unpack(target, tell) == 3
    assert {entry.key: await target.get(entry.key) for entry in await target.entries()} == CONTENTS
    # What an interrupted import left is no hindrance, anything else is.
    await archive.blobs.check(target)
    await target.put("acme/files/3", b"foreign")
    with pytest.raises(Conflict, match="'acme/files/3', which is not of this archive"):
        await archive.blobs.check(target)


async def test_only_what_is_new_or_was_replaced_is_copied_again(tmp_path: Path) -> None:
    blobs = await filled(f"file://{tmp_path}/blobs")
    files = Archive.made(tmp_path / "archive").blobs
    assert await files.pack(blobs, tell) == 3
    await blobs.put("acme/files/2", b"stew")
    await blobs.put("acme/files/new", b"new")
    # The tables that are read between both may still name it.
    await blobs.delete(["acme/text/same"])
    assert await files.pack(blobs, tell) == 2
    sizes = {blob.key: blob.size for blob in files.kept()}
    assert sizes == {"acme/files/1": 4_000_000, "acme/files/2": 4, "acme/files/new": 3, "acme/text/same": 4_000_000}
    files.verify(tell)


async def test_a_blob_that_goes_before_it_is_copied_is_left_out(tmp_path: Path) -> None:
    blobs = await filled(f"file://{tmp_path}/blobs")

    class Vanishing(BlobStore):
        async def stream(self, key: str) -> AsyncIterator[bytes]:  # type: ignore[override]
            await blobs.delete(["acme/files/2"])
            async for part in blobs.stream(key):
                yield part

    files = Archive.made(tmp_path / "archive").blobs
    await files.pack(Vanishing(blobs._store, folder=blobs._folder), tell)
    assert [blob.key for blob in files.kept()] == ["acme/files/1", "acme/text/same"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "chat/part.json").write_text("{ }"), "part.json is damaged"),
        (lambda folder: (folder / "chat/part.json").unlink(), "part.json is missing"),
        (lambda folder: (folder / "blobs/keys.jsonl.gz").write_bytes(b""), "keys.jsonl.gz is damaged"),
        (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json: it is no archive, or one whose export"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
    ],
)
async def test_a_damaged_archive_is_refused(tmp_path: Path, damage: Any, message: str) -> None:
    archive = await made(tmp_path)
    damage(archive.folder)
    with pytest.raises(InvalidInput, match=message):
        archive.verify(tell)


async def test_a_damaged_blob_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    archive = await made(tmp_path)
    content = next(
        path for path in (archive.folder / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 9e5
    )
    whole = content.read_bytes()
    content.write_bytes(whole[:-1] + b"!")
    with pytest.raises(InvalidInput, match="is missing or damaged"):
        archive.verify(tell)
    with pytest.raises(InvalidInput, match="changed while it was read"):
        await archive.blobs.unpack(open_blobs("memory://"), tell)


async def test_an_archive_of_another_format_is_refused_with_the_release_that_wrote_it(tmp_path: Path) -> None:
    archive = await made(tmp_path)
    path = archive.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2, "version": "9.9"}))
    with pytest.raises(InvalidInput, match=r"format 2 is not offered; this release reads 1\. .* wrote it \(9\.9\)"):
        archive.manifest()


async def test_a_name_that_leads_out_of_the_archive_is_refused(tmp_path: Path) -> None:
    archive = await made(tmp_path)
    (tmp_path / "outside").write_text("x")
    path = archive.folder / "manifest.json"
    said = json.loads(path.read_text())
    said["files"]["../outside"] = "00"
    path.write_text(json.dumps(said))
    with pytest.raises(InvalidInput, match="outside is missing"):
        archive.verify(tell)


def test_an_export_goes_into_a_new_or_empty_folder_that_only_its_owner_reads(tmp_path: Path) -> None:
    assert Archive.made(tmp_path / "new").folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "new" / "file").write_text("")
    with pytest.raises(Conflict, match="is not empty; export into a new one"):
        Archive.made(tmp_path / "new")
    with pytest.raises(InvalidInput, match="cannot be written to"):
        Archive.made(tmp_path / "new" / "file")
