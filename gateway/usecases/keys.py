"""API keys: made, listed, rotated and revoked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.domain.identity import ApiKey, KeyGrant, hash_secret, new_secret
from gateway.domain.keeping import Page, Paging
from gateway.ports import Keys
from services.chassis.errors import Conflict, InvalidInput
from services.chassis.ids import new_id

__all__ = ["CreateKey", "KeyUseCases", "ListKeys", "RevokeKey", "RotateKey"]

# More than one gateway answers.
_MAX_LIMIT: Final = 1_000_000
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def _now() -> datetime:
    return datetime.now(UTC)


class CreateKey:
    """Makes a key; its secret is handed out once and never again."""

    def __init__(self, *, keys: Keys, pepper: bytes, now: Callable[[], datetime] = _now) -> None:
        self._keys = keys
        self._pepper = pepper
        self._now = now

    async def __call__(self, grant: KeyGrant) -> tuple[ApiKey, str]:
        """Return the key and its secret.

        Raises:
            InvalidInput: The grant names no tenant, subject or role, or has expired already.
        """
        for param, value in (("tenant", grant.tenant), ("subject", grant.subject)):
            if not value.strip() or len(value) > 128:
                raise InvalidInput(f"{param}: {value!r} is not allowed; give 1 to 128 characters.", param=param)
        if not grant.roles:
            raise InvalidInput("roles: give at least one role.", param="roles")
        for param, limit in (
            ("requests_per_minute", grant.requests_per_minute),
            ("max_concurrent", grant.max_concurrent),
        ):
            if limit is not None and not 1 <= limit <= _MAX_LIMIT:
                raise InvalidInput(f"{param}: {limit} is not allowed; give 1 to {_MAX_LIMIT:,}.", param=param)
        now = self._now()
        if grant.expires_at is not None and grant.expires_at <= now:
            raise InvalidInput("expires_at: the time lies in the past.", param="expires_at")
        secret, hint = new_secret()
        key = ApiKey(id=new_id("key_"), grant=grant, hint=hint, created_at=now)
        await self._keys.add(key, hash_secret(secret, self._pepper))
        return key, secret


class RevokeKey:
    """Ends a key at once."""

    def __init__(self, *, keys: Keys, forget: Callable[[str], None], now: Callable[[], datetime] = _now) -> None:
        self._keys = keys
        self._forget = forget
        self._now = now

    async def __call__(self, tenant: str, key_id: str) -> ApiKey:
        """Return the key as it stands.

        Raises:
            NotFound: The tenant has no such key.
        """
        key = await self._keys.end(tenant, key_id, self._now())
        self._forget(key_id)
        return key


class RotateKey:
    """Makes a key of the same grant and lets the old one live on for a while, so that nothing breaks meanwhile."""

    def __init__(
        self, *, keys: Keys, create: CreateKey, forget: Callable[[str], None], now: Callable[[], datetime] = _now
    ) -> None:
        self._keys = keys
        self._create = create
        self._forget = forget
        self._now = now

    async def __call__(self, tenant: str, key_id: str, *, overlap: timedelta = timedelta(0)) -> tuple[ApiKey, str]:
        """Return the new key and its secret; the old one ends after `overlap`.

        Raises:
            NotFound: The tenant has no such key.
            Conflict: It has ended already.
        """
        now = self._now()
        old = await self._keys.get(tenant, key_id)
        if not old.is_good(now):
            raise Conflict(f"The key {key_id!r} has ended already; create a new one.", param="key_id")
        # A lifetime is carried over as a length, not as a date: a rotation renews it.
        expires_at = old.grant.expires_at
        if expires_at is not None:
            expires_at = now + min(expires_at - old.created_at, _LAST - now)
        made = await self._create(replace(old.grant, expires_at=expires_at))
        await self._keys.end(tenant, key_id, now + overlap)
        self._forget(key_id)
        return made


class ListKeys:
    """Shows a tenant's keys, without their secrets."""

    def __init__(self, *, keys: Keys) -> None:
        self._keys = keys

    async def __call__(self, tenant: str, paging: Paging) -> Page[ApiKey]:
        """Return a stretch of the keys, newest first unless told otherwise."""
        return await self._keys.list(tenant, paging)

    async def tenants(self) -> Sequence[str]:
        """Return the tenants that have keys."""
        return await self._keys.tenants()


@dataclass(frozen=True, slots=True)
class KeyUseCases:
    """What can be done with keys."""

    create: CreateKey
    revoke: RevokeKey
    rotate: RotateKey
    list: ListKeys
