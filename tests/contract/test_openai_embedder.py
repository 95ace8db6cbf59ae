"""The embedder behind OpenAI's embeddings API: what it asks, what it makes of answers, what it calls what goes wrong."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from services.chassis.errors import BrainError, Conflict, InvalidInput, Overloaded, Unavailable
from services.retrieval.backends.openai_embedder import EmbeddingEndpoint, OpenAIEmbedder
from services.retrieval.domain import PROBES, alike
from tests.embedding_endpoint import EmbeddingServer, embedding_server

Change = Callable[[EmbeddingServer], None]


def drawn(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of five components that depend on the whole text; not of unit length."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
    return np.stack([3 * np.random.default_rng(seed).normal(size=5).astype(np.float32) for seed in seeds])


@pytest.fixture
def endpoint() -> Iterator[EmbeddingServer]:
    with embedding_server(drawn) as server:
        yield server


@asynccontextmanager
async def opened(url: str, **about: object) -> AsyncIterator[OpenAIEmbedder]:
    embedder = OpenAIEmbedder(EmbeddingEndpoint.of_url("embedder_url", url, **about))
    try:
        await embedder.open()
        yield embedder
    finally:
        await embedder.close()


async def test_vectors_are_unit_in_order_and_of_the_dimension_that_was_learned(endpoint: EmbeddingServer) -> None:
    texts = [f"text {at}" for at in range(7)]
    async with opened(endpoint.url(), batch=3) as embedder:
        found = await embedder.embed(texts, queries=False)
        assert (embedder.model, embedder.dimension) == ("projected", 5)
        assert (await embedder.embed([], queries=True)).vectors.shape == (0, 5)
    expected = drawn(texts)
    assert np.allclose(found.vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert found.token_count == 14
    assert [len(body["input"]) for body in endpoint.asked] == [1, 3, 3, 1]
    assert {body["encoding_format"] for body in endpoint.asked} == {"float"}


async def test_it_asks_as_the_settings_say(endpoint: EmbeddingServer) -> None:
    about = {"key": "secret", "query_prefix": "query: ", "passage_prefix": "passage: ", "max_characters": 14}
    async with opened(endpoint.url(dimensions=5), **about) as embedder:
        await embedder.embed(["where is it"], queries=True)
        await embedder.embed(["here it is"], queries=False)
    assert [body["input"] for body in endpoint.asked[1:]] == [["query: where i"], ["passage: here "]]
    assert {body["dimensions"] for body in endpoint.asked} == {5}
    assert {headers["authorization"] for headers in endpoint.headers} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda server: setattr(server, "status", 429), Overloaded),
        (lambda server: setattr(server, "status", 503), Unavailable),
        (lambda server: setattr(server, "status", 401), Unavailable),
        (lambda server: setattr(server, "status", 404), Unavailable),
        (lambda server: setattr(server, "status", 413), InvalidInput),
        (lambda server: setattr(server, "status", 400), InvalidInput),
        (lambda server: setattr(server, "body", b"no JSON"), Unavailable),
        (lambda server: setattr(server, "body", b'{"data": []}'), Unavailable),
        (lambda server: setattr(server, "body", b"[]"), Unavailable),
        (
            lambda server: setattr(server, "body", b'{"data": [{"index": 0, "embedding": [0, 0, 0, 0, 0]}]}'),
            Unavailable,
        ),
        (
            lambda server: setattr(server, "body", b'{"data": [{"index": 0, "embedding": [NaN, 1, 1, 1, 1]}]}'),
            Unavailable,
        ),
        (lambda server: setattr(server, "body", b'{"data": [{"index": 0, "embedding": [1, 1]}]}'), Unavailable),
        (lambda server: setattr(server, "body", b'{"data": [{"index": 0, "embedding": 1}]}'), Unavailable),
        (lambda server: setattr(server, "delay_s", 2.0), Unavailable),
    ],
)
async def test_what_goes_wrong_has_a_name(endpoint: EmbeddingServer, change: Change, error: type[BrainError]) -> None:
    async with opened(endpoint.url(), timeout_s=0.5) as embedder:
        change(endpoint)
        with pytest.raises(error) as raised:
            await embedder.embed(["soup of the day"], queries=True)
        assert "soup" not in str(raised.value)


async def test_an_endpoint_that_is_not_there_is_away(endpoint: EmbeddingServer) -> None:
    with pytest.raises(Unavailable):
        async with opened("openai://127.0.0.1:9/v1?model=m"):
            pass
    endpoint.status = 400
    with pytest.raises(Unavailable):
        async with opened(endpoint.url()):
            pass


async def test_another_number_of_components_than_asked_for_is_refused(endpoint: EmbeddingServer) -> None:
    with pytest.raises(Conflict, match=r"5 components where dimensions=7"):
        async with opened(endpoint.url(dimensions=7)):
            pass


@pytest.mark.parametrize(
    "url",
    [
        "openai://host/v1",
        "openai://host/v1?model=",
        "openai://host/v1?model=m&modle=n",
        "openai://host/v1?model=m&dimensions=few",
        "openai://host/v1?model=m&dimensions=-3",
        "openai:///v1?model=m",
        "openai://user:secret@host/v1?model=m",
        "openai://host:99999/v1?model=m",
        "openai://host:0/v1?model=m",
        "http://host/v1?model=m",
    ],
)
def test_an_address_that_is_none_is_refused_by_the_settings_name(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^next_embedder_url: .*use openai://HOST"):
        EmbeddingEndpoint.of_url("next_embedder_url", url)


def test_an_address_says_where_and_what() -> None:
    found = EmbeddingEndpoint.of_url("embedder_url", "openais://tei.example:8443/v1/?model=BAAI/bge-m3&dimensions=512")
    assert (found.url, found.model, found.dimensions) == ("https://tei.example:8443/v1", "BAAI/bge-m3", 512)
    assert EmbeddingEndpoint.of_url("embedder_url", "openai://tei?model=m").url == "http://tei"


async def test_a_digest_follows_what_decides_the_vectors_and_not_where_they_are_made(endpoint: EmbeddingServer) -> None:
    async def digest(url: str, **about: object) -> str:
        async with opened(url, **about) as embedder:
            return embedder.digest

    with embedding_server(drawn) as elsewhere:
        same = {await digest(endpoint.url()), await digest(elsewhere.url(), batch=2, key="k", timeout_s=9.0)}
    others = {
        await digest(endpoint.url("other")),
        await digest(endpoint.url(), query_prefix="query: "),
        await digest(endpoint.url(), passage_prefix="passage: "),
        await digest(endpoint.url(), max_characters=500),
    }
    assert (len(same), len(others), same & others) == (1, 4, set())


async def test_another_model_under_the_same_name_is_told_by_its_vectors(endpoint: EmbeddingServer) -> None:
    async with opened(endpoint.url()) as embedder:
        before = (await embedder.embed(PROBES, queries=False)).vectors
        endpoint.vectors = lambda texts: drawn(texts) * (1 + 0.02 * drawn(texts[::-1]))
        assert alike(before, (await embedder.embed(PROBES, queries=False)).vectors)
        endpoint.vectors = lambda texts: drawn([f"{text}!" for text in texts])
        assert not alike(before, (await embedder.embed(PROBES, queries=False)).vectors)


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(EmbeddingEndpoint.of_url("embedder_url", "openai://tei?model=m", key="secret"))
