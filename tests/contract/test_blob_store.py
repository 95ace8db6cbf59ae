"""What every back end of the blob store promises."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.errors import InvalidInput, NotFound


@pytest.fixture(params=["memory", "file"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return open_blobs("memory://" if request.param == "memory" else f"file://{tmp_path}/blobs")


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for part in data:
        yield part


async def test_what_is_put_is_got(blobs: BlobStore) -> None:
    await blobs.put("acme/a/b", b"soup")
    assert await blobs.get("acme/a/b") == b"soup"
    assert await blobs.size("acme/a/b") == 4
    await blobs.put("acme/a/b", b"stew!")
    assert await blobs.get("acme/a/b") == b"stew!"


async def test_a_stream_is_measured(blobs: BlobStore) -> None:
    data = [b"x" * 700_000, b"y" * 700_000, b"z"]
    size, digest = await blobs.put_stream("acme/s", parts(*data))
    assert (size, digest) == (1_400_001, hashlib.sha256(b"".join(data)).hexdigest())
    assert b"".join([part async for part in blobs.stream("acme/s")]) == b"".join(data)


async def test_a_stream_that_breaks_leaves_nothing(blobs: BlobStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("the sender left")

    with pytest.raises(ValueError, match="left"):
        await blobs.put_stream("acme/s", broken())
    assert await blobs.list("acme") == []


async def test_what_is_saved_replaces_the_file_whole(blobs: BlobStore, tmp_path: Path) -> None:
    data = b"x" * 1_400_001
    await blobs.put("acme/s", data)
    path = tmp_path / "saved"
    path.write_bytes(b"y" * 2_000_000)
    await blobs.save("acme/s", path)
    assert path.read_bytes() == data
    # A copy of its own: who changes the file changes nothing that is kept.
    path.write_bytes(b"z")
    assert await blobs.get("acme/s") == data
    with pytest.raises(NotFound):
        await blobs.save("acme/none", tmp_path / "none")
    with pytest.raises(OSError, match="nowhere"):
        await blobs.save("acme/s", tmp_path / "nowhere" / "saved")


async def test_missing_things_are_said_to_be_missing(blobs: BlobStore) -> None:
    with pytest.raises(NotFound):
        await blobs.get("acme/none")
    assert not await blobs.exists("acme/none")
    assert await blobs.delete(["acme/none"]) == 0


async def test_list_rename_delete(blobs: BlobStore) -> None:
    for key in ("acme/b", "acme/a", "acmeplus/c"):
        await blobs.put(key, b"1")
    assert await blobs.list("acme") == ["acme/a", "acme/b"]
    await blobs.rename("acme/a", "acme/d/e")
    assert await blobs.delete(["acme/d/e", "acme/b"]) == 2
    assert await blobs.list("acme") == []
    assert await blobs.list("acmeplus") == ["acmeplus/c"]


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(InvalidInput, match="ftp"):
        open_blobs("ftp://somewhere")
