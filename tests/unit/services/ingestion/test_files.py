"""Files, batches of files, expiry."""

import asyncio
from typing import Any

import pytest

from brain.ingestion.v1 import batch_pb2, collection_pb2, document_pb2, file_pb2
from services.chassis.errors import InvalidInput, NotFound, PermissionDenied, TooLarge, Unavailable
from tests.unit.services.ingestion.conftest import ALICE, BOB, BOSS, FOREIGNER, VERA, Opened, Room

TEXT = b"# Leave\n\nEvery employee has thirty days of leave.\n"


async def download(room: Room, file_id: str, caller: Any = ALICE) -> bytes:
    from services.chassis.rpc.client import remote

    with remote("ingestion", token=room.minter.mint(caller)) as metadata:
        stream = room.files.DownloadFile(file_pb2.DownloadFileRequest(file_id=file_id), timeout=60, metadata=metadata)
        return b"".join([part.data async for part in stream])


async def add(room: Room, collection_id: str, file_id: str, caller: Any = ALICE, **values: Any) -> Any:
    request = document_pb2.AddFileRequest(collection_id=collection_id, file_id=file_id, **values)
    return await room.call(room.documents.AddFile, request, caller)


async def delete(room: Room, file_id: str, caller: Any = ALICE) -> list[str]:
    request = file_pb2.DeleteFileRequest(file_id=file_id)
    return list((await room.call(room.files.DeleteFile, request, caller)).document_ids)


async def names(room: Room, caller: Any = ALICE, **values: Any) -> list[str]:
    answer = await room.call(room.files.ListFiles, file_pb2.ListFilesRequest(**values), caller)
    return [entry.filename for entry in answer.files]


async def test_a_file_comes_back_as_it_was(room: Room) -> None:
    data = bytes(range(256)) * 20_000
    file = await room.upload_file(data, filename="C:\\temp\\re\u202eport.bin", purpose="user_data")
    assert file.filename == "report.bin"
    assert file.size_bytes == len(data)
    assert await download(room, file.file_id) == data
    again = (await room.call(room.files.GetFile, file_pb2.GetFileRequest(file_id=file.file_id))).file
    assert again == file
    assert await download(room, file.file_id, BOSS) == data
    for caller in (BOB, FOREIGNER):
        with pytest.raises(NotFound):
            await download(room, file.file_id, caller)


async def test_files_are_listed_for_their_owner(room: Room) -> None:
    for number in range(3):
        await room.upload_file(b"%d" % number, filename=f"{number}.txt")
    await room.upload_file(b"rows", filename="rows.jsonl", purpose="fine-tune")
    await room.upload_file(b"bob's", filename="bob.txt", caller=BOB)
    await room.indexed(await room.collection(), TEXT, filename="document.md")
    assert await names(room) == ["rows.jsonl", "2.txt", "1.txt", "0.txt"]
    assert await names(room, purpose="fine-tune") == ["rows.jsonl"]
    assert await names(room, BOB) == ["bob.txt"]
    assert len(await names(room, BOSS)) == 5
    assert await names(room, FOREIGNER) == []
    assert await names(room, limit=2, ascending=True) == ["0.txt", "1.txt"]
    with pytest.raises(InvalidInput, match="purpose"):
        await names(room, purpose="fun")


