"""What every back end of the blob store promises."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.errors import InvalidInput, NotFound
from tests.cluster_servers import ClusterServers


@pytest.fixture(params=["memory", "file", pytest.param("s3", marks=pytest.mark.cluster)])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    match request.param:
        case "memory":
            return open_blobs("memory://")
        case "file":
            return open_blobs(f"file://{tmp_path}/blobs")
    servers: ClusterServers = request.getfixturevalue("cluster")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.s3_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.s3_secret_key)
    prefix = f"test-{secrets.token_hex(6)}/blobs"
    return open_blobs(f"s3://{servers.s3_bucket}/{prefix}?endpoint={servers.s3}&region=us-east-1&plain_http=true")


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


async def test_a_large_stream_comes_back_as_it_was(blobs: BlobStore) -> None:
    # More than S3 takes at once: 5 MiB is its smallest part but the last.
    data = [secrets.token_bytes(700_000) for _ in range(20)]
    size, digest = await blobs.put_stream("acme/large", parts(*data))
    whole = b"".join(data)
    assert (size, digest) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert await blobs.size("acme/large") == len(whole)
    await blobs.rename("acme/large", "acme/moved")
    assert not await blobs.exists("acme/large")
    assert b"".join([part async for part in blobs.stream("acme/moved")]) == whole


async def test_a_large_stream_that_breaks_leaves_what_was_there(blobs: BlobStore) -> None:
    await blobs.put("acme/s", b"before")

    async def broken() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(700_000)
        raise ValueError("the sender left")

    with pytest.raises(ValueError, match="left"):
        await blobs.put_stream("acme/s", broken())
    assert await blobs.get("acme/s") == b"before"
    assert await blobs.list("acme") == ["acme/s"]


async def test_a_stream_whose_reader_is_cancelled_leaves_what_was_there(blobs: BlobStore) -> None:
    await blobs.put("acme/s", b"before")
    sent = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield bytes(700_000)
        sent.set()
        await asyncio.sleep(3600)

    upload = asyncio.create_task(blobs.put_stream("acme/s", slow()))
    await sent.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await blobs.get("acme/s") == b"before"
    assert await blobs.list("acme") == ["acme/s"]


async def test_many_are_listed_and_removed(blobs: BlobStore) -> None:
    keys = [f"acme/many/{number:04}" for number in range(70)]
    for key in keys:
        await blobs.put(key, b"1")
    assert await blobs.list("acme/many") == keys
    assert await blobs.delete([*keys, "acme/many/none", keys[0]]) == 70
    assert await blobs.list("acme") == []


async def test_keys_are_any_text(blobs: BlobStore) -> None:
    for key in ("acme/a b", "acme/ä+%20&?#=", "acme/a:b@c"):
        await blobs.put(key, key.encode())
        assert await blobs.get(key) == key.encode()
    assert await blobs.list("acme") == sorted(("acme/a b", "acme/ä+%20&?#=", "acme/a:b@c"))


async def test_an_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    assert await blobs.put_stream("acme/empty", parts()) == (0, hashlib.sha256(b"").hexdigest())
    assert await blobs.get("acme/empty") == b""
    assert b"".join([part async for part in blobs.stream("acme/empty")]) == b""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "s3://BUCKET"),
        ("s3://key:hidden@bucket/a", "environment"),
        ("s3://bucket?secret=hidden", "'secret' is not offered"),
        ("s3://bucket?endpoint=http://store:9000", "plain_http"),
        ("s3://bucket?plain_http=yes", "true or false"),
    ],
)
def test_an_address_of_s3_that_is_none_is_refused_and_no_secret_shown(url: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        open_blobs(url)
    assert "hidden" not in str(caught.value)


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(InvalidInput, match="ftp"):
        open_blobs("ftp://somewhere")


async def test_everything_is_listed_and_what_was_replaced_is_told_apart(blobs: BlobStore) -> None:
    assert await blobs.entries() == []
    await blobs.put("acme/a", b"soup")
    await blobs.put("globex/b", b"stew!")
    first = await blobs.entries()
    assert [(entry.key, entry.size) for entry in first] == [("acme/a", 4), ("globex/b", 5)]
    await asyncio.sleep(0.01)
    await blobs.put("acme/a", b"soap")
    second = await blobs.entries()
    assert (second[0].size, second[0].mark != first[0].mark) == (4, True)
    assert second[1] == first[1]
