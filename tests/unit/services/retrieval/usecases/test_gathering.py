"""What the check after the index does: the register here is the real one, on a database in memory."""

from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.chassis.database import Database, migrate
from services.chassis.events.outbox import OutboxRelay
from services.chassis.events.sqlite import SqliteEventLog
from services.retrieval.backends.register import SqlRegister
from services.retrieval.backends.tables import outbox
from services.retrieval.domain import ChunkedVersion, Hit, IndexMoved, Locator, Piece, Reader, parse_filter
from services.retrieval.telemetry import Metrics
from services.retrieval.usecases.gathering import Gather
from tests.live_index import enter_live_index

INDEX = "chunks"
ANN = Reader("acme", ("user:ann", "group:everyone"))


@pytest_asyncio.fixture
async def register(database_url: str) -> AsyncIterator[SqlRegister]:
    database, log = Database(database_url), SqliteEventLog("")
    await migrate(database, "services.retrieval.migrations")
    await enter_live_index(database, INDEX)
    yield SqlRegister(database, relay=OutboxRelay(database=database, table=outbox, log=log))
    await log.close()
    await database.close()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def gather(register: SqlRegister, registry: CollectorRegistry) -> Gather:
    return Gather(register=register, metrics=Metrics(registry))


def version(document: str, number: int = 1, **about: object) -> ChunkedVersion:
    given: dict[str, object] = {
        "tenant": "acme",
        "document_id": document,
        "collection_id": "vs_1",
        "version": number,
        "file_id": "file-1",
        "filename": "a.md",
        "title": "A",
        "text_blob_key": f"acme/text/{document}/{number}.txt",
        "chunks_blob_key": f"acme/chunks/{document}/{number}.pb",
        "attributes": {},
        "principals": ("group:everyone",),
        "access_revision": 1,
        "pieces": (Piece(0, "text", "text", 0, 4, Locator()),),
    }
    return ChunkedVersion(**(given | about))  # type: ignore[arg-type]


def hit(document: str, number: int = 1, *, at: int = 0, revision: int = 1) -> Hit:
    vector = np.zeros(4, np.float32)
    return Hit(f"{document}-{number}-{at}", "vs_1", document, number, revision, "text", 0, 4, Locator(), vector, 1.0)


async def found(gather: Gather, hits: Sequence[Hit], *, depth: int = 10, condition: str = "") -> list[str]:
    async def ask(limit: int) -> list[Hit]:
        return list(hits[:limit])

    admitted = await gather.run(ANN, ["vs_1"], parse_filter(condition), ask, depth, index=INDEX)
    return [one.chunk_id for one in admitted.hits]


async def test_only_active_versions_of_known_documents_pass(gather: Gather, register: SqlRegister) -> None:
    await register.activate([version("d1", 2), version("d2")], index=INDEX)
    await register.withhold("acme", "d2")
    assert await found(gather, [hit("d1", 1), hit("d1", 2), hit("d1", 3), hit("d2"), hit("unknown")]) == ["d1-2-0"]


async def test_what_the_check_removed_is_refilled(
    gather: Gather, register: SqlRegister, registry: CollectorRegistry
) -> None:
    await register.activate([version("good"), version("gone")], index=INDEX)
    await register.withhold("acme", "gone")
    hits = [hit("gone", at=at) for at in range(30)] + [hit("good", at=at) for at in range(5)]
    assert await found(gather, hits, depth=5) == [f"good-1-{at}" for at in range(5)]
    assert registry.get_sample_value("brain_retrieval_refills_total") == 2


async def test_a_flip_during_a_search_does_not_lose_the_document(gather: Gather, register: SqlRegister) -> None:
    await register.activate([version("d1", 2)], index=INDEX)
    snapshots = [[hit("d1", 1)], [hit("d1", 2)]]

    async def ask(_limit: int) -> list[Hit]:
        return snapshots.pop(0)

    admitted = await gather.run(ANN, ["vs_1"], None, ask, 10, index=INDEX)
    assert [one.version for one in admitted.hits] == [2]


async def test_only_a_list_that_the_index_knew_counts_as_a_leak(
    gather: Gather, register: SqlRegister, registry: CollectorRegistry
) -> None:
    await register.activate([version("d1")], index=INDEX)
    await register.restrict("acme", "d1", ["user:bob"], 2)
    assert await found(gather, [hit("d1", revision=1)]) == []
    assert registry.get_sample_value("brain_acl_leak_total") == 0
    assert await found(gather, [hit("d1", revision=2)]) == []
    assert registry.get_sample_value("brain_acl_leak_total") == 1


async def test_the_filter_is_checked_again_on_what_the_register_knows(gather: Gather, register: SqlRegister) -> None:
    await register.activate(
        [version("new", attributes={"year": 2024}), version("old", attributes={"year": 1999})], index=INDEX
    )
    newer = '{"type":"gt","key":"year","value":2000}'
    assert await found(gather, [hit("old"), hit("new")], condition=newer) == ["new-1-0"]
    assert await register.set_attributes("acme", "old", {"year": 2025}, 2)
    assert not await register.set_attributes("acme", "old", {"year": 1}, 1)
    assert await found(gather, [hit("old"), hit("new")], condition=newer) == ["old-1-0", "new-1-0"]


async def test_hits_of_an_index_that_is_not_live_any_more_are_no_answer(gather: Gather, register: SqlRegister) -> None:
    await register.activate([version("d1")], index=INDEX)

    async def ask(limit: int) -> list[Hit]:
        return [hit("d1")]

    for hits in (ask, nothing):
        with pytest.raises(IndexMoved):
            await gather.run(ANN, ["vs_1"], None, hits, 10, index="chunks_old")


async def nothing(limit: int) -> list[Hit]:
    return []
