"""Indexes that stand beside each other: one is opened, filled and removed, and the others do not notice."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from services.chassis.errors import BrainError, NotFound
from services.retrieval.backends.lancedb import LanceIndex
from services.retrieval.backends.weaviate import WeaviateIndex
from services.retrieval.domain import Scope
from services.retrieval.ports import Index
from tests.index_rows import DIMENSION, row, scope, vector
from tests.weaviate_index import new_collection, weaviate_index, weaviate_server

BACKENDS = ("lancedb", pytest.param("weaviate", marks=pytest.mark.cluster))
Shelf = Callable[..., Awaitable[Index]]


@pytest_asyncio.fixture(params=BACKENDS)
async def beside(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    """Opens indexes that stand beside each other."""
    made: list[LanceIndex | WeaviateIndex] = []
    prefix = new_collection()

    async def open_index(name: str, *, create: bool) -> Index:
        index: LanceIndex | WeaviateIndex
        if request.param == "lancedb":
            index = LanceIndex(str(tmp_path / "index"), dimension=DIMENSION, ann_rows=1_000, table=name)
        else:
            index = weaviate_index(weaviate_server(request.getfixturevalue("cluster")), f"{prefix}_{name}")
        await index.open(create=create)
        made.append(index)
        return index

    yield open_index
    for index in made:
        await index.drop()
        await index.close()


async def found(index: Index, where: Scope) -> list[set[str]]:
    near = await index.dense(where, vector(1), limit=10)
    worded = await index.keyword(where, "word", limit=10)
    return [{hit.document_id for hit in hits} for hits in (near, worded)]


async def test_an_index_that_is_dropped_is_gone_with_everything_in_it(beside: Shelf) -> None:
    first, second = await beside("First", create=True), await beside("Second", create=True)
    await first.write([row("d1", "word", vector(1))])
    await second.write([row("d1", "word", vector(0, 1))])
    again = await beside("Second", create=False)
    await second.drop()
    await second.drop()
    # Who has it open still: LanceDB refuses, Weaviate makes it again.
    with suppress(BrainError):
        await again.write([row("d2", "word", vector(1))])
    await again.drop()
    with pytest.raises(NotFound):
        await beside("Second", create=False)
    assert await found(first, scope()) == [{"d1"}, {"d1"}]
    anew = await beside("Second", create=True)
    assert await found(anew, scope()) == [set(), set()]
