"""Which embedder a process takes for which index, by what it was told."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from services.chassis.errors import Conflict, InvalidInput, Unavailable
from services.chassis.lifecycle import Lifecycle
from services.retrieval.bootstrap.models import ConfiguredEmbedders, open_models
from services.retrieval.domain import IndexState
from services.retrieval.settings import RetrievalSettings
from services.retrieval.usecases.serving import record_of
from tests.embedding_endpoint import EmbeddingServer, embedding_server
from tests.reembedding_room import Bag

PACKAGED = Bag("packaged", 6)


def drawn(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([np.random.default_rng(len(text)).normal(size=6) for text in texts]).astype(np.float32)


@pytest.fixture
def endpoint() -> Iterator[EmbeddingServer]:
    with embedding_server(drawn) as server:
        yield server


@pytest_asyncio.fixture
async def lifecycle() -> AsyncIterator[Lifecycle]:
    made = Lifecycle("retrieval")
    yield made
    await made.stop()


def told(lifecycle: Lifecycle, **settings: Any) -> ConfiguredEmbedders:
    return ConfiguredEmbedders(RetrievalSettings(**settings).embedders(), packaged=PACKAGED, lifecycle=lifecycle)


async def test_an_index_finds_its_embedder_in_either_place(endpoint: EmbeddingServer, lifecycle: Lifecycle) -> None:
    embedders = told(lifecycle, next_embedder_url=endpoint.url())
    assert await embedders.configured() is PACKAGED
    following = await embedders.next()
    old = await record_of(PACKAGED, "chunks", IndexState.LIVE)
    new = await record_of(following, "chunks_new", IndexState.BUILDING)
    assert await embedders.of(old) is PACKAGED
    assert await embedders.of(new) is following
    moved = told(lifecycle, embedder_url=endpoint.url(), embedder_batch=3)
    assert (await moved.of(new)).digest == following.digest


async def test_an_index_of_nobodys_embedder_is_refused_with_what_to_do(
    endpoint: EmbeddingServer, lifecycle: Lifecycle
) -> None:
    old = await record_of(PACKAGED, "chunks", IndexState.LIVE)
    embedders = told(lifecycle, embedder_url=endpoint.url(), next_embedder_url=endpoint.url("other"))
    with pytest.raises(Conflict, match=r"index chunks holds vectors of packaged .*embedder_url is projected .* and "):
        await embedders.of(old)
    prefixed = told(lifecycle, embedder_url=endpoint.url(), embedder_query_prefix="query: ")
    with pytest.raises(Conflict, match=r"Set embedder_url back .* run `python -m services.retrieval reembed`"):
        await prefixed.of(await record_of(await embedders.configured(), "chunks_new", IndexState.LIVE))


async def test_another_model_behind_the_same_name_is_refused(endpoint: EmbeddingServer, lifecycle: Lifecycle) -> None:
    before = told(lifecycle, embedder_url=endpoint.url())
    record = await record_of(await before.configured(), "chunks_new", IndexState.LIVE)
    endpoint.vectors = lambda texts: drawn([f"{text} again" for text in texts])
    with pytest.raises(Conflict, match="another model is served under the same name"):
        await told(lifecycle, embedder_url=endpoint.url()).of(record)


async def test_what_is_not_there_or_not_offered_is_said_by_the_settings_name(
    endpoint: EmbeddingServer, lifecycle: Lifecycle
) -> None:
    with pytest.raises(InvalidInput, match="next_embedder_url: names no embedder"):
        await told(lifecycle).next()
    with pytest.raises(InvalidInput, match="next_embedder_url: 'openai://nowhere' is no such address"):
        await told(lifecycle, next_embedder_url="openai://nowhere").next()
    endpoint.status = 503
    with pytest.raises(Unavailable):
        await told(lifecycle, embedder_url=endpoint.url()).configured()
    for name, settings in (
        ("embedder_url", RetrievalSettings(embedder_url="ftp://vectors")),
        ("next_embedder_url", RetrievalSettings(next_embedder_url="ftp://vectors")),
    ):
        with pytest.raises(InvalidInput, match=rf"^{name}: 'ftp' is not offered; use minilm:// or openai://"):
            await open_models(settings, lifecycle)
