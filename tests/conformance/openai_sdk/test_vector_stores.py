import io
from typing import Any

import pytest
from openai import NotFoundError, OpenAI


def test_a_store_lives_from_creation_to_deletion(client: OpenAI) -> None:
    made = client.vector_stores.create(name="one", metadata={"a": "b"})
    assert (made.object, made.name, made.metadata) == ("vector_store", "one", {"a": "b"})
    assert made.file_counts.total == 0
    assert client.vector_stores.update(made.id, name="two").name == "two"
    assert client.vector_stores.retrieve(made.id).name == "two"
    assert made.id in [store.id for store in client.vector_stores.list()]
    assert client.vector_stores.delete(made.id).deleted is True
    with pytest.raises(NotFoundError):
        client.vector_stores.retrieve(made.id)


def test_uploaded_files_are_counted_and_listed(client: OpenAI, shelf: Any) -> None:
    store = client.vector_stores.retrieve(shelf.store)
    assert store.status == "completed"
    assert (store.file_counts.completed, store.file_counts.total) == (2, 2)
    assert {file.id for file in client.vector_stores.files.list(shelf.store)} == set(shelf.files.values())
    file = client.vector_stores.files.retrieve(shelf.files["travel.md"], vector_store_id=shelf.store)
    assert (file.status, file.last_error, file.attributes) == ("completed", None, {"kind": "travel.md"})


def test_search_finds_the_passage(client: OpenAI, shelf: Any) -> None:
    page = client.vector_stores.search(shelf.store, query="How much may I spend on meals each day?", max_num_results=3)
    best = page.data[0]
    assert best.file_id == shelf.files["travel.md"]
    assert best.filename == "travel.md"
    assert 0 <= best.score <= 1
    assert "42 euros" in best.content[0].text


def test_several_queries_are_one_search(client: OpenAI, shelf: Any) -> None:
    page = client.vector_stores.search(shelf.store, query=["dogs in the office", "meal allowance"])
    assert {result.filename for result in page.data} == {"travel.md", "pets.md"}


def test_filters_leave_files_out(client: OpenAI, shelf: Any) -> None:
    page = client.vector_stores.search(
        shelf.store, query="meal allowance", filters={"type": "eq", "key": "kind", "value": "pets.md"}
    )
    assert {result.filename for result in page.data} <= {"pets.md"}
    both = client.vector_stores.search(
        shelf.store,
        query="meal allowance",
        filters={
            "type": "or",
            "filters": [
                {"type": "eq", "key": "kind", "value": "travel.md"},
                {"type": "in", "key": "kind", "value": ["none"]},
            ],
        },
    )
    assert {result.filename for result in both.data} == {"travel.md"}


def test_the_text_of_a_file_can_be_read(client: OpenAI, shelf: Any) -> None:
    parts = list(client.vector_stores.files.content(shelf.files["pets.md"], vector_store_id=shelf.store))
    assert "25 kilograms" in "".join(part.text or "" for part in parts)


def test_a_batch_ends(client: OpenAI) -> None:
    store = client.vector_stores.create(name="batch")
    files = [(f"note-{n}.txt", io.BytesIO(f"Note {n}: the code of room {n} is {n * 111}.".encode())) for n in (1, 2, 3)]
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files, poll_interval_ms=200)
    assert batch.status == "completed"
    assert (batch.file_counts.completed, batch.file_counts.total) == (3, 3)
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    assert len(list(listed)) == 3
    client.vector_stores.delete(store.id)


def test_a_file_that_cannot_be_read_fails_with_a_reason(client: OpenAI) -> None:
    store = client.vector_stores.create(name="broken")
    done = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("broken.pdf", io.BytesIO(b"%PDF-1.7\nnothing more")), poll_interval_ms=200
    )
    assert done.status == "failed"
    assert done.last_error is not None
    assert done.last_error.code in {"invalid_file", "unsupported_file", "server_error"}
    assert len(done.last_error.message) > 10
    client.vector_stores.delete(store.id)


def test_a_removed_file_is_found_no_more(client: OpenAI) -> None:
    store = client.vector_stores.create(name="leaving")
    done = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("leaving.txt", io.BytesIO(b"The vault code is 7193.")), poll_interval_ms=200
    )
    assert client.vector_stores.search(store.id, query="vault code").data
    assert client.vector_stores.files.delete(done.id, vector_store_id=store.id).deleted is True
    assert not client.vector_stores.search(store.id, query="vault code").data
    client.vector_stores.delete(store.id)
