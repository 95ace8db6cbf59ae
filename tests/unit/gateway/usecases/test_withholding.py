"""Deletions and narrower access lists reach adapters before they are reported, and by nobody who may not delete."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.adapters import Reach
from gateway.domain.keeping import Chunking, Deletion, Document, DocumentState, NewDocument
from gateway.usecases.withholding import Withholding
from services.chassis.auth import Caller, Role, acting_as
from services.chassis.errors import BrainError, DeadlineExceeded, Internal, NotFound, PermissionDenied, Unavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = Caller("imke", "acme", roles=frozenset({Role.CONTRIBUTOR}))
READER = Caller("mara", "acme", frozenset({"hr"}), frozenset({Role.CONTRIBUTOR}))
CURATOR = Caller("kurt", "acme", roles=frozenset({Role.CURATOR}))
STRANGER = Caller("eve", "acme", roles=frozenset({Role.CONTRIBUTOR}))
DOGS = Document(
    id="doc_dogs",
    collection_id="vs_office",
    key="dogs.md",
    file_id="file-1",
    filename="dogs.md",
    title="Office dogs",
    version=1,
    active_version=1,
    state=DocumentState.INDEXED,
    failure_code="",
    failure_reason="",
    digest="",
    size_bytes=1,
    media_type="text/markdown",
    owner="imke",
    principals=("group:hr",),
    attributes_json="",
    chunking=Chunking(),
    chunk_count=1,
    created_at=NOW,
    updated_at=NOW,
)
DELETION = Deletion("doc_dogs", NOW, None, ())


class Office:
    """Ingestion and the registry of adapters of a small place; writes down what happens, in its order."""

    def __init__(
        self, *, failure: BrainError | None = None, saw: Sequence[str] = ("doc_dogs",), documents: int = 2500
    ) -> None:
        self.caller = OWNER
        self.happened: list[Any] = []
        self.failure = failure
        self.saw = set(saw)
        self.documents = documents
        self.document = DOGS

    async def _managed(self, document_id: str) -> None:
        await self.get_document(document_id)
        if not self._manages():
            raise PermissionDenied("document_id: it is somebody else's.", param="document_id")

    def _manages(self) -> bool:
        return self.caller.subject == self.document.owner or Role.CURATOR in self.caller.roles

    async def get_document(self, document_id: str) -> Document:
        if document_id != self.document.id or not (
            self._manages() or set(self.caller.principals) & set(self.document.principals)
        ):
            raise NotFound(f"document_id: {document_id!r} was not found.", param="document_id")
        return self.document

    async def delete_document(self, document_id: str) -> Deletion:
        await self._managed(document_id)
        self.happened.append(("deleted", document_id))
        return DELETION

    async def set_access(self, document_id: str, principals: Sequence[str]) -> Document:
        await self._managed(document_id)
        self.happened.append(("access", tuple(principals)))
        return replace(self.document, principals=tuple(principals))

    async def upload_document(self, new: NewDocument, data: Any) -> tuple[Document, bool]:
        self.happened.append(("uploaded", new.key))
        return self.document, False

    async def delete_file(self, file_id: str) -> Sequence[str]:
        self.happened.append(("deleted", file_id))
        return ["doc_dogs", "doc_cats"]

    async def delete_collection(self, collection_id: str) -> Sequence[str]:
        self.happened.append(("deleted", collection_id))
        return [f"doc_{n}" for n in range(self.documents)]

    async def withhold(self, document_ids: Sequence[str], *, principals: Sequence[str] | None) -> Sequence[str]:
        self.happened.append(("withheld", tuple(document_ids), principals))
        if self.failure is not None:
            raise self.failure
        return ["ft:a", "ft:b"] if self.saw & set(document_ids) else []

    @contextmanager
    def asked_by(self, caller: Caller) -> Iterator[Withholding]:
        self.caller = caller
        registry: Any = self
        with acting_as(caller, "token"):
            yield Withholding(documents=self, adapters=registry)


async def some_bytes() -> AsyncIterator[bytes]:
    yield b"# Dogs"


@pytest.mark.parametrize("caller", [OWNER, CURATOR])
async def test_adapters_are_blocked_before_the_document_goes(caller: Caller) -> None:
    office = Office()
    with office.asked_by(caller) as withholding:
        assert await withholding.delete_document("doc_dogs") == (DELETION, Reach(("ft:a", "ft:b")))
    assert office.happened == [("withheld", ("doc_dogs",), None), ("deleted", "doc_dogs")]


@pytest.mark.parametrize(("caller", "refusal"), [(READER, PermissionDenied), (STRANGER, NotFound)])
async def test_who_may_not_delete_blocks_nothing(caller: Caller, refusal: type[BrainError]) -> None:
    office = Office()
    with office.asked_by(caller) as withholding:
        with pytest.raises(refusal):
            await withholding.delete_document("doc_dogs")
        with pytest.raises(refusal):
            await withholding.set_access("doc_dogs", ())
    assert office.happened == []


async def test_a_narrower_list_names_everybody_who_still_reads_the_owner_included() -> None:
    office = Office()
    with office.asked_by(OWNER) as withholding:
        document, reach = await withholding.set_access("doc_dogs", ["group:board", "user:imke"])
    assert document.principals == ("group:board", "user:imke")
    assert reach == Reach(("ft:a", "ft:b"))
    assert office.happened == [
        ("withheld", ("doc_dogs",), ("user:imke", "group:board")),
        ("access", ("group:board", "user:imke")),
    ]


async def test_what_only_the_room_knows_is_blocked_as_soon_as_it_is_known() -> None:
    office = Office()
    with office.asked_by(OWNER) as withholding:
        gone, reach = await withholding.delete_file("file-1")
    assert (gone, reach.blocked) == (["doc_dogs", "doc_cats"], ("ft:a", "ft:b"))
    assert office.happened == [("deleted", "file-1"), ("withheld", ("doc_dogs", "doc_cats"), None)]


async def test_a_large_collection_is_blocked_piece_by_piece_and_names_each_adapter_once() -> None:
    office = Office(saw=["doc_3", "doc_2400"])
    with office.asked_by(OWNER) as withholding:
        gone, reach = await withholding.delete_collection("vs_office")
    withheld = [one[1] for one in office.happened if one[0] == "withheld"]
    assert [name for part in withheld for name in part] == list(gone)
    assert max(len(part) for part in withheld) <= 1000
    assert reach == Reach(("ft:a", "ft:b"))


async def test_an_empty_collection_asks_nobody() -> None:
    office = Office(documents=0)
    with office.asked_by(OWNER) as withholding:
        assert await withholding.delete_collection("vs_office") == ([], Reach())
    assert office.happened == [("deleted", "vs_office")]


@pytest.mark.parametrize("failure", [Unavailable("away"), DeadlineExceeded("slow"), Internal("broken")])
async def test_a_document_goes_also_when_the_finetuning_room_does_not_answer(failure: BrainError) -> None:
    office = Office(failure=failure)
    with office.asked_by(OWNER) as withholding:
        assert await withholding.delete_document("doc_dogs") == (DELETION, Reach(is_pending=True))
        assert (await withholding.delete_file("file-1"))[1].is_pending
        assert (await withholding.set_access("doc_dogs", ()))[1].is_pending
    assert ("deleted", "doc_dogs") in office.happened


async def test_a_new_version_with_a_list_of_its_own_reaches_adapters_too() -> None:
    office = Office()
    office.document = replace(DOGS, version=2)
    with office.asked_by(OWNER) as withholding:
        new = NewDocument("vs_office", "dogs.md", principals=("user:imke",))
        assert (await withholding.upload(new, some_bytes()))[2] == Reach(("ft:a", "ft:b"))
    assert office.happened[-1] == ("withheld", ("doc_dogs",), ("user:imke",))


@pytest.mark.parametrize(("principals", "version"), [(None, 2), (("user:imke",), 1)])
async def test_a_new_document_or_one_that_keeps_its_list_reaches_none(
    principals: tuple[str, ...] | None, version: int
) -> None:
    office = Office()
    office.document = replace(DOGS, version=version)
    with office.asked_by(OWNER) as withholding:
        new = NewDocument("vs_office", "dogs.md", principals=principals)
        assert (await withholding.upload(new, some_bytes()))[2] is None
    assert [one[0] for one in office.happened] == ["uploaded"]
