"""Who asks: API keys, what they are good for, and what is written down about their use."""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from services.chassis.auth import Caller, Role

__all__ = ["ApiKey", "AuditEntry", "KeyGrant", "Spent", "StoredAnswer", "hash_secret", "new_secret"]

# Lets scanners of leaked credentials, and people, recognise a key.
_PREFIX: Final = "cb-"
_SHOWN_CHARACTERS: Final = 7


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """What a key is to be good for. None takes the gateway's default limit; `expires_at` None is never."""

    tenant: str
    subject: str
    roles: frozenset[Role]
    groups: frozenset[str] = frozenset()
    name: str = ""
    expires_at: datetime | None = None
    requests_per_minute: int | None = None
    max_concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept: never the secret itself; `hint` is its first characters.

    `revoked_at` may lie ahead: a rotated key lives on until then.
    """

    id: str
    grant: KeyGrant
    hint: str
    created_at: datetime
    revoked_at: datetime | None = None

    @property
    def caller(self) -> Caller:
        """Who the key speaks for."""
        grant = self.grant
        return Caller(subject=grant.subject, tenant=grant.tenant, groups=grant.groups, roles=grant.roles)

    def is_good(self, now: datetime) -> bool:
        """Return whether the key opens anything at `now`."""
        return all(end is None or now < end for end in (self.revoked_at, self.grant.expires_at))


def new_secret(random: Callable[[int], str] = secrets.token_urlsafe) -> tuple[str, str]:
    """Return a fresh secret of 256 random bits, and the hint by which people know it again."""
    secret = _PREFIX + random(32)
    return secret, secret[: len(_PREFIX) + _SHOWN_CHARACTERS] + "…"


def hash_secret(secret: str, pepper: bytes) -> str:
    """Return what is kept of a secret: HMAC-SHA256 under a key that is not in the database."""
    return hmac.new(pepper, secret.encode(), sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Spent:
    """What one request used."""

    tenant: str
    key_id: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    requests: int = 1


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to which thing, and how it ended. Never content."""

    at: datetime
    request_id: str
    tenant: str
    subject: str
    key_id: str
    action: str
    object_id: str
    status: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request with an `Idempotency-Key` was answered; `status` 0 while it is being answered.

    `digest` is of the request's content. A body of None is not kept (it held a secret).
    """

    digest: str
    status: int
    media_type: str
    body: bytes | None
    created_at: datetime
