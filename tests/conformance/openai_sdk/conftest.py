"""One client and one filled vector store for all tests of the openai SDK."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from openai import OpenAI


@dataclass(frozen=True)
class Shelf:
    """A vector store with its files."""

    store: str
    files: dict[str, str]


@pytest.fixture(scope="session")
def client(url: str, key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key=key, timeout=180, max_retries=2) as made:
        yield made


@pytest.fixture(scope="session")
def model(client: OpenAI) -> str:
    return next(iter(client.models.list())).id


@pytest.fixture(scope="session")
def shelf(client: OpenAI, texts: dict[str, bytes]) -> Iterator[Shelf]:
    store = client.vector_stores.create(name="Larkspur", metadata={"made_by": "conformance"})
    files = {}
    for name, data in texts.items():
        done = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=(name, io.BytesIO(data)), poll_interval_ms=200, attributes={"kind": name}
        )
        assert done.status == "completed", done.last_error
        files[name] = done.id
    yield Shelf(store.id, files)
    client.vector_stores.delete(store.id)
    for file in files.values():
        client.files.delete(file)
