"""The embedder port, and the reranker that shares its model."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from services.chassis.errors import Overloaded
from services.retrieval.backends.onnx_embedder import OnnxEmbedder
from services.retrieval.backends.onnx_worker import OnnxWorker

LONG = " ".join(f"word{at}" for at in range(400))


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[OnnxWorker]:
    started = OnnxWorker(max_waiting=40)
    await started.start()
    yield started
    await started.stop()


async def test_vectors_are_unit_in_order_and_near_for_near_meanings(worker: OnnxWorker) -> None:
    embedder = OnnxEmbedder(worker)
    texts = ["quarterly revenue grew", "how many days off do I get", LONG, "employees have 25 days of paid leave"]
    found = await embedder.embed(texts, queries=False)
    assert found.vectors.shape == (4, embedder.dimension)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([(await embedder.embed([text], queries=True)).vectors for text in texts])
    # The weights are eight-bit and scaled by what a run holds: alike, not equal.
    assert np.all((found.vectors * alone).sum(axis=1) > 0.97)
    assert found.vectors[1] @ found.vectors[3] > found.vectors[1] @ found.vectors[0] + 0.2


async def test_long_texts_are_cut_where_the_model_stops_reading(worker: OnnxWorker) -> None:
    embedder = OnnxEmbedder(worker)
    found = await embedder.embed([LONG, f"{LONG} and more"], queries=False)
    assert found.token_count == 512
    assert found.vectors[0] @ found.vectors[1] > 0.999


async def test_nothing_in_nothing_out(worker: OnnxWorker) -> None:
    embedder = OnnxEmbedder(worker)
    found = await embedder.embed([], queries=False)
    assert (found.vectors.shape, found.token_count) == ((0, embedder.dimension), 0)


async def test_a_query_does_not_wait_for_the_passages_before_it(worker: OnnxWorker) -> None:
    embedder = OnnxEmbedder(worker)
    order: list[str] = []

    async def note(name: str, texts: list[str], *, queries: bool) -> None:
        await embedder.embed(texts, queries=queries)
        order.append(name)

    passages = asyncio.create_task(note("passages", [f"{LONG} {at}" for at in range(30)], queries=False))
    await asyncio.sleep(0.3)
    await note("query", ["days off"], queries=True)
    await passages
    assert order == ["query", "passages"]


async def test_passages_are_embedded_while_questions_never_end(worker: OnnxWorker) -> None:
    embedder = OnnxEmbedder(worker)
    answered = 0

    async def ask_for_ever() -> None:
        nonlocal answered
        while True:
            await embedder.embed(["days off"], queries=True)
            answered += 1

    # More than one run takes: questions always wait.
    questions = [asyncio.create_task(ask_for_ever()) for _ in range(35)]
    await asyncio.sleep(0.3)
    before = answered
    async with asyncio.timeout(60):
        await embedder.embed([f"{LONG} {at}" for at in range(5)], queries=False)
    # They had their share meanwhile, and no more.
    assert answered > before + 5 * 35
    for question in questions:
        question.cancel()
    await asyncio.gather(*questions, return_exceptions=True)


async def test_too_many_waiting_texts_are_refused_and_those_that_left_are_not_worked_for(worker: OnnxWorker) -> None:
    embedder = OnnxEmbedder(worker)
    waiting = asyncio.create_task(embedder.embed([LONG] * 30, queries=False))
    await asyncio.sleep(0.3)
    with pytest.raises(Overloaded):
        await embedder.embed([LONG] * 20, queries=False)
    waiting.cancel()
    assert (await embedder.embed(["still here"], queries=False)).vectors.shape[0] == 1


async def test_what_waits_at_the_end_is_told(worker: OnnxWorker) -> None:
    embedder = OnnxEmbedder(worker)
    waiting = asyncio.create_task(embedder.embed([LONG] * 30, queries=False))
    await asyncio.sleep(0.3)
    await worker.stop()
    with pytest.raises(Exception, match="stopping"):
        await waiting
    with pytest.raises(Exception, match="stopping"):
        await embedder.embed(["late"], queries=True)
