"""PostgreSQL ended under the rooms' hands and started again: 503 meanwhile, no torn state, and all goes on by itself."""

import time

import httpx
import pytest

from tests.faults.documents import assert_found_once, assert_rows_once
from tests.faults.own_servers import OwnStack
from tests.faults.questions import Heard, asking
from tests.faults.results import over, record
from tests.faults.sizes import size
from tests.faults.uploads import all_indexed, upload_once, uploading
from tests.running_stack import new_collection

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

DOCUMENTS = size(ci=60, release=600)
TIMES = size(ci=3, release=20)
AWAY_S = 1.5
PEOPLE = 4


def test_a_restarted_database_is_said_and_leaves_nothing_torn(own: OwnStack) -> None:
    stack, postgres = own.stack, own.servers.postgres
    key = stack.key("kurt", role="curator")
    dead = stack.metric("retrieval", "brain_dead_letter_records_total")
    restarts = {name: room["restarts"] for name, room in stack.state["rooms"].items()}
    back_s: list[float] = []
    with stack.client(key) as client:
        collection = new_collection(client, "tables")
        assert upload_once(client, collection, 0).acknowledged
        all_indexed(client, collection, 1)
        with (
            asking(stack, key, collection, 1, people=PEOPLE) as questions,
            uploading(stack, key, collection, at_least=DOCUMENTS, every_s=0.3) as uploads,
        ):
            for _ in range(TIMES):
                seen = uploads.acknowledged
                # Whatever was on its way in it breaks off.
                postgres.kill()
                time.sleep(AWAY_S)
                postgres.start()
                back_at = time.monotonic()
                stack.wait_until(lambda since=back_at: questions.right_since(since))  # type: ignore[misc]
                stack.wait_until(lambda before=seen: uploads.acknowledged > before)  # type: ignore[misc]
                back_s.append(time.monotonic() - back_at)
        total = uploads.acknowledged
        behind_s = all_indexed(client, collection, total)

        refused = [one for one in uploads.tries if not one.acknowledged]
        assert refused, "the kills must have bitten"
        assert [one for one in refused if one.status != httpx.codes.SERVICE_UNAVAILABLE or not one.retry_after] == []
        assert questions.of(Heard.WRONG) == []
        assert questions.of(Heard.AWAY), "the kills must have bitten"
        for number in range(0, total, total // 10):
            assert_found_once(client, collection, number)
    assert_rows_once(stack, collection, total)
    assert stack.metric("retrieval", "brain_dead_letter_records_total") == dead
    assert {name: room["restarts"] for name, room in stack.state["rooms"].items()} == restarts
    record(
        "database killed and restarted",
        held="503 with Retry-After, lost 0, rows twice 0, ungrounded answers 0, no room ended",
        times=TIMES,
        documents=total,
        uploads_refused=len(refused),
        questions=len(questions.asked),
        told_that_it_is_away=len(questions.of(Heard.AWAY)),
        all_indexed_after_s=behind_s,
        **over("serves_again_after", back_s),
    )
