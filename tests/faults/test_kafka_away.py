"""Kafka frozen and killed while documents flow in: uploads are acknowledged all the same, nothing is lost, nothing is there twice."""

import time

import pytest

from tests.faults.documents import assert_found_once, assert_rows_once
from tests.faults.own_servers import OwnStack
from tests.faults.results import over, record
from tests.faults.sizes import size
from tests.faults.uploads import all_indexed, done, uploading
from tests.running_stack import new_collection

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

# A document is told of twice at least: that it was cut, and that it was indexed.
DOCUMENTS = size(ci=250, release=2_500)
FREEZES, FROZEN_S = 3, 5.0
KILLS, DEAD_S = 5, 3.0
# What was read before is done after this time.
_UNDER_WAY_S = 2.0


def test_uploads_are_acknowledged_while_kafka_is_frozen_and_killed(own: OwnStack) -> None:
    stack, kafka = own.stack, own.servers.kafka
    key = stack.key("kira", role="curator")
    dead = stack.metric("retrieval", "brain_dead_letter_records_total")
    away: list[tuple[float, float]] = []
    with stack.client(key) as client:
        collection = new_collection(client, "events")

        def stand(seconds: float) -> int:
            """Wait, and see that nothing comes to its end without the log; return how much had before."""
            time.sleep(_UNDER_WAY_S)
            seen = done(client, collection)
            time.sleep(seconds - _UNDER_WAY_S)
            assert done(client, collection) == seen, "the fault must have bitten"
            return seen

        with uploading(stack, key, collection, at_least=DOCUMENTS, every_s=0.3) as uploads:
            stack.wait_until(lambda: done(client, collection) >= 10)
            for fault in ["freeze"] * FREEZES + ["kill"] * KILLS:
                began = time.monotonic()
                if fault == "freeze":
                    kafka.freeze()
                    try:
                        seen = stand(FROZEN_S)
                    finally:
                        kafka.thaw()
                else:
                    kafka.kill()
                    try:
                        seen = stand(DEAD_S)
                    finally:
                        kafka.start()
                away.append((began, time.monotonic()))
                stack.wait_until(lambda before=seen: done(client, collection) > before)  # type: ignore[misc]
        total = uploads.acknowledged
        behind_s = all_indexed(client, collection, total)

        assert [one for one in uploads.tries if not one.acknowledged] == []
        for began, ended in away:
            tries = uploads.begun_in(began, ended)
            assert any(one.began + one.took_s < ended for one in tries), "uploads must not wait for the log"
        longest_s = max(one.took_s for began, ended in away for one in uploads.begun_in(began, ended))
        for number in range(0, total, total // 20):
            assert_found_once(client, collection, number)
    assert_rows_once(stack, collection, total)
    assert stack.metric("retrieval", "brain_dead_letter_records_total") == dead
    record(
        "Kafka frozen 3 × 5 s and killed 5 ×",
        held="lost 0, rows twice 0, every upload acknowledged at its first try, dead letters 0",
        documents=total,
        events=2 * total,
        acknowledged_meanwhile=sum(len(uploads.begun_in(began, ended)) for began, ended in away),
        upload_meanwhile_max_s=longest_s,
        all_indexed_after_s=behind_s,
        **over("killed_and_back", [ended - began for began, ended in away[FREEZES:]]),
    )
