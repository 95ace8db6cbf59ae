"""Weaviate killed and slow while people ask and documents come in: 503 instead of made-up answers, and it catches up."""

import time

import pytest

from tests.faults.documents import assert_rows_once
from tests.faults.own_servers import OwnStack
from tests.faults.questions import Heard, ask, asking
from tests.faults.results import record
from tests.faults.sizes import size
from tests.faults.uploads import all_indexed, done, upload_once
from tests.running_stack import RunningStack, new_collection

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

KNOWN = 40
MEANWHILE = size(ci=10, release=50)
QUESTIONS = size(ci=100, release=500)
PEOPLE = size(ci=8, release=16)
DOWN_S = size(ci=15.0, release=60.0)
SLOW, SLOW_S = size(ci=2, release=6), 5.0


def refused(stack: RunningStack) -> int:
    """Return how often the retrieval room has said that its index is away."""
    lines = (stack.state_dir / "logs" / "retrieval.log").read_text().splitlines()
    return sum('"rpc_failed"' in line and '"unavailable"' in line for line in lines)


def test_nobody_is_told_anything_that_no_document_says(own: OwnStack) -> None:
    stack, weaviate = own.stack, own.servers.weaviate
    key = stack.key("kira", role="curator")
    dead = stack.metric("retrieval", "brain_dead_letter_records_total")
    with stack.client(key) as client:
        collection = new_collection(client, "instruments")
        assert all(upload_once(client, collection, number).acknowledged for number in range(KNOWN))
        all_indexed(client, collection, KNOWN)

        refusals = refused(stack)
        with asking(stack, key, collection, KNOWN, people=PEOPLE) as questions:
            start = time.monotonic()
            stack.wait_until(lambda: questions.right_since(start))
            weaviate.kill()
            down_at = time.monotonic()
            meanwhile = [upload_once(client, collection, KNOWN + number) for number in range(MEANWHILE)]
            time.sleep(max(0.0, down_at + DOWN_S - time.monotonic()))
            assert done(client, collection) == KNOWN, "nothing can be indexed without an index"
            weaviate.start()
            back_at = time.monotonic()
            stack.wait_until(lambda: questions.right_since(back_at))
            answers_again_s = time.monotonic() - back_at
            caught_up_s = time.monotonic() - back_at + all_indexed(client, collection, KNOWN + MEANWHILE)

            slow_at = time.monotonic()
            for _ in range(SLOW):
                weaviate.freeze()
                time.sleep(SLOW_S)
                weaviate.thaw()
                time.sleep(1)
            thawed_at = time.monotonic()
            stack.wait_until(lambda: questions.right_since(thawed_at))
            stack.wait_until(lambda: len(questions.asked) >= QUESTIONS, timeout_s=size(ci=120, release=900))

        assert questions.of(Heard.WRONG) == []
        away = [one for one in questions.of(Heard.AWAY) if down_at <= one.began < back_at]
        # Callers ask a room that is away again, for some tens of seconds: of a short outage many hear nothing.
        assert refused(stack) > refusals, "the kill must have bitten"
        slow = [one.took_s for one in questions.asked if slow_at <= one.began < thawed_at]
        assert max(slow) > SLOW_S / 2, "the slowness must have bitten"
        assert [one for one in meanwhile if not one.acknowledged] == []
    assert_rows_once(stack, collection, KNOWN + MEANWHILE)
    assert stack.metric("retrieval", "brain_dead_letter_records_total") == dead
    record(
        f"Weaviate down {DOWN_S:.0f} s, slow 5 s",
        held="ungrounded answers 0, wrong statuses 0, dead letters 0, rows twice 0",
        questions=len(questions.asked),
        told_that_it_is_away=len(questions.of(Heard.AWAY)),
        told_after_max_s=max((one.took_s for one in away), default=0.0),
        slowest_answer_in_the_outage_s=max(one.took_s for one in questions.asked if down_at <= one.began < back_at),
        answers_again_after_s=answers_again_s,
        documents_meanwhile=MEANWHILE,
        caught_up_after_s=caught_up_s,
        slowest_answer_s=max(slow),
    )


def test_a_room_that_starts_meanwhile_waits_for_it(own: OwnStack) -> None:
    stack, weaviate = own.stack, own.servers.weaviate
    key = stack.key("kira", role="curator")
    restarts = stack.state["rooms"]["retrieval"]["restarts"]
    log = stack.state_dir / "logs" / "retrieval.log"
    with stack.client(key) as client:
        collection = new_collection(client, "waited for")
        assert upload_once(client, collection, 0).acknowledged
        all_indexed(client, collection, 1)
        weaviate.kill()
        try:
            stack.kill("retrieval")
            stack.wait_until(lambda: log.read_text().count("index_waited_for") >= 2)
            assert {ask(client, collection, 0, way).heard for way in ("search", "chat", "stream")} == {Heard.AWAY}
        finally:
            weaviate.start()
        stack.wait_until(lambda: ask(client, collection, 0, "chat").heard is Heard.RIGHT)
    stack.wait_until(lambda: stack.ready)
    assert stack.state["rooms"]["retrieval"]["restarts"] == restarts + 1, "it waited, it did not end"
