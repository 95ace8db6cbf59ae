"""`kill -9` of every room at random while documents flow in: nothing acknowledged is lost, nothing is there twice."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.documents import assert_found_once, assert_rows_once, flowing_in, reachable
from tests.running_stack import RunningStack, indexed, new_collection, running_stack, upload

pytestmark = pytest.mark.timeout(900)

DOCUMENTS = 60
# Every room at least once; the engine is the scripted one here, test_kill_under_load.py kills the real one.
KILLS = ("ingestion", "retrieval", "gateway", "ingestion", "retrieval", "chat", "generation")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("faults"), engine="scripted://?mode=extract&rate=200") as running:
        yield running


def test_rooms_killed_while_documents_flow_in(stack: RunningStack) -> None:
    key = stack.key("kira", role="curator")
    with stack.client(key) as client:
        collection = new_collection(client, "instruments")

        chance = random.Random(7)
        with flowing_in(stack, key, collection, range(DOCUMENTS)):
            for room in KILLS:
                time.sleep(chance.uniform(0.5, 1.5))
                stack.kill(room)
        stack.wait_until(lambda: stack.ready)
        stack.wait_until(lambda: reachable(client, collection))
        final = indexed(client, collection, DOCUMENTS)
        assert final["completed"] == DOCUMENTS
        restarts = {name: room["restarts"] for name, room in stack.state["rooms"].items()}
        assert sum(restarts.values()) >= len(KILLS), "the kills must have bitten"
        for number in random.Random(11).sample(range(DOCUMENTS), 15):
            assert_found_once(client, collection, number)
        assert_rows_once(stack, collection, DOCUMENTS)


def test_a_stream_cut_by_a_dying_engine_says_so(stack: RunningStack) -> None:
    body = {
        "model": "default",
        "stream": True,
        # Half a minute at the engine's rate: it does not end by itself before the engine dies.
        "max_completion_tokens": 6000,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "Go on until somebody ends it."}],
    }
    with (
        stack.client(stack.key("otto")) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        arriving = response.iter_lines()
        lines = [next(line for line in arriving if '"content":"' in line and '"content":""' not in line)]
        stack.kill("generation")
        lines += list(arriving)
    assert any('"error"' in line for line in lines), "a reader must be told that this is not all"
    assert [line for line in lines if line][-1] == "data: [DONE]"
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
