"""Deletion, counted to zero; access lists, narrowed at once."""

import asyncio
from typing import Any

import pytest

from brain.ingestion.v1 import collection_pb2, document_pb2, file_pb2
from services.chassis.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from tests.unit.services.ingestion.conftest import ALICE, BOB, BOSS, CURT, FOREIGNER, Opened, Room

TEXT = b"# Leave\n\nEvery employee has thirty days of leave.\n"


def stores(receipt: Any) -> dict[str, tuple[int, int]]:
    assert all(entry.counted for entry in receipt.stores)
    return {entry.store: (entry.removed, entry.remaining) for entry in receipt.stores}


async def set_access(room: Room, document_id: str, *principals: str, caller: Any = ALICE) -> Any:
    request = document_pb2.SetAccessRequest(document_id=document_id, principals=principals)
    return (await room.call(room.documents.SetAccess, request, caller)).document


async def test_a_deletion_is_withheld_at_once_and_counted_to_zero(room: Room) -> None:
    collection_id = await room.collection()
    await room.indexed(collection_id, TEXT, key="leave")
    found = await room.indexed(collection_id, TEXT + b"\nMore.\n", key="leave", attributes_json='{"year": 1}')
    receipt = await room.delete(found.document_id)
    assert found.document_id in room.retrieval.withheld
    assert receipt.HasField("withheld_at")
    done = await room.deleted(found.document_id)
    counted = stores(done)
    assert {store: remaining for store, (_, remaining) in counted.items()} == dict.fromkeys(
        ("index", "versions", "blobs", "files", "events"), 0
    )
    # Two versions with text, chunks and sections each, and one revision of the attributes.
    assert counted["versions"][0] == 2
    assert counted["blobs"][0] == 7
    assert counted["files"][0] == 2
    assert counted["index"][0] == 2
    assert room.kept() == []
    assert await room.gone(found.document_id)
    assert room.metric("brain_ingestion_documents_total", outcome="deleted") == 1
    with pytest.raises(NotFound):
        await room.delete(found.document_id)


async def test_bytes_that_others_use_stay(room: Room) -> None:
    collection_id = await room.collection()
    one, two = await room.indexed(collection_id, TEXT), await room.indexed(collection_id, TEXT)
    await room.delete(one.document_id)
    assert stores(await room.deleted(one.document_id))["files"] == (0, 0)
    download = file_pb2.DownloadFileRequest(file_id=two.file_id)
    room_token = room.minter.mint(ALICE)
    metadata = (("authorization", f"Bearer {room_token}"),)
    data = b"".join([part.data async for part in room.files.DownloadFile(download, timeout=60, metadata=metadata)])
    assert data == TEXT
    await room.delete(two.document_id)
    assert stores(await room.deleted(two.document_id))["files"] == (1, 0)
    assert room.kept() == []


async def test_the_bytes_of_one_tenant_are_not_anothers(room: Room) -> None:
    mine = await room.indexed(await room.collection(), TEXT)
    theirs = await room.indexed(await room.collection(FOREIGNER), TEXT, caller=FOREIGNER)
    await room.delete(mine.document_id)
    await room.deleted(mine.document_id)
    assert [key.split("/")[0] for key in room.kept()] == ["globex"] * 4
    with pytest.raises(NotFound):
        await room.delete(theirs.document_id, BOSS)


async def test_while_the_index_is_away_nothing_is_deleted(room: Room) -> None:
    found = await room.indexed(await room.collection(), TEXT)
    room.retrieval.broken = True
    with pytest.raises(Unavailable):
        await room.delete(found.document_id)
    assert await room.get(found.document_id) == found
    with pytest.raises(NotFound):
        await room.call(room.documents.GetDeletion, document_pb2.GetDeletionRequest(document_id=found.document_id))


async def test_a_document_may_be_deleted_while_it_is_read(room: Room) -> None:
    room.reader.gate.clear()
    made = await room.upload(await room.collection(), TEXT)
    document_id = made.document.document_id
    await room.until(document_id, lambda found: found.state == document_pb2.DOCUMENT_STATE_PARSING)
    await room.delete(document_id)
    room.reader.gate.set()
    await room.deleted(document_id)
    marker = await room.indexed(await room.collection(), b"Read after that.")
    assert "chunked" not in room.retrieval.kinds(document_id)
    assert all(marker.document_id in key or "/files/" in key for key in room.kept())
    assert len([key for key in room.kept() if "/files/" in key]) == 1


