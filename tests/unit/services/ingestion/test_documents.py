"""Documents through the room: from an upload to INDEXED or FAILED, versions, text, lists."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from brain.ingestion.v1 import collection_pb2, document_pb2
from services.chassis.auth import Caller
from services.chassis.errors import Conflict, InvalidInput, NotFound, PermissionDenied, TooLarge
from tests.unit.services.ingestion.conftest import ALICE, BOB, BOSS, CURT, FOREIGNER, VERA, Opened, Room

TEXT = b"# Leave\n\nEvery employee has thirty days of leave.\n\n# Sickness\n\nTell your manager before nine.\n"


async def text_of(room: Room, document_id: str, version: int = 0) -> document_pb2.GetDocumentTextResponse:
    request = document_pb2.GetDocumentTextRequest(document_id=document_id, version=version)
    answer: document_pb2.GetDocumentTextResponse = await room.call(room.documents.GetDocumentText, request)
    return answer


async def listed(room: Room, collection_id: str, caller: Caller = ALICE, **values: Any) -> list[str]:
    request = document_pb2.ListDocumentsRequest(collection_id=collection_id, **values)
    answer = await room.call(room.documents.ListDocuments, request, caller)
    return [entry.filename for entry in answer.documents]


async def test_an_upload_becomes_searchable(room: Room) -> None:
    collection_id = await room.collection(name="handbook")
    made = await room.upload(collection_id, TEXT, filename="../../leave.md", attributes_json='{"year": 2024}')
    assert not made.unchanged
    assert made.document.filename == "leave.md"
    assert made.document.media_type == "text/markdown"
    found = await room.ended(made.document.document_id)
    assert found.state == document_pb2.DOCUMENT_STATE_INDEXED
    assert (found.version, found.active_version, found.chunk_count) == (1, 1, 2)
    chunks = room.retrieval.chunks[found.document_id, 1]
    assert json.loads(chunks.attributes_json) == {"year": 2024}
    stored = await text_of(room, found.document_id)
    for chunk in chunks.chunks:
        assert chunk.text == stored.text[chunk.start : chunk.end]
    assert [list(section.locator.heading_path) for section in stored.sections] == [["Leave"], ["Sickness"]]
    event = room.retrieval.facts[0].chunked
    assert event.principals == ["user:alice"]
    assert (room.blobs / event.text_blob_key).read_text() == stored.text
    assert room.metric("brain_ingestion_documents_total", outcome="indexed") == 1
    assert room.metric("brain_ingestion_freshness_seconds_count") == 1
    use = await room.call(
        room.collections.GetCollection, collection_pb2.GetCollectionRequest(collection_id=collection_id)
    )
    assert (use.collection.counts.indexed, use.collection.usage_bytes) == (1, len(TEXT))


async def test_events_carry_no_text(room: Room) -> None:
    collection_id = await room.collection()
    await room.indexed(collection_id, b"The secret ingredient is nutmeg.", attributes_json='{"who": "nutmeg-fan"}')
    assert room.retrieval.envelopes
    assert not any(b"nutmeg" in envelope.payload for envelope in room.retrieval.envelopes)


async def test_the_same_bytes_under_the_same_key_do_nothing(room: Room) -> None:
    collection_id = await room.collection()
    first = await room.indexed(collection_id, TEXT, key="a/leave.md")
    kept = room.kept()
    again = await room.upload(collection_id, TEXT, key="a/leave.md")
    assert again.unchanged
    assert again.document == first
    assert room.kept() == kept
    assert room.retrieval.kinds(first.document_id) == ["chunked"]


async def test_without_a_key_a_document_is_always_new(room: Room) -> None:
    collection_id = await room.collection()
    one, two = await room.indexed(collection_id, TEXT), await room.indexed(collection_id, TEXT)
    assert one.document_id != two.document_id
    assert one.key == one.file_id
    # The bytes are kept once.
    assert len([key for key in room.kept() if "/files/" in key]) == 1


async def test_the_old_version_stays_searchable_until_the_new_one_is(room: Room) -> None:
    collection_id = await room.collection()
    first = await room.indexed(collection_id, TEXT, key="leave")
    room.retrieval.silent = True
    await room.upload(collection_id, TEXT + b"\nMore.\n", key="leave")
    waiting = await room.until(first.document_id, lambda found: found.state == document_pb2.DOCUMENT_STATE_CHUNKED)
    assert (waiting.version, waiting.active_version) == (2, 1)
    assert "More." not in (await text_of(room, first.document_id)).text
    await room.retrieval.index("acme", first.document_id, 2)
    done = await room.ended(first.document_id)
    assert (done.version, done.active_version) == (2, 2)
    assert "More." in (await text_of(room, first.document_id)).text
    assert "More." not in (await text_of(room, first.document_id, 1)).text


async def test_a_failed_version_keeps_the_old_one(room: Room) -> None:
    collection_id = await room.collection()
    first = await room.indexed(collection_id, TEXT, key="leave")
    await room.upload(collection_id, b"", key="leave")
    failed = await room.ended(first.document_id)
    assert failed.state == document_pb2.DOCUMENT_STATE_FAILED
    assert failed.failure_code == "invalid_file"
    assert "empty" in failed.failure_reason.lower()
    assert (failed.version, failed.active_version) == (2, 1)
    assert "thirty days" in (await text_of(room, first.document_id)).text


async def test_what_is_not_read_fails_with_a_reason(room: Room) -> None:
    collection_id = await room.collection()
    made = await room.upload(collection_id, b"\x7fELF\x02\x01\x01" + bytes(200), filename="tool")
    failed = await room.ended(made.document.document_id)
    assert failed.failure_code == "unsupported_file"
    assert failed.failure_reason
    assert room.metric("brain_ingestion_documents_total", outcome="failed") == 1
    with pytest.raises(Conflict, match="no searchable version"):
        await text_of(room, failed.document_id)


async def test_a_version_that_the_index_rejects_fails(room: Room) -> None:
    room.retrieval.rejects = "Its chunks cannot be read."
    made = await room.upload(await room.collection(), TEXT)
    failed = await room.ended(made.document.document_id)
    assert (failed.failure_code, failed.failure_reason) == ("server_error", "Its chunks cannot be read.")


async def test_a_failure_of_ours_may_be_tried_again_with_the_same_bytes(room: Room) -> None:
    collection_id = await room.collection()
    room.retrieval.rejects = "No space."
    made = await room.upload(collection_id, TEXT, key="leave")
    await room.ended(made.document.document_id)
    room.retrieval.rejects = ""
    again = await room.indexed(collection_id, TEXT, key="leave")
    assert (again.document_id, again.version) == (made.document.document_id, 2)


async def test_two_uploads_of_one_key_at_once_are_two_versions_in_order(room: Room) -> None:
    collection_id = await room.collection()
    answers = await asyncio.gather(
        *(room.upload(collection_id, b"Number %d of the note." % number, key="note") for number in range(6))
    )
    assert sorted(answer.document.version for answer in answers) == [1, 2, 3, 4, 5, 6]
    [document_id] = {answer.document.document_id for answer in answers}
    last = max(answers, key=lambda answer: answer.document.version).document
    done = await room.until(document_id, lambda found: found.active_version == 6)
    assert done.digest == last.digest
    told = [entry.chunked.version for entry in room.retrieval.facts]
    assert told == sorted(told), "a later version must never be followed by an earlier one"


async def test_late_and_repeated_events_change_nothing(room: Room) -> None:
    collection_id = await room.collection()
    await room.indexed(collection_id, TEXT, key="leave")
    found = await room.indexed(collection_id, TEXT + b"More.", key="leave")
    for version in (1, 2, 1, 7):
        await room.retrieval.index("acme", found.document_id, version)
    await room.retrieval.index("globex", found.document_id, 2)
    await room.retrieval.index("acme", "doc_unknown", 1)
    marker = await room.indexed(collection_id, b"Read after those events.")
    assert marker.active_version == 1
    assert await room.get(found.document_id) == found
    assert room.metric("brain_ingestion_documents_total", outcome="indexed") == 3


async def test_an_event_that_cannot_be_read_fails_its_document(room: Room) -> None:
    room.retrieval.silent = True
    made = await room.upload(await room.collection(), TEXT)
    document_id = made.document.document_id
    await room.until(document_id, lambda found: found.state == document_pb2.DOCUMENT_STATE_CHUNKED)
    from services.chassis.events.log import new_envelope

    broken = new_envelope(tenant="acme", type="version_indexed", key=document_id, payload=b"\xff\xff")
    await room.retrieval.log.publish("brain.index.v1", [broken])
    failed = await room.ended(document_id)
    assert failed.failure_code == "server_error"
    assert room.metric("brain_dead_letter_records_total", topic="brain.index.v1") == 1


async def test_too_many_bytes_leave_nothing_behind(open_room: Opened) -> None:
    room = await open_room(max_document_bytes=100_000)
    collection_id = await room.collection()
    with pytest.raises(TooLarge, match="100000"):
        await room.upload(collection_id, bytes(300_000))
    with pytest.raises(InvalidInput, match="at most"):
        await room.upload(collection_id, bytes(3_000_000), part=2_000_000)
    assert room.kept() == []
    assert await listed(room, collection_id) == []


async def test_a_caller_who_leaves_during_an_upload_leaves_nothing(room: Room) -> None:
    collection_id = await room.collection()
    begun = asyncio.Event()

    async def parts() -> AsyncIterator[Any]:
        yield document_pb2.UploadDocumentRequest(
            header=document_pb2.UploadDocumentHeader(collection_id=collection_id, filename="a.md")
        )
        for _ in range(12):
            yield document_pb2.UploadDocumentRequest(data=bytes(1_000_000))
        begun.set()
        await asyncio.sleep(3600)

    call = asyncio.create_task(room.call(room.documents.UploadDocument, parts()))
    await begun.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    async with asyncio.timeout(30):
        while room.kept():
            await asyncio.sleep(0.05)
    assert await listed(room, collection_id) == []


@pytest.mark.parametrize(
    ("header", "param"),
    [
        ({"principals": ["sales"], "has_access": True}, "principals"),
        ({"attributes_json": "[1]"}, "attributes"),
        ({"attributes_json": '{"a": {"b": 1}}'}, "attributes"),
        ({"key": "x" * 2000}, "key"),
        ({"key": "file-" + "0" * 32}, "key"),
        ({"chunking": collection_pb2.Chunking(max_tokens=50)}, "chunking.max_tokens"),
        ({"chunking": collection_pb2.Chunking(max_tokens=200, overlap_tokens=101)}, "chunking.overlap_tokens"),
    ],
)
async def test_wrong_headers_are_named(room: Room, header: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as wrong:
        await room.upload(await room.collection(), TEXT, **header)
    assert wrong.value.param == param
    assert room.kept() == []


async def test_an_upload_begins_with_its_header(room: Room) -> None:
    async def parts() -> AsyncIterator[Any]:
        yield document_pb2.UploadDocumentRequest(data=b"x")

    with pytest.raises(InvalidInput, match="header"):
        await room.call(room.documents.UploadDocument, parts())


async def test_chunking_is_the_documents_or_the_collections(room: Room) -> None:
    long = b" ".join(b"Sentence number %d says something." % number for number in range(200))
    collection_id = await room.collection(chunking=collection_pb2.Chunking(max_tokens=120, overlap_tokens=10))
    small = await room.indexed(collection_id, long)
    assert small.chunking.max_tokens == 120
    large = await room.indexed(collection_id, long, chunking=collection_pb2.Chunking(max_tokens=240, overlap_tokens=0))
    assert large.chunk_count < small.chunk_count


async def test_the_same_bytes_cut_otherwise_are_a_new_version(room: Room) -> None:
    collection_id = await room.collection()
    await room.indexed(collection_id, TEXT, key="leave")
    other = await room.indexed(
        collection_id, TEXT, key="leave", chunking=collection_pb2.Chunking(max_tokens=100, overlap_tokens=5)
    )
    assert other.version == 2


async def test_a_list_shows_what_the_caller_may_see(room: Room) -> None:
    collection_id = await room.collection()
    await room.indexed(collection_id, b"mine", filename="mine.txt")
    await room.indexed(collection_id, b"ours", filename="ours.txt", principals=["group:sales"], has_access=True)
    await room.indexed(collection_id, b"everyone's", filename="all.txt", principals=["group:everyone"], has_access=True)
    assert await listed(room, collection_id) == ["all.txt", "ours.txt", "mine.txt"]
    assert await listed(room, collection_id, BOB) == ["all.txt", "ours.txt"]
    assert await listed(room, collection_id, VERA) == ["all.txt"]
    for caller in (CURT, BOSS):
        assert await listed(room, collection_id, caller) == ["all.txt", "ours.txt", "mine.txt"]
    with pytest.raises(NotFound):
        await listed(room, collection_id, FOREIGNER)


async def test_lists_are_narrowed_and_paged(room: Room) -> None:
    collection_id = await room.collection()
    made = [
        await room.indexed(collection_id, b"text %d" % number, filename=f"Über {number}.txt", key=f"a/{number}")
        for number in range(5)
    ]
    await room.ended((await room.upload(collection_id, b"", filename="empty.txt", key="b/1")).document.document_id)
    names = [entry.filename for entry in made]
    assert await listed(room, collection_id, key_prefix="a/", ascending=True) == names
    assert await listed(room, collection_id, key_prefix="A/") == []
    assert await listed(room, collection_id, name_contains="über 3") == ["Über 3.txt"]
    assert await listed(room, collection_id, name_contains="%") == []
    assert await listed(room, collection_id, states=[document_pb2.DOCUMENT_STATE_FAILED]) == ["empty.txt"]
    assert await listed(room, collection_id, file_ids=[made[2].file_id]) == [names[2]]
    after = made[3].document_id
    assert await listed(room, collection_id, after=after, limit=2) == [names[2], names[1]]
    assert await listed(room, collection_id, after=made[3].file_id, limit=2) == [names[2], names[1]]
    assert await listed(room, collection_id, before=made[1].document_id, limit=2) == [names[3], names[2]]
    assert await listed(room, collection_id, before=after, ascending=True, limit=2) == [names[1], names[2]]
    request = document_pb2.ListDocumentsRequest(collection_id=collection_id, limit=6)
    assert not (await room.call(room.documents.ListDocuments, request)).has_more
    request.limit = 5
    assert (await room.call(room.documents.ListDocuments, request)).has_more
    with pytest.raises(InvalidInput, match="limit"):
        await listed(room, collection_id, limit=1001)


async def test_what_a_caller_may_not_know_of_does_not_exist(room: Room) -> None:
    collection_id = await room.collection()
    found = await room.indexed(collection_id, TEXT, key="leave")
    for caller in (BOB, VERA, FOREIGNER):
        with pytest.raises(NotFound):
            await room.get(found.document_id, caller)
    shared = await room.indexed(collection_id, TEXT, key="shared", principals=["group:sales"], has_access=True)
    assert (await room.get(shared.document_id, BOB)).key == "shared"
    with pytest.raises(PermissionDenied):
        await room.delete(shared.document_id, BOB)
    with pytest.raises(PermissionDenied):
        await room.upload(collection_id, b"mine now", key="shared", caller=BOB)
    with pytest.raises(NotFound):
        await room.delete(found.document_id, BOB)
    with pytest.raises(NotFound):
        await room.upload(collection_id, b"x", caller=FOREIGNER)


async def test_attributes_change_without_a_new_version(room: Room) -> None:
    collection_id = await room.collection()
    found = await room.indexed(collection_id, TEXT, attributes_json='{"year": 2023}')
    request = document_pb2.UpdateDocumentRequest(document_id=found.document_id, attributes_json='{"year": 2024}')
    changed = (await room.call(room.documents.UpdateDocument, request)).document
    assert json.loads(changed.attributes_json) == {"year": 2024}
    assert changed.version == 1
    async with asyncio.timeout(30):
        while "attributes_changed" not in room.retrieval.kinds(found.document_id):
            await asyncio.sleep(0.02)
    told = room.retrieval.facts[-1].attributes_changed
    assert told.attributes_revision == 2
    assert json.loads((room.blobs / told.attributes_blob_key).read_bytes()) == {"year": 2024}
    request.attributes_json = json.dumps({f"k{number}": 1 for number in range(17)})
    with pytest.raises(InvalidInput, match="16"):
        await room.call(room.documents.UpdateDocument, request)


async def test_attributes_that_change_while_a_document_is_read_travel_with_it(room: Room) -> None:
    room.reader.gate.clear()
    made = await room.upload(await room.collection(), TEXT, attributes_json='{"year": 1}')
    await room.until(made.document.document_id, lambda found: found.state == document_pb2.DOCUMENT_STATE_PARSING)
    request = document_pb2.UpdateDocumentRequest(document_id=made.document.document_id, attributes_json='{"year": 2}')
    await room.call(room.documents.UpdateDocument, request)
    room.reader.gate.set()
    found = await room.ended(made.document.document_id)
    assert json.loads(room.retrieval.chunks[found.document_id, 1].attributes_json) == {"year": 2}


async def test_cancelling_ends_the_work(room: Room) -> None:
    room.reader.gate.clear()
    collection_id = await room.collection()
    made = await room.upload(collection_id, TEXT, key="leave")
    await room.until(made.document.document_id, lambda found: found.state == document_pb2.DOCUMENT_STATE_PARSING)
    request = document_pb2.CancelDocumentRequest(document_id=made.document.document_id)
    cancelled = (await room.call(room.documents.CancelDocument, request)).document
    assert cancelled.state == document_pb2.DOCUMENT_STATE_CANCELLED
    room.reader.gate.set()
    marker = await room.indexed(collection_id, b"Read after that.")
    assert marker.active_version == 1
    assert room.retrieval.kinds(made.document.document_id) == []
    assert (await room.get(made.document.document_id)).state == document_pb2.DOCUMENT_STATE_CANCELLED
    again = await room.indexed(collection_id, TEXT, key="leave")
    assert (again.version, again.active_version) == (2, 2)
    untouched = (await room.call(room.documents.CancelDocument, request)).document
    assert untouched.state == document_pb2.DOCUMENT_STATE_INDEXED
