"""Adapter events: every replica reads the whole topic from the start, alone, and keeps what it says in memory."""

import asyncio
from datetime import UTC
from typing import Final

import structlog

from brain.events.v1 import adapter_pb2 as pb
from services.chassis.errors import Unavailable
from services.chassis.events.log import Envelope, EventLog
from services.chassis.telemetry import continued_trace
from services.generation.domain import AdapterSource, AdapterState, AdapterStatus, AliasState
from services.generation.telemetry import Metrics
from services.generation.usecases import Converge

__all__ = ["ADAPTER_TOPIC", "AdapterEvents"]

_log = structlog.get_logger()
ADAPTER_TOPIC: Final = "brain.adapter.v1"
_PAUSE_S: Final = 1.0
_STATUS: Final = {
    pb.ADAPTER_STATUS_PUBLISHED: AdapterStatus.PUBLISHED,
    pb.ADAPTER_STATUS_BLOCKED: AdapterStatus.BLOCKED,
    pb.ADAPTER_STATUS_DELETED: AdapterStatus.DELETED,
}


class AdapterEvents:
    """Hears of adapters and aliases.

    Args:
        log: The event log.
        converge: Applies what is heard.
        known: Set when everything that stood in the log at the start was applied.
        metrics: Where events are counted.
    """

    def __init__(self, *, log: EventLog, converge: Converge, known: asyncio.Event, metrics: Metrics) -> None:
        self._log = log
        self._converge = converge
        self._known = known
        self._metrics = metrics

    async def run(self) -> None:
        """Read for ever; when the log or the database was away, from the start again: states are idempotent."""
        while True:
            try:
                async for record in self._log.replay(ADAPTER_TOPIC, caught_up=self._known):
                    await self.handle(record.envelope)
            except Unavailable as error:
                _log.warning("adapter_events_wait", reason=error.message, private=error.private)
                await asyncio.sleep(_PAUSE_S)

    async def handle(self, envelope: Envelope) -> None:
        """Apply one event; what cannot be read is said in the log and passed by.

        Raises:
            Unavailable: The database is away.
        """
        with continued_trace(
            f"{ADAPTER_TOPIC} process", envelope.traceparent, {"messaging.message.id": envelope.event_id}
        ):
            try:
                outcome = await self._applied(envelope)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001  the outermost loop of an event: one must not end the room for ever
                _log.error("adapter_event_unreadable", event_id=envelope.event_id, key=envelope.key, reason=repr(error))
                outcome = "unreadable"
                kind, _, name = envelope.key.partition(":")
                if kind == "adapter":
                    # It may have been the one that blocks.
                    self._converge.block(envelope.tenant, name, reason="unreadable_event")
        self._metrics.adapter_events.labels(outcome=outcome).inc()

    async def _applied(self, envelope: Envelope) -> str:
        event = pb.AdapterEvent.FromString(envelope.payload)
        match event.WhichOneof("fact"):
            case "adapter":
                news = await self._converge.adapter(_adapter(envelope, event.adapter))
            case "alias":
                news = self._converge.alias(_alias(envelope, event.alias))
            case _:
                # A promotion, or a fact of a newer publisher.
                return "ignored"
        return "applied" if news else "stale"


def _adapter(envelope: Envelope, state: pb.AdapterState) -> AdapterState:
    # A status of a newer publisher is none under which anything may be said.
    status, reason = _STATUS.get(state.status, AdapterStatus.BLOCKED), state.reason
    if state.status not in _STATUS:
        reason = f"status_{state.status}"
    created = state.created_at.ToDatetime(tzinfo=UTC) if state.HasField("created_at") else envelope.occurred_at
    return AdapterState(
        tenant=envelope.tenant,
        name=state.name,
        status=status,
        source=AdapterSource(
            config_digest=state.config_digest,
            weights_digest=state.weights_digest,
            config_key=state.config_blob_key,
            weights_key=state.weights_blob_key,
        ),
        base_digest=state.base_digest,
        template_hash=state.template_hash,
        principals=frozenset(state.principals),
        created_at=created,
        revision=state.revision,
        reason=reason,
    )


def _alias(envelope: Envelope, state: pb.AliasState) -> AliasState:
    return AliasState(
        tenant=envelope.tenant,
        alias=state.alias,
        target=state.target,
        canary=state.canary,
        canary_weight=state.canary_weight,
        revision=state.revision,
    )
