"""The gateway's memory in its own database. Times are microseconds since 1970, UTC."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.backends.tables import answers as _answers
from gateway.backends.tables import api_keys as _keys
from gateway.backends.tables import audit as _audit
from gateway.backends.tables import quotas as _quotas
from gateway.backends.tables import usage as _usage
from gateway.domain.identity import ApiKey, AuditEntry, KeyGrant, Spent, StoredAnswer
from gateway.domain.keeping import Page, Paging
from services.chassis.auth import Role
from services.chassis.database import Database, upsert
from services.chassis.errors import NotFound

__all__ = ["AnswersTable", "AuditTable", "KeysTable", "UsageTable"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE: Final = 20


def _text(said: str) -> str:
    # PostgreSQL's texts hold no NUL, and what somebody put into a path or a model's name must not cost others their rows.
    return said.replace("\0", "\ufffd")


def _stamp(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _moment(stamp: int) -> datetime:
    return _EPOCH + timedelta(microseconds=stamp)


def _moment_or_none(stamp: int | None) -> datetime | None:
    return None if stamp is None else _moment(stamp)


class KeysTable:
    """API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: ApiKey, digest: str) -> None:
        """Keep a key under the digest of its secret."""
        grant = key.grant
        row = {
            "id": key.id,
            "digest": digest,
            "tenant": grant.tenant,
            "subject": grant.subject,
            "name": grant.name,
            "hint": key.hint,
            "roles": sorted(grant.roles),
            "groups": sorted(grant.groups),
            "requests_per_minute": grant.requests_per_minute,
            "max_concurrent": grant.max_concurrent,
            "created_at": _stamp(key.created_at),
            "expires_at": None if grant.expires_at is None else _stamp(grant.expires_at),
        }
        async with self._database.begin() as connection:
            await connection.execute(_keys.insert().values(row))

    async def find(self, digest: str) -> ApiKey | None:
        """Return the key whose secret has this digest."""
        async with self._database.connect() as connection:
            row = (await connection.execute(_keys.select().where(_keys.c.digest == digest))).one_or_none()
        return None if row is None else _key(row)

    async def get(self, tenant: str, key_id: str) -> ApiKey:
        """Return a key of a tenant.

        Raises:
            NotFound: There is none.
        """
        async with self._database.connect() as connection:
            return await _one(connection, tenant, key_id)

    async def list(self, tenant: str, paging: Paging) -> Page[ApiKey]:
        """Return a tenant's keys; ids sort by time."""
        column = _keys.c.id
        query = _keys.select().where(_keys.c.tenant == tenant)
        if paging.after:
            query = query.where(column > paging.after if paging.ascending else column < paging.after)
        if paging.before:
            query = query.where(column < paging.before if paging.ascending else column > paging.before)
        limit = paging.limit or _PAGE
        query = query.order_by(column.asc() if paging.ascending else column.desc()).limit(limit + 1)
        async with self._database.connect() as connection:
            rows = (await connection.execute(query)).all()
        return Page(tuple(_key(row) for row in rows[:limit]), len(rows) > limit)

    async def end(self, tenant: str, key_id: str, at: datetime) -> ApiKey:
        """End a key at `at`; an earlier end stays.

        Raises:
            NotFound: There is none.
        """
        stamp = _stamp(at)
        later = sa.or_(_keys.c.revoked_at.is_(None), _keys.c.revoked_at > stamp)
        change = _keys.update().where(_keys.c.tenant == tenant, _keys.c.id == key_id, later).values(revoked_at=stamp)
        async with self._database.begin() as connection:
            await connection.execute(change)
            return await _one(connection, tenant, key_id)

    async def tenants(self) -> Sequence[str]:
        """Return the tenants that have keys, by name."""
        query = sa.select(_keys.c.tenant).distinct().order_by(_keys.c.tenant)
        async with self._database.connect() as connection:
            return [row.tenant for row in (await connection.execute(query)).all()]


