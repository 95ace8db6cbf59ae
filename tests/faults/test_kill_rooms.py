"""`kill -9` of every room at random while documents flow in: nothing acknowledged is lost, nothing is there twice."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.documents import assert_found_once, flowing_in, reachable
from tests.faults.index_rows import places
from tests.faults.killing import Killer
from tests.faults.results import over, record
from tests.faults.revisions import assert_newest_only, pages_of, replaced, watched
from tests.faults.sizes import size
from tests.running_stack import RunningStack, indexed, new_collection, running_stack, upload

pytestmark = pytest.mark.timeout(size(ci=900, release=3600))

# The engine is the scripted one here; test_kill_under_load.py kills the real one.
ROOMS = ("ingestion", "retrieval", "gateway", "chat", "generation", "finetuning")
DOCUMENTS = size(ci=180, release=1_900)
# Of several chunks, and replaced while rooms die.
REPLACED, REVISIONS = size(ci=20, release=100), 3
KILLS = size(ci=8, release=36)
SEEDS = size(ci=(7,), release=(7, 8, 9))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("faults"), engine="scripted://?mode=extract&rate=200") as running:
        yield running


@pytest.mark.parametrize("seed", SEEDS)
def test_rooms_killed_while_documents_flow_in(stack: RunningStack, seed: int) -> None:
    key = stack.key("kira", role="curator")
    chance = random.Random(seed)
    # Every room at least once.
    victims = chance.sample(ROOMS, len(ROOMS)) + chance.choices(ROOMS, k=KILLS - len(ROOMS))
    killer = Killer(stack)
    before = {name: room["restarts"] for name, room in stack.state["rooms"].items()}
    with stack.client(key) as client:
        collection = new_collection(client, f"instruments {seed}")
        larches = range(REPLACED)
        with (
            flowing_in(stack, key, collection, range(DOCUMENTS)) as acknowledged,
            replaced(stack, key, collection, larches, revisions=REVISIONS, pause_s=0.1) as replacements,
            watched(stack, key, collection, larches) as looks,
        ):
            for number, room in enumerate(victims, 1):
                # All along the way, at any moment between two of them.
                due = number * DOCUMENTS // (len(victims) + 1)
                stack.wait_until(lambda due=due: len(acknowledged) >= due, timeout_s=300)  # type: ignore[misc]
                stack.wait_until(lambda room=room: killer.is_up(room), timeout_s=300)  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.5))
                killer.kill(room)
            killer.finish(KILLS)
            # Whoever looks goes on looking until all is settled.
            stack.wait_until(lambda: reachable(client, collection))
            stack.wait_until(
                lambda: len(acknowledged) == DOCUMENTS and len(replacements) == REPLACED * REVISIONS, timeout_s=600
            )
            final = indexed(client, collection, DOCUMENTS + REPLACED, timeout_s=600)

        assert final["completed"] == DOCUMENTS + REPLACED
        restarts = {name: room["restarts"] - before[name] for name, room in stack.state["rooms"].items()}
        assert sum(restarts.values()) >= KILLS, "the kills must have bitten"
        assert looks.unanswered, "the kills must have been felt"
        assert looks.faults == []
        assert looks.whole
        for number in chance.sample(range(DOCUMENTS), size(ci=15, release=50)):
            assert_found_once(client, collection, number)
        assert_newest_only(client, collection, larches, revision=REVISIONS)
        # What a revision before left goes a moment after the newest one is searchable.
        expected = DOCUMENTS + REPLACED * pages_of(REVISIONS)
        stack.wait_until(lambda: len(places(stack.environment, stack.state_dir, collection)) == expected)
        rows = places(stack.environment, stack.state_dir, collection)
    assert len(set(rows)) == expected
    assert len({row.document_id for row in rows}) == len({(row.document_id, row.version) for row in rows})
    awake = [one.seconds for one in killer.recoveries if one.room != "generation"]
    record(
        f"rooms killed while ingesting, seed {seed}",
        held="lost 0, duplicate chunks 0, partial versions 0, gaps 0, all offered were accepted",
        documents=DOCUMENTS + REPLACED,
        replaced=REPLACED * (REVISIONS - 1),
        kills=KILLS,
        looks_whole=looks.whole,
        looks_unanswered=looks.unanswered,
        **over("recovery", awake),
        **over("generation_recovery", [one.seconds for one in killer.recoveries if one.room == "generation"]),
    )


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
