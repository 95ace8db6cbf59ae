"""Writing down: what was used and who did what, gathered and written together."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from gateway.domain.identity import AuditEntry, Spent
from gateway.ports import Audit, Meter
from services.chassis.errors import Unavailable

__all__ = ["Ledger"]

_log = structlog.get_logger()

_PAUSE_S = 1.0


class Ledger:
    """Gathers usage and audit entries and writes them once a second, and whenever somebody asks.

    Entries about changes are written before the change is answered (`flush`); the rest may wait.
    """

    def __init__(self, *, meter: Meter, audit: Audit, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._meter = meter
        self._audit = audit
        self._now = now
        self._spent: dict[tuple[str, str, str], Spent] = {}
        self._entries: list[AuditEntry] = []
        self._writing = asyncio.Lock()

    def spend(self, spent: Spent) -> None:
        """Add to what a key has used."""
        key = (spent.tenant, spent.key_id, spent.model)
        before = self._spent.get(key)
        self._spent[key] = (
            spent
            if before is None
            else Spent(
                spent.tenant,
                spent.key_id,
                spent.model,
                before.prompt_tokens + spent.prompt_tokens,
                before.completion_tokens + spent.completion_tokens,
                before.requests + spent.requests,
            )
        )

    def note(self, entry: AuditEntry) -> None:
        """Add an entry to the audit log."""
        self._entries.append(entry)

    async def flush(self) -> None:
        """Write what has been gathered.

        Raises:
            Unavailable: The database is away; nothing is lost, the next flush tries again.
        """
        async with self._writing:
            entries = self._entries[:]
            if entries:
                await self._audit.write(entries)
                del self._entries[: len(entries)]
            spent = list(self._spent.values())
            if spent:
                self._spent = {}
                try:
                    await self._meter.add(spent, self._now())
                except BaseException:
                    for row in spent:
                        self.spend(row)
                    raise

    async def run(self) -> None:
        """Write once a second, for ever."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            try:
                await self.flush()
            except Unavailable as error:
                _log.warning("ledger_waits", private=error.private)
