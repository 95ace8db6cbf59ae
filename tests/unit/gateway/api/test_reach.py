"""What deletions and narrower access lists say of adapters, over every route that takes something away."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.api.bodies import validated
from gateway.api.brain.collections import CollectionRoutes
from gateway.api.brain.documents import DocumentRoutes
from gateway.api.brain.requests import Access
from gateway.api.openai.files import FileRoutes
from gateway.api.openai.store_files import StoreFileRoutes
from gateway.api.openai.stores import StoreRoutes
from gateway.bootstrap.serving import Assembled
from gateway.domain.keeping import Deletion, Document, NewDocument
from gateway.usecases.withholding import Withholding
from services.chassis.errors import InvalidInput, Unavailable
from tests.asgi_client import Client
from tests.unit.gateway.usecases.test_withholding import DOGS, NOW


class Rooms:
    """Ingestion, and a registry in which one adapter saw every document."""

    def __init__(self) -> None:
        self.is_away = False
        self.withheld: list[str] = []

    async def get_document(self, document_id: str) -> Document:
        return replace(DOGS, id=document_id, owner="ann")

    async def get_document_of_file(self, collection_id: str, file_id: str) -> Document:
        return replace(DOGS, id=f"doc_of_{file_id}", file_id=file_id, owner="ann")

    async def delete_document(self, document_id: str) -> Deletion:
        return Deletion(document_id, NOW, None, ())

    async def set_access(self, document_id: str, principals: Sequence[str]) -> Document:
        return replace(DOGS, id=document_id, principals=tuple(principals))

    async def upload_document(self, new: NewDocument, data: Any) -> tuple[Document, bool]:
        return replace(DOGS, version=2), False

    async def delete_file(self, file_id: str) -> Sequence[str]:
        return ["doc_1"]

    async def delete_collection(self, collection_id: str) -> Sequence[str]:
        return ["doc_1", "doc_2"]

    async def withhold(self, document_ids: Sequence[str], *, principals: Sequence[str] | None) -> Sequence[str]:
        if self.is_away:
            raise Unavailable("The finetuning service is not available.")
        self.withheld += document_ids
        return ["ft:base:acme:dogs:1"]


@pytest.fixture
def rooms(serve: Callable[..., None]) -> Rooms:
    rooms: Any = Rooms()
    withholding = Withholding(documents=rooms, adapters=rooms)
    serve(
        *DocumentRoutes(ingestion=rooms, withholding=withholding).routes(),
        *CollectionRoutes(ingestion=rooms, withholding=withholding).routes(),
        *FileRoutes(ingestion=rooms, withholding=withholding).routes(),
        *StoreRoutes(ingestion=rooms, retrieval=rooms, withholding=withholding).routes(),
        *StoreFileRoutes(ingestion=rooms, withholding=withholding).routes(),
    )
    return rooms  # type: ignore[no-any-return]


ROUTES = [
    ("DELETE", "/brain/v1/documents/doc_1", b"", ["doc_1"]),
    ("PUT", "/brain/v1/documents/doc_1/access", b'{"access": ["group:hr"]}', ["doc_1"]),
    ("POST", "/brain/v1/documents?collection=vs_1&filename=dogs.md&access=", b"# Dogs", ["doc_dogs"]),
    ("DELETE", "/brain/v1/collections/vs_1", b"", ["doc_1", "doc_2"]),
    ("DELETE", "/v1/files/file-1", b"", ["doc_1"]),
    ("DELETE", "/v1/vector_stores/vs_1", b"", ["doc_1", "doc_2"]),
    ("DELETE", "/v1/vector_stores/vs_1/files/file-1", b"", ["doc_of_file-1"]),
]


@pytest.mark.parametrize(
    ("method", "target", "body", "documents"), ROUTES, ids=[f"{one[0]} {one[1]}" for one in ROUTES]
)
async def test_the_adapters_that_are_refused_from_now_on_are_named(
    gateway: Assembled, key: str, rooms: Rooms, method: str, target: str, body: bytes, documents: list[str]
) -> None:
    answer = await Client(gateway.app, key).ask(method, target, body)
    assert answer.status in {200, 202}, answer.body
    assert answer.json()["adapters"] == ["ft:base:acme:dogs:1"]
    assert rooms.withheld == documents


@pytest.mark.parametrize(
    ("method", "target", "body", "documents"), ROUTES, ids=[f"{one[0]} {one[1]}" for one in ROUTES]
)
async def test_a_room_that_is_away_is_said_to_follow(
    gateway: Assembled, key: str, rooms: Rooms, method: str, target: str, body: bytes, documents: list[str]
) -> None:
    rooms.is_away = True
    answer = await Client(gateway.app, key).ask(method, target, body)
    assert answer.status in {200, 202}, answer.body
    assert answer.json()["adapters"] == "pending"


async def test_a_list_that_ingestion_would_refuse_blocks_nothing(gateway: Assembled, key: str, rooms: Rooms) -> None:
    client = Client(gateway.app, key)
    for access in ('["hr"]', '["group:a\\u0001b"]', '["group: a"]'):
        answer = await client.ask("PUT", "/brain/v1/documents/doc_1/access", f'{{"access": {access}}}'.encode())
        assert answer.status == 400
        assert answer.json()["error"]["param"].startswith("access")
    assert rooms.withheld == []
    with pytest.raises(InvalidInput, match="at most 500"):
        validated(Access, {"access": ["user:ann"] * 501})
