"""What the gateway itself remembers: keys, use, the audit log, answers to repeated requests."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from gateway.domain.identity import ApiKey, AuditEntry, Spent, StoredAnswer
from gateway.domain.keeping import Page, Paging

__all__ = ["Answers", "Audit", "Keys", "Meter"]


class Keys(Protocol):
    """Remembers API keys."""

    async def add(self, key: ApiKey, digest: str) -> None:
        """Keep a key under the digest of its secret."""
        ...

    async def find(self, digest: str) -> ApiKey | None:
        """Return the key whose secret has this digest."""
        ...

    async def get(self, tenant: str, key_id: str) -> ApiKey:
        """Return a key of a tenant, or raise NotFound."""
        ...

    async def list(self, tenant: str, paging: Paging) -> Page[ApiKey]:
        """Return a tenant's keys."""
        ...

    async def end(self, tenant: str, key_id: str, at: datetime) -> ApiKey:
        """Revoke a key from `at` on (an earlier end stays), or raise NotFound."""
        ...

    async def tenants(self) -> Sequence[str]:
        """Return the tenants that have keys, by name."""
        ...


class Meter(Protocol):
    """Adds up what keys use."""

    async def add(self, spent: Sequence[Spent], at: datetime) -> None:
        """Add to the hour's rows."""
        ...

    async def tokens(self, tenant: str, since: datetime) -> int:
        """Return the tokens that a tenant has used since then."""
        ...

    async def quota(self, tenant: str) -> int | None:
        """Return how many tokens a tenant may use each day; None is no limit."""
        ...

    async def set_quota(self, tenant: str, tokens_per_day: int | None) -> None:
        """Limit a tenant's tokens each day."""
        ...

    async def usage(self, tenant: str, since: datetime) -> Sequence[Spent]:
        """Return what each key has used with each model since then."""
        ...


class Audit(Protocol):
    """Writes down who did what."""

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        """Append entries."""
        ...

    async def read(self, tenant: str, *, limit: int, before: datetime | None = None) -> Sequence[AuditEntry]:
        """Return a tenant's entries, newest first."""
        ...


class Answers(Protocol):
    """Remembers what requests with an `Idempotency-Key` were answered."""

    async def begin(self, scope: str, now: datetime, *, stale_before: datetime) -> StoredAnswer | None:
        """Claim a key, or return what is known of it.

        A claim older than `stale_before` that was never answered (a crash) is taken over.
        """
        ...

    async def finish(self, scope: str, answer: StoredAnswer) -> None:
        """Keep the answer."""
        ...

    async def forget(self, scope: str) -> None:
        """Let go of a claim, so that the request may be tried again."""
        ...

    async def prune(self, before: datetime) -> int:
        """Remove answers older than `before`; return how many."""
        ...
