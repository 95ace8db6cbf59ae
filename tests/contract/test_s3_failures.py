"""An S3 store that is away, dies, is frozen or refuses: `Unavailable` in a bounded time, and nothing left behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from services.chassis import blobs as chassis_blobs
from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.errors import NotFound, Unavailable
from tests.cluster.servers.process import passable_folder
from tests.cluster.servers.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def server() -> Iterator[S3Server]:
    with passable_folder() as folder:
        made = S3Server(folder / "s3")
        made.start()
        yield made
        made.stop()


@pytest.fixture
def blobs(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    """A store with the times of a cluster, shortened."""
    monkeypatch.setattr(chassis_blobs, "_CONNECT_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(chassis_blobs, "_SILENCE_TIMEOUT", timedelta(seconds=2))
    monkeypatch.setattr(chassis_blobs, "_RETRY_TIMEOUT", timedelta(seconds=2))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    return open_blobs(f"s3://{server.bucket}/room?endpoint={server.url}&plain_http=true")


def unfinished(server: S3Server) -> list[str]:
    """Parts of uploads that never came to their end; the store keeps them, and nobody lists them."""
    folder = server.folder / "objects" / server.bucket / ".sgwtmp"
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def every_call(blobs: BlobStore) -> list[BaseException | object]:
    async def parts() -> AsyncIterator[bytes]:
        yield b"soup"

    async def read() -> bytes:
        return b"".join([part async for part in blobs.stream("acme/a")])

    return await asyncio.gather(
        blobs.put("acme/b", b"soup"),
        blobs.put_stream("acme/c", parts()),
        blobs.get("acme/a"),
        read(),
        blobs.size("acme/a"),
        blobs.exists("acme/a"),
        blobs.delete(["acme/a"]),
        blobs.rename("acme/a", "acme/d"),
        blobs.list("acme"),
        return_exceptions=True,
    )


async def test_a_store_that_is_away_is_unavailable_soon(server: S3Server, blobs: BlobStore) -> None:
    await blobs.put("acme/a", b"soup")
    server.kill()
    began = time.monotonic()
    found = await every_call(blobs)
    assert [type(one) for one in found] == [Unavailable] * len(found)
    # A second of trying, not obstore's three minutes.
    assert time.monotonic() - began < 15
    server.start()
    assert await blobs.get("acme/a") == b"soup"
    assert await blobs.list("acme") == ["acme/a"]


async def test_a_frozen_store_is_given_up(server: S3Server, blobs: BlobStore) -> None:
    await blobs.put("acme/a", b"soup")
    server.freeze()
    began = time.monotonic()
    found = await every_call(blobs)
    took_s = time.monotonic() - began
    server.thaw()
    assert [type(one) for one in found] == [Unavailable] * len(found)
    assert took_s < 30


async def test_a_store_that_dies_while_something_is_read(server: S3Server, blobs: BlobStore) -> None:
    data = bytes(20_000_000)
    await blobs.put("acme/large", data)
    reading = blobs.stream("acme/large")
    assert await anext(reading)
    server.kill()
    with pytest.raises(Unavailable):
        while True:
            await anext(reading)


async def test_an_upload_that_breaks_leaves_no_parts(server: S3Server, blobs: BlobStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(1_000_000)
        raise ValueError("the sender left")

    with pytest.raises(ValueError, match="left"):
        await blobs.put_stream("acme/s", broken())
    assert await blobs.list("acme") == []
    assert unfinished(server) == []


async def test_an_upload_whose_sender_is_cancelled_leaves_no_parts(server: S3Server, blobs: BlobStore) -> None:
    sent = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        for number in range(30):
            yield bytes(1_000_000)
            if number == 20:
                sent.set()
                await asyncio.sleep(3600)

    upload = asyncio.create_task(blobs.put_stream("acme/s", slow()))
    await sent.wait()
    async with asyncio.timeout(20):
        while not unfinished(server):
            await asyncio.sleep(0.01)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    async with asyncio.timeout(20):
        while unfinished(server):
            await asyncio.sleep(0.1)
    assert await blobs.list("acme") == []


async def test_a_wrong_key_is_no_missing_blob(
    server: S3Server, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await blobs.put("acme/a", b"soup")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    stranger = open_blobs(f"s3://{server.bucket}/room?endpoint={server.url}&plain_http=true")
    with pytest.raises(Unavailable):
        await stranger.get("acme/a")
    with pytest.raises(NotFound):
        await blobs.get("acme/none")