async def test_the_key_of_a_deleted_document_is_free_at_once(room: Room) -> None:
    collection_id = await room.collection()
    first = await room.indexed(collection_id, TEXT, key="leave")
    await room.delete(first.document_id)
    second = await room.indexed(collection_id, TEXT, key="leave")
    assert second.document_id != first.document_id
    assert second.version == 1
    await room.deleted(first.document_id)
    assert (await room.get(second.document_id)).active_version == 1
    assert len([key for key in room.kept() if "/files/" in key]) == 1


async def test_an_upload_of_bytes_that_are_deleted_meanwhile_keeps_them(room: Room) -> None:
    collection_id = await room.collection()
    for number in range(4):
        data = b"Note number %d." % number
        old = await room.indexed(collection_id, data)
        await room.delete(old.document_id)
        made, _ = await asyncio.gather(room.upload(collection_id, data), room.deleted(old.document_id))
        assert (await room.ended(made.document.document_id)).state == document_pb2.DOCUMENT_STATE_INDEXED
        assert any(made.document.digest in key for key in room.kept())


async def test_a_receipt_is_for_those_whom_the_document_concerned(room: Room) -> None:
    found = await room.indexed(await room.collection(), TEXT)
    await room.delete(found.document_id, CURT)
    for caller in (ALICE, CURT, BOSS):
        await room.deleted(found.document_id, caller)
    for caller in (BOB, FOREIGNER):
        with pytest.raises(NotFound):
            await room.deleted(found.document_id, caller)


async def test_a_collection_goes_with_its_documents(room: Room) -> None:
    collection_id = await room.collection()
    found = [await room.indexed(collection_id, b"Note %d." % number) for number in range(3)]
    request = collection_pb2.DeleteCollectionRequest(collection_id=collection_id)
    for caller, refusal in ((BOB, PermissionDenied), (FOREIGNER, NotFound)):
        with pytest.raises(refusal):
            await room.call(room.collections.DeleteCollection, request, caller)
    answer = await room.call(room.collections.DeleteCollection, request)
    assert answer.document_count == 3
    assert set(answer.document_ids) == {entry.document_id for entry in found}
    assert {entry.document_id for entry in found} <= room.retrieval.withheld
    for entry in found:
        await room.deleted(entry.document_id)
    assert room.kept() == []
    with pytest.raises(NotFound):
        await room.call(
            room.collections.GetCollection, collection_pb2.GetCollectionRequest(collection_id=collection_id)
        )


async def test_when_the_index_leaves_half_way_no_document_is_withheld_and_alive(room: Room) -> None:
    collection_id = await room.collection()
    found = [await room.indexed(collection_id, b"Note %d." % number) for number in range(3)]
    room.retrieval.broken_after = 2
    request = collection_pb2.DeleteCollectionRequest(collection_id=collection_id)
    with pytest.raises(Unavailable, match="2 of 3"):
        await room.call(room.collections.DeleteCollection, request)
    withheld = set(room.retrieval.withheld)
    for entry in found:
        if entry.document_id in withheld:
            await room.deleted(entry.document_id)
        else:
            assert (await room.get(entry.document_id)).state == document_pb2.DOCUMENT_STATE_INDEXED
    room.retrieval.broken_after = 100
    assert (await room.call(room.collections.DeleteCollection, request)).document_count == 1


async def test_narrowing_holds_before_the_answer(room: Room) -> None:
    found = await room.indexed(await room.collection(), TEXT, principals=["group:sales", "user:bob"], has_access=True)
    narrowed = await set_access(room, found.document_id, "user:bob")
    assert list(narrowed.principals) == ["user:bob"]
    assert room.retrieval.restricted[found.document_id] == (2, ("user:alice", "user:bob"))
    async with asyncio.timeout(30):
        while "access_changed" not in room.retrieval.kinds(found.document_id):
            await asyncio.sleep(0.02)
    told = room.retrieval.facts[-1].access_changed
    assert (list(told.principals), told.access_revision) == (["user:alice", "user:bob"], 2)


async def test_while_the_index_is_away_access_may_only_widen(room: Room) -> None:
    found = await room.indexed(await room.collection(), TEXT, principals=["user:bob"], has_access=True)
    room.retrieval.broken = True
    with pytest.raises(Unavailable):
        await set_access(room, found.document_id)
    assert list((await room.get(found.document_id)).principals) == ["user:bob"]
    widened = await set_access(room, found.document_id, "user:bob", "group:sales")
    assert list(widened.principals) == ["user:bob", "group:sales"]
    assert room.retrieval.restricted == {}