@pytest.mark.parametrize(
    ("header", "param"),
    [({"purpose": "fun"}, "purpose"), ({"purpose": ""}, "purpose"), ({"expires_after_s": 5}, "expires_after")],
)
async def test_wrong_headers_are_named(room: Room, header: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as wrong:
        await room.upload_file(b"x", **header)
    assert wrong.value.param == param
    assert room.kept() == []


async def test_a_file_that_is_too_large_leaves_nothing(open_room: Opened) -> None:
    room = await open_room(max_file_bytes=200_000, max_document_bytes=1_000)
    with pytest.raises(TooLarge):
        await room.upload_file(bytes(200_001))
    assert room.kept() == []
    file = await room.upload_file(bytes(200_000))
    with pytest.raises(TooLarge, match="1000"):
        await add(room, await room.collection(), file.file_id)


async def test_a_file_becomes_a_document_once(room: Room) -> None:
    collection_id = await room.collection()
    file = await room.upload_file(TEXT)
    first = await add(room, collection_id, file.file_id)
    again = await add(room, collection_id, file.file_id)
    assert not first.unchanged
    assert again.unchanged
    assert again.document.document_id == first.document.document_id
    found = await room.ended(first.document.document_id)
    assert found.state == document_pb2.DOCUMENT_STATE_INDEXED
    place = document_pb2.FileInCollection(collection_id=collection_id, file_id=file.file_id)
    request = document_pb2.GetDocumentRequest(file=place)
    assert (await room.call(room.documents.GetDocument, request)).document == found
    with pytest.raises(NotFound):
        await add(room, collection_id, file.file_id, BOB)
    with pytest.raises(NotFound):
        await add(room, collection_id, "file-" + "0" * 32)


async def test_who_may_read_a_document_may_read_its_source(room: Room) -> None:
    file = await room.upload_file(TEXT)
    await add(room, await room.collection(), file.file_id, principals=["group:everyone"], has_access=True)
    assert await download(room, file.file_id, VERA) == TEXT
    with pytest.raises(PermissionDenied):
        await delete(room, file.file_id, BOB)


async def test_a_file_goes_with_the_documents_made_of_it(room: Room) -> None:
    file = await room.upload_file(TEXT)
    made = [await add(room, await room.collection(), file.file_id) for _ in range(2)]
    documents = [entry.document.document_id for entry in made]
    for document_id in documents:
        await room.ended(document_id)
    room.retrieval.broken = True
    with pytest.raises(Unavailable):
        await delete(room, file.file_id)
    assert await download(room, file.file_id) == TEXT
    room.retrieval.broken = False
    assert sorted(await delete(room, file.file_id)) == sorted(documents)
    with pytest.raises(NotFound):
        await download(room, file.file_id)
    for document_id in documents:
        await room.deleted(document_id)
    assert room.kept() == []


async def test_deleting_a_document_leaves_a_file_of_its_own(room: Room) -> None:
    file = await room.upload_file(TEXT)
    made = await add(room, await room.collection(), file.file_id)
    await room.ended(made.document.document_id)
    await room.delete(made.document.document_id)
    await room.deleted(made.document.document_id)
    assert await download(room, file.file_id) == TEXT
    await delete(room, file.file_id)
    assert room.kept() == []


async def batch_of(room: Room, collection_id: str, *files: Any) -> Any:
    request = batch_pb2.CreateFileBatchRequest(
        collection_id=collection_id, files=[batch_pb2.BatchFile(file_id=entry) for entry in files]
    )
    return (await room.call(room.batches.CreateFileBatch, request)).batch


async def get_batch(room: Room, batch: Any, caller: Any = ALICE) -> Any:
    request = batch_pb2.GetFileBatchRequest(collection_id=batch.collection_id, batch_id=batch.batch_id)
    return (await room.call(room.batches.GetFileBatch, request, caller)).batch


async def test_a_batch_counts_its_documents(room: Room) -> None:
    collection_id = await room.collection()
    files = [(await room.upload_file(b"Note %d." % number)).file_id for number in range(3)]
    files.append((await room.upload_file(b"")).file_id)
    batch = await batch_of(room, collection_id, *files)
    assert batch.counts.in_progress + batch.counts.indexed + batch.counts.failed == 4
    async with asyncio.timeout(60):
        while (batch := await get_batch(room, batch)).counts.in_progress:
            await asyncio.sleep(0.02)
    assert (batch.counts.indexed, batch.counts.failed) == (3, 1)
    assert list(batch.file_ids) == files
    with pytest.raises(NotFound):
        await get_batch(room, batch, BOB)


async def test_a_batch_with_a_wrong_file_adds_none(room: Room) -> None:
    collection_id = await room.collection()
    file = await room.upload_file(TEXT)
    with pytest.raises(NotFound, match="file-none"):
        await batch_of(room, collection_id, file.file_id, "file-none")
    with pytest.raises(InvalidInput, match="files"):
        await batch_of(room, collection_id)
    request = collection_pb2.GetCollectionRequest(collection_id=collection_id)
    counts = (await room.call(room.collections.GetCollection, request)).collection.counts
    assert counts.in_progress + counts.indexed + counts.failed == 0


async def test_cancelling_a_batch_ends_what_is_not_searchable(room: Room) -> None:
    room.reader.gate.clear()
    collection_id = await room.collection()
    files = [(await room.upload_file(b"Note %d." % number)).file_id for number in range(5)]
    batch = await batch_of(room, collection_id, *files)
    request = batch_pb2.CancelFileBatchRequest(collection_id=collection_id, batch_id=batch.batch_id)
    cancelled = (await room.call(room.batches.CancelFileBatch, request)).batch
    assert cancelled.cancelled
    assert cancelled.counts.cancelled == 5
    room.reader.gate.set()
    await room.indexed(collection_id, b"Read after that.")
    assert (await get_batch(room, batch)).counts.cancelled == 5


async def test_what_has_expired_goes(open_room: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    room = await open_room(sweep_interval_s=0.1)
    lasting, passing = await room.collection(), await room.collection(expires_after_days=2)
    file = await room.upload_file(TEXT, expires_after_s=7200)
    made = await add(room, lasting, file.file_id)
    inside = await room.indexed(passing, b"In a collection that goes.")
    other = await room.indexed(lasting, b"Stays.")
    await room.ended(made.document.document_id)
    import time

    from services.ingestion import bootstrap

    class Later:
        @staticmethod
        def time() -> float:
            return time.time() + 3 * 86_400

    monkeypatch.setattr(bootstrap, "time", Later)
    room = await open_room(sweep_interval_s=0.1)
    async with asyncio.timeout(60):
        while not (await room.gone(made.document.document_id) and await room.gone(inside.document_id)):
            await asyncio.sleep(0.05)
    with pytest.raises(NotFound):
        await download(room, file.file_id)
    request = collection_pb2.ListCollectionsRequest()
    left = (await room.call(room.collections.ListCollections, request)).collections
    assert [entry.collection_id for entry in left] == [lasting]
    assert (await room.get(other.document_id)).state == document_pb2.DOCUMENT_STATE_INDEXED
    receipt = await room.deleted(inside.document_id)
    assert receipt.HasField("withheld_at")


async def test_collections_are_the_tenants(room: Room) -> None:
    for name in ("a", "b", "c"):
        await room.collection(name=name, metadata={"team": name})
    await room.collection(FOREIGNER, name="theirs")
    answer = await room.call(room.collections.ListCollections, collection_pb2.ListCollectionsRequest(limit=2), VERA)
    assert [entry.name for entry in answer.collections] == ["c", "b"]
    assert answer.has_more
    after = collection_pb2.ListCollectionsRequest(after=answer.collections[-1].collection_id)
    rest = await room.call(room.collections.ListCollections, after, VERA)
    assert [(entry.name, dict(entry.metadata)) for entry in rest.collections] == [("a", {"team": "a"})]
    assert not rest.has_more
    named = await room.call(room.collections.ListCollections, collection_pb2.ListCollectionsRequest(name="b"))
    assert [entry.name for entry in named.collections] == ["b"]
    for wrong in ({"metadata": {str(number): "" for number in range(17)}}, {"expires_after_days": 400}):
        with pytest.raises(InvalidInput):
            await room.collection(**wrong)
