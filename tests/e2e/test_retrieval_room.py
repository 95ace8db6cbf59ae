"""The retrieval room as its callers see it: a real process, real gRPC, the real model and index."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from brain.events.v1 import document_pb2
from brain.retrieval.v1 import embedding_pb2, rerank_pb2, search_pb2, withhold_pb2
from services.chassis.auth import Role
from tests.retrieval_room import RetrievalRoom, document

# One process serves all tests that do not kill it: each has a tenant of its own, which is what tenants are for.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RetrievalRoom]:
    async with RetrievalRoom(tmp_path_factory.mktemp("retrieval")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def room(shared: RetrievalRoom, request: pytest.FixtureRequest) -> RetrievalRoom:
    shared.tenant = request.node.name
    return shared


def ids(passages: list[Any]) -> list[str]:
    return [passage.document_id for passage in passages]


async def test_a_document_is_found_by_meaning_and_by_identifier(room: RetrievalRoom) -> None:
    await room.add(
        document(
            "doc_leave", "Employees get 25 days of paid holiday each year.", title="Leave", attributes={"year": 2024}
        ),
        document("doc_travel", "Policy POL-12 covers train tickets and hotels.", title="Travel"),
        document("doc_menu", "The canteen serves soup on Mondays.", title="Canteen"),
    )
    (first, *_) = await room.search("How much vacation do I have?")
    assert first.document_id == "doc_leave"
    assert first.text == "Employees get 25 days of paid holiday each year."
    assert (first.start, first.end, first.version, first.file_id) == (0, len(first.text), 1, "file-doc_leave")
    assert (first.title, first.filename, first.attributes_json) == ("Leave", "file.md", '{"year":2024}')
    assert 0.3 < first.similarity <= 1
    (first, *_) = await room.search("POL-12", alpha=0.0)
    assert first.document_id == "doc_travel"
    assert first.parts.bm25_rank == 1
    assert not first.parts.HasField("dense")


async def test_nothing_crosses_a_tenant_or_an_access_list(room: RetrievalRoom) -> None:
    await room.add(
        document("doc_open", "Salary bands are published."),
        document("doc_board", "Salary of the board.", principals=["user:ceo", "group:board"]),
        document("doc_nobody", "Salary archive.", principals=[]),
        document("doc_other", "Salary at the other company.", tenant="globex"),
    )
    assert ids(await room.search("salary")) == ["doc_open"]
    board = room.as_("bob", groups=["board"])
    assert sorted(ids(await room.search("salary", who=board))) == ["doc_board", "doc_open"]
    administrator = room.as_("root", role=Role.ADMINISTRATOR)
    assert sorted(ids(await room.search("salary", who=administrator))) == ["doc_board", "doc_nobody", "doc_open"]
    assert ids(await room.search("salary", who=room.as_("eve", tenant="globex", role=Role.ADMINISTRATOR))) == [
        "doc_other"
    ]
    assert await room.search("salary", collections=["vs_2"]) == []


async def test_withholding_and_restricting_hold_at_once(room: RetrievalRoom) -> None:
    await room.add(document("doc_a", "The merger is secret."), document("doc_b", "The merger was announced."))
    answer = await room.withhold_stub.WithholdDocument(
        withhold_pb2.WithholdDocumentRequest(document_id="doc_a"), **room.as_()
    )
    assert answer.withheld_count == 1
    assert ids(await room.search("merger")) == ["doc_b"]
    request = withhold_pb2.RestrictDocumentRequest(document_id="doc_b", principals=["user:bob"], access_revision=5)
    assert (await room.withhold_stub.RestrictDocument(request, **room.as_())).access_revision == 5
    assert await room.search("merger") == []
    assert ids(await room.search("merger", who=room.as_("bob", groups=["everyone"]))) == ["doc_b"]
    request.access_revision = 4
    request.principals[:] = ["group:everyone"]
    assert (await room.withhold_stub.RestrictDocument(request, **room.as_())).access_revision == 5
    assert await room.search("merger") == []


async def test_an_access_change_reaches_the_index_and_an_old_one_does_not(room: RetrievalRoom) -> None:
    await room.add(document("doc_a", "Bonus rules.", principals=["user:bob"]))
    assert await room.search("bonus") == []
    for principals, revision in ((["user:bob", "user:ann"], 3), (["user:bob"], 2)):
        changed = document_pb2.DocumentAccessChanged(
            document_id="doc_a", collection_id="vs_1", principals=principals, access_revision=revision
        )
        await room.tell(document_pb2.DocumentEvent(access_changed=changed), key="doc_a")
    await room.idle()
    assert ids(await room.search("bonus")) == ["doc_a"]


async def test_filters_narrow_and_follow_changed_attributes(room: RetrievalRoom) -> None:
    await room.add(
        document("doc_23", "Travel rules.", attributes={"year": 2023, "team": "sales"}),
        document("doc_24", "Travel rules.", attributes={"year": 2024, "team": "it"}),
    )
    assert ids(await room.search("travel", filter_json='{"type":"eq","key":"team","value":"it"}')) == ["doc_24"]
    assert ids(await room.search("travel", filter_json='{"type":"lt","key":"year","value":2024}')) == ["doc_23"]
    await room.blobs.put("attributes/doc_24.json", b'{"team": "hr"}')
    changed = document_pb2.DocumentAttributesChanged(
        document_id="doc_24", attributes_blob_key="attributes/doc_24.json", attributes_revision=1
    )
    await room.tell(document_pb2.DocumentEvent(attributes_changed=changed), key="doc_24")
    await room.idle()
    assert await room.search("travel", filter_json='{"type":"eq","key":"team","value":"it"}') == []
    assert ids(await room.search("travel", filter_json='{"type":"eq","key":"team","value":"hr"}')) == ["doc_24"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await room.search("travel", filter_json='{"type":"like","key":"team","value":"x"}')
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_update_never_leaves_a_gap(room: RetrievalRoom) -> None:
    await room.add(*(document(f"doc_{at}", f"The price of item {at} is 1 euro.") for at in range(5)))
    seen: list[tuple[int, str]] = []
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            found = [passage for passage in await room.search("price of item 3") if passage.document_id == "doc_3"]
            seen.append((len(found), found[0].text if found else ""))

    asking = asyncio.create_task(ask())
    for version in range(2, 8):
        await room.add(document("doc_3", f"The price of item 3 is {version} euro.", version=version))
    done.set()
    await asking
    assert {count for count, _ in seen} == {1}
    (found,) = [passage for passage in await room.search("price of item 3") if passage.document_id == "doc_3"]
    assert (found.text, found.version) == ("The price of item 3 is 7 euro.", 7)


async def test_deletion_is_counted_to_zero_and_late_facts_do_not_undo_it(room: RetrievalRoom) -> None:
    made = document("doc_a", "One secret.", "Two secrets.", "Three secrets.")
    await room.add(made)
    gone = document_pb2.DocumentEvent(deleted=document_pb2.DocumentDeleted(document_id="doc_a", collection_id="vs_1"))
    await room.tell(gone, key="doc_a")
    fact = (await room.told("document_removed", {("doc_a", 0)}))[("doc_a", 0)]
    assert (fact.removed_count, fact.remaining_count) == (3, 0)
    await room.tell(await room.store(made), key="doc_a")
    await room.tell(gone, key="doc_a")
    await room.idle()
    assert await room.search("secrets") == []
    await asyncio.sleep(0.5)
    assert [event.WhichOneof("fact") for event in await room.announced()] == ["version_indexed", "document_removed"]


async def test_killed_while_indexing_it_ends_with_one_copy_of_everything(tmp_path: Path) -> None:
    async with RetrievalRoom(tmp_path) as room:
        await _index_under_fire(room)


async def _index_under_fire(room: RetrievalRoom) -> None:
    made = [document(f"doc_{at}", *(f"Fact {part} about subject {at}." for part in range(6))) for at in range(40)]
    for one in made:
        await room.tell(await room.store(one), key=one.id)
    for pause in (0.5, 1.0):
        await asyncio.sleep(pause)
        await room.stop(signal.SIGKILL)
        await room.start()
    facts = await room.told("version_indexed", {(one.id, 1) for one in made})
    assert {fact.chunk_count for fact in facts.values()} == {6}
    await room.idle()
    announced = [event.version_indexed.document_id for event in await room.announced()]
    assert sorted(announced) == sorted(one.id for one in made)
    found = await room.search("Fact about subject 17", top_k=50)
    own = [passage.text for passage in found if passage.document_id == "doc_17"]
    assert sorted(own) == sorted(f"Fact {part} about subject 17." for part in range(6))


async def test_what_can_never_be_indexed_is_rejected_with_a_reason_and_the_rest_goes_on(room: RetrievalRoom) -> None:
    bad = document("doc_bad", "Never.")
    event = await room.store(bad)
    await room.blobs.put(event.chunked.chunks_blob_key, b"\xff\xff no chunks")
    good = document("doc_good", "Still here.")
    good_event = await room.store(good)
    await room.tell(event, key="doc_bad")
    await room.tell(good_event, key="doc_good")
    fact = (await room.told("version_rejected", {("doc_bad", 1)}))[("doc_bad", 1)]
    assert "cannot be read" in fact.reason
    await room.told("version_indexed", {("doc_good", 1)})


async def test_explain_says_why(room: RetrievalRoom) -> None:
    await room.add(
        document("doc_leave", "Holiday rules and vacation days."),
        document("doc_pets", "Dogs are welcome.", attributes={"team": "it"}),
        document("doc_away", "Holiday rules elsewhere.", collection="vs_2"),
        document("doc_board", "Holiday of the board.", principals=["user:ceo"]),
    )

    async def explain(name: str, **spec: Any) -> Any:
        wanted = search_pb2.SearchSpec(queries=["holiday rules"], collection_ids=["vs_1"], **({"top_k": 1} | spec))
        request = search_pb2.ExplainRequest(spec=wanted, document_id=name)
        return await room.search_stub.Explain(request, **room.as_())

    found = await explain("doc_leave")
    assert (found.outcome, found.rank, found.active_version) == (search_pb2.OUTCOME_FOUND, 1, 1)
    low = await explain("doc_pets")
    assert low.outcome == search_pb2.OUTCOME_RANKED_TOO_LOW
    assert list(low.missing_terms) == ["holiday", "rules"]
    assert low.cutoff_score > low.best.score
    assert (await explain("doc_pets", score_threshold=0.9)).outcome == search_pb2.OUTCOME_BELOW_THRESHOLD
    assert (await explain("doc_pets", alpha=0.0)).outcome == search_pb2.OUTCOME_NO_MATCH
    filtered = await explain("doc_leave", filter_json='{"type":"eq","key":"team","value":"it"}')
    assert filtered.outcome == search_pb2.OUTCOME_FILTERED_OUT
    assert (await explain("doc_away")).outcome == search_pb2.OUTCOME_OTHER_COLLECTION
    for hidden in ("doc_board", "doc_unknown"):
        answer = await explain(hidden)
        assert answer.outcome == search_pb2.OUTCOME_NOT_INDEXED
        assert (answer.active_version, list(answer.missing_terms)) == (0, [])


async def test_spans_resolve_under_the_readers_rights(room: RetrievalRoom) -> None:
    await room.add(document("doc_a", "Grüße aus Köln.", "Zweite Zeile.", title="Brief"))
    await room.add(document("doc_a", "Neue Fassung.", version=2, title="Brief"))
    await room.add(document("doc_b", "Hidden.", principals=["user:ceo"]))
    spans = [
        search_pb2.Span(document_id="doc_a", version=1, start=10, end=14),
        search_pb2.Span(document_id="doc_a", version=2, start=0, end=4),
        search_pb2.Span(document_id="doc_a", version=2, start=0, end=400),
        search_pb2.Span(document_id="doc_b", version=1, start=0, end=3),
        search_pb2.Span(document_id="doc_c", version=1, start=0, end=3),
    ]
    request = search_pb2.ResolveSpansRequest(spans=spans)
    found = (await room.search_stub.ResolveSpans(request, **room.as_())).spans
    assert [(span.available, span.text, span.current) for span in found] == [
        (True, "Köln", False),
        (True, "Neue", True),
        (False, "", False),
        (False, "", False),
        (False, "", False),
    ]
    foreign = (await room.search_stub.ResolveSpans(request, **room.as_(tenant="globex"))).spans
    assert not any(span.available for span in foreign)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"top_k": 0}, "top_k: 0 is not from 1 to 50."),
        ({"top_k": 51}, "top_k: 51 is not from 1 to 50."),
        ({"alpha": 1.5}, "alpha: 1.5 is not from 0 to 1."),
        ({"score_threshold": float("nan")}, "score_threshold: nan is not from 0 to 1."),
        ({"mmr_lambda": -1.0}, "mmr_lambda: -1.0 is not from 0 to 1."),
        ({"fusion": 9}, "fusion: 9 is not one of FUSION_RELATIVE_SCORE, FUSION_RECIPROCAL_RANK."),
        ({"collections": []}, "collection_ids: 0 given; 1 to 100 are allowed."),
        ({"query": ["x"] * 17}, "queries: 17 given; 1 to 16 are allowed."),
        ({"query": " "}, "queries: must not be empty."),
        ({"query": "x" * 16_001}, "queries: 16001 characters; at most 16000 are allowed."),
        ({"filter_json": '{"type":"like"}'}, "'like' is not one of eq, ne, gt, gte, lt, lte, in, nin, and, or."),
    ],
)
async def test_a_wrong_search_is_told_field_value_and_what_is_allowed(
    shared: RetrievalRoom, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared.search(**({"query": "x"} | spec))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in (refused.value.details() or "")


async def test_embeddings_and_reranking(room: RetrievalRoom) -> None:
    texts = ["a cat sat on the mat", "a kitten lay on the rug", "quarterly revenue grew"]
    answer = await room.embedding_stub.Embed(embedding_pb2.EmbedRequest(texts=texts), **room.as_())
    vectors = np.frombuffer(answer.vectors, "<f4").reshape(3, answer.dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert answer.token_count > 15
    ranked = await room.rerank_stub.Rerank(
        rerank_pb2.RerankRequest(query="young cat on a carpet", texts=texts, top_n=2), **room.as_()
    )
    assert (ranked.ranker, len(ranked.results)) == ("minilm-maxsim", 2)
    assert 2 not in {result.index for result in ranked.results}
    for bad in (embedding_pb2.EmbedRequest(), embedding_pb2.EmbedRequest(texts=["x"] * 2049)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await room.embedding_stub.Embed(bad, **room.as_())
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await room.search("x", ranker="gpt")
    assert "minilm-maxsim" in (refused.value.details() or "")


async def test_many_queries_diversity_and_reranking_in_one_search(room: RetrievalRoom) -> None:
    await room.add(
        document("doc_1", "Parking is free for visitors."),
        document("doc_2", "Parking is free for visitors!"),
        document("doc_3", "Bicycles are kept in the cellar."),
    )
    found = await room.search(["where do visitors park", "where to leave my bike"], ranker="minilm-maxsim")
    assert {passage.parts.query_index for passage in found} == {0, 1}
    assert all(passage.parts.HasField("reranked") for passage in found)
    diverse = await room.search("free parking for visitors", top_k=2, mmr_lambda=0.3, alpha=1.0)
    assert "doc_3" in ids(diverse)
    assert await room.search("free parking", score_threshold=1.0, top_k=3, alpha=0.3) != []
    assert len(await room.search("free parking", score_threshold=1.0, top_k=3, alpha=0.5)) < 3


async def test_the_roles_share_an_index(tmp_path: Path) -> None:
    indexer = RetrievalRoom(tmp_path, role="index")
    server = RetrievalRoom(tmp_path, role="serve")
    async with indexer, server:
        await indexer.add(document("doc_a", "Seen by the other process."))
        assert ids(await server.search("seen by the other")) == ["doc_a"]
