"""Why didn't you find it? Each verdict, and that nobody learns of a document that they may not read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.asking import Abstention, Locator, QueriesMade, Receipt, ReceiptSource, Sampling, Source, TokenUsage
from gateway.domain.explaining import Verdict, Why, WhyQuestion
from gateway.domain.finding import Explanation, Outcome, SearchSpec
from gateway.domain.keeping import Chunking, Collection, Counts, Document, DocumentState, Page, Paging
from gateway.usecases.explain import ExplainMissing
from services.chassis.auth import Caller, Role
from services.chassis.errors import InvalidInput, NotFound, PermissionDenied

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MARA = Caller("mara", "acme", frozenset({"hr"}), frozenset({Role.VIEWER}))
ADMINISTRATOR = Caller("root", "acme", roles=frozenset({Role.ADMINISTRATOR}))
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


class Office:
    """Ingestion, retrieval and chat of a small place: what `caller` may read, and what a search says of it."""

    def __init__(self, caller: Caller, documents: Sequence[Document], outcome: Outcome = "ranked_too_low") -> None:
        self.caller = caller
        self.documents = [
            one
            for one in documents
            if caller.is_administrator
            or caller.subject == one.owner
            or not set(caller.principals).isdisjoint(one.principals)
        ]
        self.outcome = outcome
        self.searched: list[SearchSpec] = []
        self.receipts: dict[str, Receipt] = {}

    async def get_document(self, document_id: str) -> Document:
        for one in self.documents:
            if one.id == document_id:
                return one
        raise NotFound(f"document_id: {document_id!r} is not known.")

    async def list_collections(self, paging: Paging, *, name: str = "") -> Page[Collection]:
        one = Collection("vs_office", "", "imke", NOW, NOW, {}, (), Chunking(), 0, Counts(), 0)
        return Page((one,), has_more=False)

    async def list_documents(self, collection_id: str, paging: Paging, *, name_contains: str = "") -> Page[Document]:
        wanted = name_contains.casefold()
        found = [one for one in self.documents if one.collection_id == collection_id]
        found = [one for one in found if wanted in f"{one.filename} {one.title}".casefold()]
        return Page(tuple(found[: paging.limit]), has_more=False)

    async def explain(self, spec: SearchSpec, document_id: str) -> Explanation:
        self.searched.append(spec)
        return Explanation(self.outcome, 12, None, 0.4, ("kennel",), 1)

    async def get_receipt(self, receipt_id: str) -> Receipt:
        if receipt_id not in self.receipts:
            raise NotFound(f"receipt_id: {receipt_id!r} is not known.")
        return self.receipts[receipt_id]


async def why(office: Office, **fields: Any) -> Why:
    room: Any = office
    asked = WhyQuestion(**({"document": "doc_dogs", "question": "Where is the kennel?"} | fields))
    return await ExplainMissing(ingestion=room, retrieval=room, chat=room)(office.caller, asked)


def receipt(*, in_prompt: bool, cited: bool, document: str = "doc_dogs") -> Receipt:
    source = Source(1, document, 1, "vs_office", "", "", "", Locator(), 0, 1, "", 0.5, "")
    return Receipt(
        id="rcpt_1",
        response_id="resp_1",
        conversation_id="",
        created_at=NOW,
        model="base",
        question="And where is it?",
        answer="…",
        queries=QueriesMade(("kennel place",), "model"),
        sources=(ReceiptSource(source, available=True, current=True, in_prompt=in_prompt, cited=cited),),
        citations=(),
        prompt_hash="",
        prompt_version="",
        sampling=Sampling(),
        usage=TokenUsage(),
        abstention=Abstention.NONE,
        timings=(),
        trimmed=(),
        collection_ids=("vs_office",),
        support=0.0,
    )


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        ("found", Verdict.FOUND),
        ("not_indexed", Verdict.NOT_INDEXED),
        ("other_collection", Verdict.OTHER_COLLECTION),
        ("filtered_out", Verdict.FILTERED_OUT),
        ("below_threshold", Verdict.BELOW_THRESHOLD),
        ("ranked_too_low", Verdict.RANKED_TOO_LOW),
        ("no_match", Verdict.NO_MATCH),
    ],
)
async def test_what_the_search_says_is_told_in_words(outcome: Outcome, verdict: Verdict) -> None:
    told = await why(Office(MARA, [DOGS], outcome))
    assert told.verdict is verdict
    assert told.sentence.endswith(".")


async def test_the_missing_words_and_the_rank_are_named() -> None:
    told = await why(Office(MARA, [DOGS]))
    assert "number 12" in told.sentence
    assert "kennel" in told.sentence


@pytest.mark.parametrize("name", ["dogs.md", "DOGS.MD", "office dogs", "dogs"])
async def test_a_document_is_known_by_name_too(name: str) -> None:
    told = await why(Office(MARA, [DOGS]), document=name)
    assert told.document == DOGS


async def test_the_exact_name_comes_first_and_others_are_shown() -> None:
    other = replace(DOGS, id="doc_more", filename="more dogs.md", title="More")
    told = await why(Office(MARA, [other, DOGS]), document="dogs.md")
    assert (told.document, told.other_matches) == (DOGS, (other,))


@pytest.mark.parametrize("name", ["doc_dogs", "dogs.md", "doc_none", "none.md"])
async def test_a_document_of_others_is_to_the_caller_as_one_that_does_not_exist(name: str) -> None:
    secret = replace(DOGS, principals=("group:board",))
    hidden, absent = await why(Office(MARA, [secret]), document=name), await why(Office(MARA, []), document=name)
    assert hidden == absent
    assert hidden.verdict is Verdict.NEVER_INGESTED


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (DocumentState.FAILED, Verdict.PARSE_FAILED),
        (DocumentState.PARSING, Verdict.IN_PROGRESS),
        (DocumentState.CANCELLED, Verdict.CANCELLED),
        (DocumentState.DELETING, Verdict.DELETING),
    ],
)
async def test_what_never_became_searchable_is_not_sought(state: DocumentState, verdict: Verdict) -> None:
    office = Office(MARA, [replace(DOGS, state=state, active_version=0, failure_reason="It is encrypted.")])
    told = await why(office)
    assert told.verdict is verdict
    assert office.searched == []
    assert ("It is encrypted." in told.sentence) is (verdict is Verdict.PARSE_FAILED)


async def test_a_failed_update_does_not_hide_the_version_before() -> None:
    told = await why(Office(MARA, [replace(DOGS, state=DocumentState.FAILED, version=2)]))
    assert told.verdict is Verdict.RANKED_TOO_LOW


async def test_administrators_hear_of_missing_permission_of_others() -> None:
    told = await why(Office(ADMINISTRATOR, [DOGS]), principals=("user:otto", "group:sales"))
    assert told.verdict is Verdict.NO_PERMISSION
    assert "user:otto" in told.sentence


@pytest.mark.parametrize("principals", [("group:hr",), ("user:imke",)])
async def test_for_somebody_who_may_read_the_search_goes_on(principals: tuple[str, ...]) -> None:
    assert (await why(Office(ADMINISTRATOR, [DOGS]), principals=principals)).verdict is Verdict.RANKED_TOO_LOW


async def test_nobody_else_may_ask_for_others() -> None:
    with pytest.raises(PermissionDenied):
        await why(Office(MARA, [DOGS]), principals=("user:otto",))


@pytest.mark.parametrize(
    ("in_prompt", "cited", "verdict"),
    [
        (False, False, Verdict.LEFT_OUT_BY_BUDGET),
        (True, False, Verdict.IGNORED_BY_MODEL),
        (True, True, Verdict.CITED),
    ],
)
async def test_a_receipt_tells_what_the_answer_did_with_it(in_prompt: bool, cited: bool, verdict: Verdict) -> None:
    office = Office(MARA, [DOGS])
    office.receipts["rcpt_1"] = receipt(in_prompt=in_prompt, cited=cited)
    told = await why(office, question="", receipt_id="rcpt_1")
    assert told.verdict is verdict
    assert told.in_receipt is not None
    assert office.searched == []


async def test_what_the_receipt_does_not_hold_is_sought_with_its_queries() -> None:
    office = Office(MARA, [DOGS])
    office.receipts["rcpt_1"] = receipt(in_prompt=True, cited=True, document="doc_other")
    told = await why(office, question="", receipt_id="rcpt_1")
    assert told.verdict is Verdict.RANKED_TOO_LOW
    assert office.searched[0].queries == ("kennel place",)
    assert office.searched[0].collection_ids == ("vs_office",)


async def test_a_question_or_a_receipt_is_needed() -> None:
    with pytest.raises(InvalidInput) as caught:
        await why(Office(MARA, [DOGS]), question=" ")
    assert caught.value.param == "question"
    with pytest.raises(NotFound):
        await why(Office(MARA, [DOGS]), receipt_id="rcpt_none")