async def test_lists_that_are_set_at_once_end_in_one_that_the_index_has(room: Room) -> None:
    found = await room.indexed(
        await room.collection(), TEXT, principals=[f"user:u{number}" for number in range(9)], has_access=True
    )
    await asyncio.gather(*(set_access(room, found.document_id, f"user:u{number}") for number in range(5)))
    document = await room.get(found.document_id)
    revision, principals = room.retrieval.restricted[found.document_id]
    assert principals == ("user:alice", *document.principals)
    async with asyncio.timeout(30):
        while room.retrieval.kinds(found.document_id).count("access_changed") < 5:
            await asyncio.sleep(0.02)
    revisions = [entry.access_changed.access_revision for entry in room.retrieval.facts[1:]]
    assert revisions == sorted(revisions)
    assert revision == revisions[-1]


async def test_access_is_the_collections_default_or_the_documents_own(room: Room) -> None:
    collection_id = await room.collection(default_principals=["group:sales"])
    default = await room.indexed(collection_id, b"one")
    own = await room.indexed(collection_id, b"two", has_access=True)
    assert list(default.principals) == ["group:sales"]
    assert list(own.principals) == []
    assert (await room.get(default.document_id, BOB)).document_id == default.document_id
    assert await room.gone(own.document_id, BOB)
    request = collection_pb2.UpdateCollectionRequest(
        collection_id=collection_id, replace_default_principals=True, name="New"
    )
    changed = (await room.call(room.collections.UpdateCollection, request)).collection
    assert (changed.name, list(changed.default_principals)) == ("New", [])
    assert list((await room.get(default.document_id)).principals) == ["group:sales"]
    with pytest.raises(PermissionDenied):
        await room.call(room.collections.UpdateCollection, request, BOB)


async def test_a_new_version_may_bring_a_narrower_list(room: Room) -> None:
    collection_id = await room.collection()
    found = await room.indexed(collection_id, TEXT, key="leave", principals=["group:sales"], has_access=True)
    kept = await room.indexed(collection_id, TEXT + b"2", key="leave")
    assert list(kept.principals) == ["group:sales"]
    room.retrieval.broken = True
    with pytest.raises(Unavailable):
        await room.upload(collection_id, TEXT + b"3", key="leave", has_access=True)
    room.retrieval.broken = False
    narrowed = await room.indexed(collection_id, TEXT + b"3", key="leave", has_access=True)
    assert (narrowed.version, list(narrowed.principals)) == (3, [])
    assert room.retrieval.restricted[found.document_id] == (2, ("user:alice",))
    same = await room.upload(collection_id, TEXT + b"3", key="leave", principals=["user:bob"], has_access=True)
    assert same.unchanged
    assert list(same.document.principals) == ["user:bob"]


async def test_principals_are_users_and_groups(room: Room) -> None:
    found = await room.indexed(await room.collection(), TEXT)
    for wrong in ("bob", "user:", "role:x", "user:a\nb"):
        with pytest.raises(InvalidInput, match="principals"):
            await set_access(room, found.document_id, wrong)
    with pytest.raises(NotFound):
        await set_access(room, found.document_id, caller=BOB)


async def test_nothing_is_forgotten_when_the_room_is_started_again(open_room: Opened) -> None:
    room = await open_room()
    collection_id = await room.collection()
    room.reader.gate.clear()
    made = [await room.upload(collection_id, b"Note %d." % number) for number in range(4)]
    gone = await room.upload(collection_id, b"Gone.")
    await room.delete(gone.document.document_id)
    # Stopped while two are read and the others wait; what an earlier crash left lies about.
    (room.blobs / "acme" / "files").mkdir(parents=True, exist_ok=True)
    (room.blobs / "acme" / "files" / ("0" * 64)).write_bytes(b"never noted")
    (room.blobs / "acme" / "text" / "doc_unknown").mkdir(parents=True)
    (room.blobs / "acme" / "text" / "doc_unknown" / "1.txt").write_bytes(b"of nobody")
    (room.blobs / "uploads").mkdir(exist_ok=True)
    (room.blobs / "uploads" / "up_0123456789ab7000800000000000000f").write_bytes(b"given up long ago")
    room = await open_room()
    for entry in made:
        found = await room.ended(entry.document.document_id)
        assert found.state == document_pb2.DOCUMENT_STATE_INDEXED
        assert room.retrieval.kinds(found.document_id) == ["chunked"]
    await room.deleted(gone.document.document_id)
    async with asyncio.timeout(30):
        while any("uploads" in key for key in room.kept()):
            await asyncio.sleep(0.02)
    known = {entry.document.document_id for entry in made}
    digests = {entry.document.digest for entry in made}
    for key in room.kept():
        assert set(key.split("/")) & (known | digests), key
