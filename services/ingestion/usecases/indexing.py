"""What the index says about versions: searchable, or never."""

from collections.abc import Callable
from dataclasses import replace

import structlog

from services.ingestion.domain.documents import FINAL, DocumentState, Failure
from services.ingestion.domain.text import FailureCode
from services.ingestion.ports import Ledger
from services.ingestion.telemetry import Metrics
from services.ingestion.usecases.lookup import living_version

__all__ = ["NoteIndex"]

_log = structlog.get_logger()


class NoteIndex:
    """Brings versions to INDEXED or FAILED. Hearing a fact twice, or late, changes nothing.

    Args:
        ledger: Records.
        metrics: Where outcomes and freshness are measured.
        now: Seconds since 1970.
    """

    def __init__(self, *, ledger: Ledger, metrics: Metrics, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._now = now

    async def indexed(self, tenant: str, document_id: str, number: int) -> None:
        """Note that a version is searchable and, unless a higher one is, the active one."""
        now = self._now()
        async with self._ledger.change() as change:
            found = await living_version(change, tenant, document_id, number)
            if found is None or found[1].state is DocumentState.INDEXED:
                return
            version = found[1]
            await change.put_version(replace(version, state=DocumentState.INDEXED, failure=None, updated_at=now))
            await change.activate(document_id, number, now)
        self._metrics.documents.labels(outcome="indexed").inc()
        self._metrics.freshness.observe(max(0.0, now - version.received_at))

    async def rejected(self, tenant: str, document_id: str, number: int, reason: str) -> None:
        """Note that a version never becomes searchable; the active one stays."""
        async with self._ledger.change() as change:
            found = await living_version(change, tenant, document_id, number)
            if found is None or found[1].state in FINAL:
                return
            version = found[1]
            failure = Failure(FailureCode.SERVER_ERROR, reason)
            await change.put_version(version.failed(failure, self._now()))
        self._metrics.documents.labels(outcome="failed").inc()
        _log.warning("version_rejected", document_id=document_id, version=number)

    async def undeliverable(self, tenant: str, document_id: str, reason: str) -> None:
        """Bring the newest version of a document to FAILED after an event about it could never be handled."""
        document = await self._ledger.document(tenant, document_id)
        if document is not None and document.state is DocumentState.CHUNKED:
            await self.rejected(tenant, document_id, document.newest.number, reason)
