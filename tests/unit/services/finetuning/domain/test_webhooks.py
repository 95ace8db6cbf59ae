import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidInput
from services.finetuning.domain.webhooks import (
    Answer,
    Delivery,
    DeliveryState,
    WebhookEvent,
    checked_events,
    message_body,
    message_headers,
    settled,
    signature,
    webhook_secret,
)

DELIVERY = Delivery(
    event_id="evt_1",
    webhook_id="wh_1",
    url="https://hooks.example.com/brain",
    event=WebhookEvent.SUCCEEDED,
    job_id="ftjob-1",
    created_at=1_700_000_000.75,
    attempt=1,
)
DOWN = Answer(503, "it answered 503")


def test_a_signature_is_the_one_that_the_specification_gives() -> None:
    """The example of the Standard Webhooks specification and its reference libraries."""
    given_signature = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert given_signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_address_has_a_secret_of_its_own_that_the_room_finds_again() -> None:
    first = webhook_secret(b"room", "wh_1")
    assert first == webhook_secret(b"room", "wh_1")
    assert len({first, webhook_secret(b"room", "wh_2"), webhook_secret(b"other room", "wh_1")}) == 3
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32


def test_the_body_is_the_event_as_openai_sends_it_and_the_same_at_every_try() -> None:
    body = message_body(DELIVERY)
    assert json.loads(body) == {
        "object": "event",
        "id": "evt_1",
        "type": "fine_tuning.job.succeeded",
        "created_at": 1_700_000_000,
        "data": {"id": "ftjob-1"},
    }
    assert message_body(replace(DELIVERY, attempt=7)) == body


def test_a_later_try_keeps_the_id_and_is_signed_anew() -> None:
    body, secret = message_body(DELIVERY), webhook_secret(b"room", "wh_1")
    first = message_headers(DELIVERY, body, secret=secret, now=1_700_000_001)
    later = message_headers(replace(DELIVERY, attempt=2), body, secret=secret, now=1_700_000_900)
    assert first["webhook-id"] == later["webhook-id"] == "evt_1"
    assert (first["webhook-timestamp"], later["webhook-timestamp"]) == ("1700000001", "1700000900")
    assert first["webhook-signature"] != later["webhook-signature"]


def test_no_events_are_all_events_and_an_unknown_one_is_named() -> None:
    assert checked_events([]) == tuple(WebhookEvent)
    assert checked_events(["fine_tuning.job.failed", "fine_tuning.job.failed"]) == (WebhookEvent.FAILED,)
    with pytest.raises(InvalidInput, match=r"events: 'batch.completed' is not offered; use fine_tuning.job.succeeded"):
        checked_events(["batch.completed"])


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_what_is_taken_is_delivered(status: int) -> None:
    found = settled(DELIVERY, Answer(status, f"it answered {status}"), now=1_700_000_002, spread=0.5)
    assert (found.state, found.due_at) == (DeliveryState.DELIVERED, 0.0)
    assert found.words.startswith("2023-11-14T22:13:22+00:00: fine_tuning.job.succeeded for ftjob-1 delivered")


@pytest.mark.parametrize("status", [0, 301, 400, 404, 429, 500, 503])
def test_what_is_not_taken_is_tried_again(status: int) -> None:
    found = settled(DELIVERY, Answer(status, "it did not work"), now=1_700_000_002, spread=0.0)
    assert found.state is DeliveryState.PENDING
    assert found.due_at > 1_700_000_002
    assert "not delivered in 1 try so far, it did not work" in found.words


def test_an_address_that_says_it_is_gone_is_believed() -> None:
    found = settled(DELIVERY, Answer(410, "it answered 410"), now=1_700_000_002, spread=0.0)
    assert found.state is DeliveryState.GAVE_UP


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400))
def test_waits_grow_and_end_within_a_day(spreads: list[float]) -> None:
    now, delivery, waits = DELIVERY.created_at, DELIVERY, list[float]()
    for spread in spreads:
        found = settled(delivery, DOWN, now=now, spread=spread)
        if found.state is DeliveryState.GAVE_UP:
            break
        waits.append(found.due_at - now)
        now, delivery = found.due_at, replace(delivery, attempt=delivery.attempt + 1)
        assert now <= DELIVERY.created_at + 86_400
    for at, wait in enumerate(waits):
        # To the precision of a second since 1970.
        assert 0.5 * min(3_600, 5 * 2**at) - 1e-3 <= wait <= min(3_600, 5 * 2**at) + 1e-3
    # The longest wait half of the time at least: a day has no room for more.
    assert len(waits) <= 10 + 48


def test_a_receiver_that_is_away_all_day_is_given_up_after_a_day() -> None:
    now, delivery = DELIVERY.created_at, DELIVERY
    while (found := settled(delivery, DOWN, now=now, spread=1.0)).state is DeliveryState.PENDING:
        now, delivery = found.due_at, replace(delivery, attempt=delivery.attempt + 1)
    assert found.state is DeliveryState.GAVE_UP
    assert 86_400 - 3_600 <= now - DELIVERY.created_at <= 86_400
    assert f"given up after {delivery.attempt} tries, it answered 503" in found.words
