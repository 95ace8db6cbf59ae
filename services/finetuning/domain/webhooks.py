"""Webhooks: what is told to whom, how it is signed, and when a delivery is given up.

Signatures follow the Standard Webhooks specification (standardwebhooks.com), version 1, symmetric.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from services.chassis.errors import InvalidInput

__all__ = [
    "MOST_WEBHOOKS",
    "Answer",
    "Delivery",
    "DeliveryState",
    "Settlement",
    "Webhook",
    "WebhookEvent",
    "checked_events",
    "message_body",
    "message_headers",
    "settled",
    "signature",
    "webhook_secret",
]

# Addresses of one tenant: each costs a delivery for every job that ends.
MOST_WEBHOOKS: Final = 20
# A receiver that is away for a night's maintenance still hears of it.
_LIFETIME_S: Final = 86_400.0
# The first wait; each later one is twice as long, up to the longest.
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 3_600.0
# The specification's own sign that an address wants no more.
_GONE: Final = 410
# How receivers know the form of what follows.
_WHSEC: Final = "whsec_"


class WebhookEvent(StrEnum):
    """What can be told."""

    SUCCEEDED = "fine_tuning.job.succeeded"
    FAILED = "fine_tuning.job.failed"
    CANCELLED = "fine_tuning.job.cancelled"


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GAVE_UP = "gave_up"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told.

    Attributes:
        webhook_id: Id.
        tenant: Tenant.
        owner: Who keeps it.
        url: Address.
        events: What it is told.
        created_at: Seconds since 1970.
        last_delivery: How the last delivery went, in words; empty before the first.
    """

    webhook_id: str
    tenant: str
    owner: str
    url: str
    events: tuple[WebhookEvent, ...]
    created_at: float
    last_delivery: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one address.

    Attributes:
        event_id: Id of the event; every try carries it, so that a receiver knows what it has had.
        webhook_id: Address it goes to.
        url: The same, as it is written.
        event: What is told.
        job_id: Whose end is told.
        created_at: When it ended, in seconds since 1970.
        attempt: Which try this is, from 1.
    """

    event_id: str
    webhook_id: str
    url: str
    event: WebhookEvent
    job_id: str
    created_at: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try.

    Attributes:
        status: HTTP status; 0 when there was none.
        words: The same for a person.
    """

    status: int
    words: str

    @property
    def accepted(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a try means for its delivery.

    Attributes:
        state: Where it stands now.
        due_at: When it is tried again, in seconds since 1970; 0 when it is not.
        words: The same for whoever keeps the address.
    """

    state: DeliveryState
    due_at: float
    words: str


def checked_events(names: Sequence[str]) -> tuple[WebhookEvent, ...]:
    """Return the events that `names` say, all for none.

    Raises:
        InvalidInput: There is no such event.
    """
    for name in names:
        if name not in set(WebhookEvent):
            raise InvalidInput(
                f"events: {name[:100]!r} is not offered; use {', '.join(WebhookEvent)}, or none for all.",
                param="events",
            )
    return tuple(event for event in WebhookEvent if not names or event in names)


def webhook_secret(room_secret: bytes, webhook_id: str) -> str:
    """Return the secret that an address checks signatures with.

    It is derived from the room's secret and kept nowhere, so that who reads the database or a copy of it can sign
    nothing.
    """
    derived = hmac.new(room_secret, f"webhook-secret:{webhook_id}".encode(), hashlib.sha256).digest()
    return _WHSEC + base64.b64encode(derived).decode()


def message_body(delivery: Delivery) -> bytes:
    """Return what is sent; the same bytes at every try."""
    return json.dumps(
        {
            "object": "event",
            "id": delivery.event_id,
            "type": delivery.event.value,
            "created_at": int(delivery.created_at),
            "data": {"id": delivery.job_id},
        },
        separators=(",", ":"),
    ).encode()


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    key = base64.b64decode(secret.removeprefix(_WHSEC))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def message_headers(delivery: Delivery, body: bytes, *, secret: str, now: float) -> Mapping[str, str]:
    """Return the headers of a try that is made `now`: receivers refuse an old signature, so each try has its own."""
    timestamp = int(now)
    return {
        "content-type": "application/json",
        "user-agent": "corporate-brain-webhooks/1",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, message_id=delivery.event_id, timestamp=timestamp, body=body),
    }


def settled(delivery: Delivery, answer: Answer, *, now: float, spread: float) -> Settlement:
    """Return what a try that ended `now` means.

    Args:
        delivery: What was tried.
        answer: What came of it.
        now: Seconds since 1970.
        spread: From 0 to 1, drawn at random: deliveries that failed together do not come back together.
    """
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    what = f"{delivery.event} for {delivery.job_id}"
    if answer.accepted:
        return Settlement(DeliveryState.DELIVERED, 0.0, f"{at}: {what} delivered, {answer.words}")
    # Doubling stops long before the power of two leaves what a float can hold.
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(delivery.attempt - 1, 20))
    due_at = now + longest * (0.5 + 0.5 * spread)
    tries = "1 try" if delivery.attempt == 1 else f"{delivery.attempt} tries"
    if answer.status == _GONE or due_at > delivery.created_at + _LIFETIME_S:
        return Settlement(DeliveryState.GAVE_UP, 0.0, f"{at}: {what} given up after {tries}, {answer.words}")
    return Settlement(DeliveryState.PENDING, due_at, f"{at}: {what} not delivered in {tries} so far, {answer.words}")
