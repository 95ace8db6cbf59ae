"""Knowing who asks: an API key, looked up once in a while rather than on every request."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from gateway.domain.identity import ApiKey, hash_secret
from gateway.ports import Keys
from services.chassis.auth import Caller, TokenMinter
from services.chassis.errors import Unauthenticated

__all__ = ["Authenticate", "InternalTokens"]

# A key that was revoked in another process still opens this one for so long.
_TRUST_S = 5.0
_MAX_KNOWN = 10_000


class Authenticate:
    """Turns the `Authorization` header into a key.

    Args:
        keys: Where keys are kept.
        pepper: What secrets are hashed with.
        clock: Seconds that only grow.
        now: The time of day.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        pepper: bytes,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._pepper = pepper
        self._clock = clock
        self._now = now
        self._known: dict[str, tuple[float, ApiKey]] = {}

    async def __call__(self, authorization: str) -> ApiKey:
        """Return the key that the header carries.

        Raises:
            Unauthenticated: No key, an unknown one, or one that has ended.
        """
        scheme, _, secret = authorization.partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise Unauthenticated("No API key: send the header 'Authorization: Bearer <key>'.")
        key = await self._find(hash_secret(secret, self._pepper))
        if key is None or not key.is_good(self._now()):
            raise Unauthenticated("The API key is unknown, expired or revoked.")
        return key

    def forget(self, key_id: str) -> None:
        """Look a key up again before it opens anything."""
        for digest in [digest for digest, (_, key) in self._known.items() if key.id == key_id]:
            del self._known[digest]

    async def _find(self, digest: str) -> ApiKey | None:
        known = self._known.get(digest)
        if known is not None and self._clock() - known[0] < _TRUST_S:
            return known[1]
        key = await self._keys.find(digest)
        self._known.pop(digest, None)
        if key is not None:
            if len(self._known) >= _MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[digest] = (self._clock(), key)
        return key


class InternalTokens:
    """Hands out internal tokens for callers; one signature serves a caller for a while.

    Args:
        minter: Signs.
        reuse_s: How long a token is handed out again; much shorter than its lifetime.
        clock: Seconds that only grow.
    """

    def __init__(
        self, *, minter: TokenMinter, reuse_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._minter = minter
        self._reuse_s = reuse_s
        self._clock = clock
        self._minted: dict[Caller, tuple[float, str]] = {}

    def token(self, caller: Caller) -> str:
        """Return a token that carries `caller`."""
        now = self._clock()
        minted = self._minted.get(caller)
        if minted is not None and now - minted[0] < self._reuse_s:
            return minted[1]
        if len(self._minted) >= _MAX_KNOWN:
            self._minted.clear()
        token = self._minter.mint(caller)
        self._minted[caller] = (now, token)
        return token