async def _one(connection: AsyncConnection, tenant: str, key_id: str) -> ApiKey:
    query = _keys.select().where(_keys.c.tenant == tenant, _keys.c.id == key_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no key {key_id!r}.", param="key_id")
    return _key(row)


def _key(row: Any) -> ApiKey:
    grant = KeyGrant(
        tenant=row.tenant,
        subject=row.subject,
        roles=frozenset(Role(role) for role in row.roles),
        groups=frozenset(row.groups),
        name=row.name,
        expires_at=_moment_or_none(row.expires_at),
        requests_per_minute=row.requests_per_minute,
        max_concurrent=row.max_concurrent,
    )
    return ApiKey(row.id, grant, row.hint, _moment(row.created_at), _moment_or_none(row.revoked_at))


class UsageTable:
    """What keys use, by the hour, and what tenants may."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, spent: Sequence[Spent], at: datetime) -> None:
        """Add to the hour's rows."""
        hour = _stamp(at.replace(minute=0, second=0, microsecond=0))
        async with self._database.begin() as connection:
            # In one order, so that two who add the same keys' rows wait for each other and do not block each other.
            for one in sorted(spent, key=lambda one: (one.tenant, one.key_id, one.model)):
                insert = upsert(connection, _usage).values(
                    tenant=one.tenant,
                    hour=hour,
                    key_id=one.key_id,
                    model=_text(one.model[:256]),
                    requests=one.requests,
                    prompt_tokens=one.prompt_tokens,
                    completion_tokens=one.completion_tokens,
                )
                sums = {
                    name: _usage.c[name] + insert.excluded[name]
                    for name in ("requests", "prompt_tokens", "completion_tokens")
                }
                await connection.execute(
                    insert.on_conflict_do_update(index_elements=["tenant", "hour", "key_id", "model"], set_=sums)
                )

    async def tokens(self, tenant: str, since: datetime) -> int:
        """Return the tokens that a tenant has used since then."""
        total = sa.func.coalesce(sa.func.sum(_usage.c.prompt_tokens + _usage.c.completion_tokens), 0)
        query = sa.select(total).where(_usage.c.tenant == tenant, _usage.c.hour >= _stamp(since))
        async with self._database.connect() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def quota(self, tenant: str) -> int | None:
        """Return how many tokens a tenant may use each day; None is no limit."""
        query = sa.select(_quotas.c.tokens_per_day).where(_quotas.c.tenant == tenant)
        async with self._database.connect() as connection:
            found = (await connection.execute(query)).scalar_one_or_none()
        return None if found is None else int(found)

    async def set_quota(self, tenant: str, tokens_per_day: int | None) -> None:
        """Limit a tenant's tokens each day; None lifts the limit."""
        async with self._database.begin() as connection:
            if tokens_per_day is None:
                await connection.execute(_quotas.delete().where(_quotas.c.tenant == tenant))
                return
            insert = upsert(connection, _quotas).values(tenant=tenant, tokens_per_day=tokens_per_day)
            limit = {"tokens_per_day": insert.excluded.tokens_per_day}
            await connection.execute(insert.on_conflict_do_update(index_elements=["tenant"], set_=limit))

    async def usage(self, tenant: str, since: datetime) -> Sequence[Spent]:
        """Return what each key has used with each model since then."""
        total = sa.func.sum
        query = (
            sa.select(
                _usage.c.key_id,
                _usage.c.model,
                total(_usage.c.requests).label("requests"),
                total(_usage.c.prompt_tokens).label("prompt"),
                total(_usage.c.completion_tokens).label("completion"),
            )
            .where(_usage.c.tenant == tenant, _usage.c.hour >= _stamp(since))
            .group_by(_usage.c.key_id, _usage.c.model)
            .order_by(_usage.c.key_id, _usage.c.model)
        )
        async with self._database.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Spent(tenant, row.key_id, row.model, int(row.prompt), int(row.completion), int(row.requests))
            for row in rows
        ]


class AuditTable:
    """Who did what. Rows are added and never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        """Append entries."""
        rows = [
            {
                "at": _stamp(entry.at),
                "request_id": entry.request_id,
                "tenant": entry.tenant,
                "subject": entry.subject,
                "key_id": entry.key_id,
                "action": entry.action,
                "object_id": _text(entry.object_id[:512]),
                "status": entry.status,
                "reason": entry.reason,
            }
            for entry in entries
        ]
        async with self._database.begin() as connection:
            await connection.execute(_audit.insert(), rows)

    async def read(self, tenant: str, *, limit: int, before: datetime | None = None) -> Sequence[AuditEntry]:
        """Return a tenant's entries, newest first."""
        query = _audit.select().where(_audit.c.tenant == tenant)
        if before is not None:
            query = query.where(_audit.c.at < _stamp(before))
        query = query.order_by(_audit.c.at.desc(), _audit.c.number.desc()).limit(limit)
        async with self._database.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [
            AuditEntry(
                at=_moment(row.at),
                request_id=row.request_id,
                tenant=row.tenant,
                subject=row.subject,
                key_id=row.key_id,
                action=row.action,
                object_id=row.object_id,
                status=row.status,
                reason=row.reason,
            )
            for row in rows
        ]


class AnswersTable:
    """Answers to requests with an `Idempotency-Key`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, scope: str, now: datetime, *, stale_before: datetime) -> StoredAnswer | None:
        """Claim a key, or return what is known of it."""
        async with self._database.begin() as connection:
            stale = sa.and_(_answers.c.status == 0, _answers.c.created_at < _stamp(stale_before))
            await connection.execute(_answers.delete().where(_answers.c.scope == scope, stale))
            claim = upsert(connection, _answers).values(
                scope=scope, digest="", status=0, media_type="", body=None, created_at=_stamp(now)
            )
            row = None
            # Whoever held it may let go of it between the two statements.
            while row is None:
                claimed = await connection.execute(claim.on_conflict_do_nothing())
                if claimed.rowcount:
                    return None
                row = (await connection.execute(_answers.select().where(_answers.c.scope == scope))).one_or_none()
        return StoredAnswer(row.digest, row.status, row.media_type, row.body, _moment(row.created_at))

    async def finish(self, scope: str, answer: StoredAnswer) -> None:
        """Keep the answer."""
        change = (
            _answers.update()
            .where(_answers.c.scope == scope)
            .values(
                digest=answer.digest,
                status=answer.status,
                media_type=answer.media_type,
                body=answer.body,
                created_at=_stamp(answer.created_at),
            )
        )
        async with self._database.begin() as connection:
            await connection.execute(change)

    async def forget(self, scope: str) -> None:
        """Let go of a claim."""
        async with self._database.begin() as connection:
            await connection.execute(_answers.delete().where(_answers.c.scope == scope, _answers.c.status == 0))

    async def prune(self, before: datetime) -> int:
        """Remove answers older than `before`; return how many."""
        async with self._database.begin() as connection:
            done = await connection.execute(_answers.delete().where(_answers.c.created_at < _stamp(before)))
        return int(done.rowcount)
