"""`kill -9` of every room at random while documents flow in: nothing acknowledged is lost, nothing is there twice."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.running_stack import RunningStack, indexed, new_collection, running_stack, upload

pytestmark = pytest.mark.timeout(900)

DOCUMENTS = 60
# Every room at least once; the generation room runs the scripted engine here, its own test kills the real one.
KILLS = ("ingestion", "retrieval", "gateway", "ingestion", "retrieval", "chat", "generation")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("faults"), engine="scripted://?mode=extract") as running:
        yield running


def text(number: int) -> str:
    return (
        f"# Instrument {number}\n\nThe instrument called Fern-{number:04d} weighs {number + 100} grams. "
        f"It was built by team {number % 7} and is calibrated every {number % 11 + 2} months.\n"
    )


def offer(client: httpx.Client, collection: str, number: int) -> None:
    """Upload until it is acknowledged, as a patient client does; the key makes the retry harmless."""
    until = time.monotonic() + 240
    while True:
        try:
            answer = client.post(
                "/brain/v1/documents",
                params={"collection": collection, "filename": f"fern-{number}.md", "key": f"fern-{number}"},
                content=text(number).encode(),
                timeout=30,
            )
            if answer.is_success:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, f"document {number} was never accepted"
        time.sleep(0.3)


def test_rooms_killed_while_documents_flow_in(stack: RunningStack) -> None:
    key = stack.key("kira", role="curator")
    with stack.client(key) as client:
        collection = new_collection(client, "instruments")

        def offer_all(first: int) -> None:
            with stack.client(key) as mine:
                for number in range(first, DOCUMENTS, 4):
                    offer(mine, collection, number)
                    time.sleep(0.15)

        threads = [threading.Thread(target=offer_all, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        chance = random.Random(7)
        for room in KILLS:
            time.sleep(chance.uniform(0.5, 1.5))
            stack.kill(room)
        for thread in threads:
            thread.join()
        stack.wait_until(lambda: stack.ready)
        stack.wait_until(lambda: reachable(client, collection))
        final = indexed(client, collection, DOCUMENTS)
        assert final["completed"] == DOCUMENTS
        restarts = {name: room["restarts"] for name, room in stack.state["rooms"].items()}
        assert sum(restarts.values()) >= len(KILLS), "the kills must have bitten"
        for number in random.Random(11).sample(range(DOCUMENTS), 15):
            hits = client.post(
                f"/v1/vector_stores/{collection}/search",
                json={"query": f"How heavy is Fern-{number:04d}?", "max_num_results": 50},
            ).json()["data"]
            mine = [hit for hit in hits if hit["filename"] == f"fern-{number}.md"]
            assert len(mine) == 1, f"document {number} is there {len(mine)} times"
            assert f"{number + 100} grams" in mine[0]["content"][0]["text"]


def reachable(client: httpx.Client, collection: str) -> bool:
    try:
        return client.get(f"/v1/vector_stores/{collection}").is_success
    except httpx.TransportError:
        return False


def test_a_stream_cut_by_a_dying_engine_says_so(stack: RunningStack) -> None:
    body = {
        "model": "default",
        "stream": True,
        "max_completion_tokens": 1500,
        "messages": [{"role": "user", "content": "word " * 600}],
    }
    with (
        stack.client(stack.key("otto")) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        arriving = response.iter_lines()
        lines = [next(line for line in arriving if '"content":"' in line and '"content":""' not in line)]
        stack.kill("generation")
        lines += list(arriving)
    said = "\n".join(lines)
    assert "[DONE]" in said or '"error"' in said, "a stream must end with its terminator or an error"
    stack.wait_until(lambda: stack.ready)


def test_a_deleted_document_stays_deleted_over_a_crash(stack: RunningStack, tmp_path: Path) -> None:
    with stack.client(stack.key("dora")) as client:
        collection = new_collection(client, "short-lived")
        file_id = upload(client, collection, "secret.md", "# Plan\n\nThe code word of the plan is heliotrope.\n")
        indexed(client, collection, 1)
        assert client.delete(f"/v1/vector_stores/{collection}/files/{file_id}").is_success
        for room in ("retrieval", "ingestion"):
            stack.kill(room)
        stack.wait_until(lambda: stack.ready and reachable(client, collection))
        answer = client.post(f"/v1/vector_stores/{collection}/search", json={"query": "code word heliotrope"})
        assert answer.is_success, answer.text
        assert answer.json()["data"] == []
