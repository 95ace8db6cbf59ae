"""Requests with an `Idempotency-Key`: the same request twice is done once and answered twice."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from gateway.domain.identity import StoredAnswer
from gateway.ports import Answers
from services.chassis.errors import Conflict, InvalidInput

__all__ = ["AnswerOnce"]

# As long as the longest request may take: an older claim was left by a crash.
_STALE = timedelta(minutes=15)
KEPT = timedelta(hours=24)
_MAX_KEY_CHARACTERS = 255


class AnswerOnce:
    """Remembers answers for a day."""

    def __init__(self, *, answers: Answers, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._answers = answers
        self._now = now

    async def begin(self, scope: str, key: str) -> StoredAnswer | None:
        """Claim `key` within `scope` (caller and route); return the answer when there is one already.

        Raises:
            InvalidInput: The key is longer than 255 characters.
            Conflict: The same request is being answered at the moment.
        """
        if len(key) > _MAX_KEY_CHARACTERS:
            raise InvalidInput(
                f"Idempotency-Key: {len(key)} characters; at most {_MAX_KEY_CHARACTERS} are allowed.",
                param="Idempotency-Key",
            )
        now = self._now()
        known = await self._answers.begin(f"{scope} {key}", now, stale_before=now - _STALE)
        if known is not None and known.status == 0:
            raise Conflict(
                "A request with this Idempotency-Key is being answered; try again when it is.", param="Idempotency-Key"
            )
        return known

    def checked(self, known: StoredAnswer, digest: str) -> bytes:
        """Return the body of a known answer.

        Raises:
            Conflict: The request differs from the first one, or its answer held a secret and is not kept.
        """
        if known.digest != digest:
            raise Conflict(
                "This Idempotency-Key was used with a different request; use a new key.", param="Idempotency-Key"
            )
        if known.body is None:
            raise Conflict(
                "This request was answered; the answer held a secret and is not kept.", param="Idempotency-Key"
            )
        return known.body

    async def finish(
        self, scope: str, key: str, *, digest: str, status: int, media_type: str, body: bytes | None
    ) -> None:
        """Keep an answer."""
        answer = StoredAnswer(digest=digest, status=status, media_type=media_type, body=body, created_at=self._now())
        await self._answers.finish(f"{scope} {key}", answer)

    async def forget(self, scope: str, key: str) -> None:
        """Let go of a claim whose request failed."""
        await self._answers.forget(f"{scope} {key}")

    async def prune(self) -> int:
        """Remove what is older than a day."""
        return await self._answers.prune(self._now() - KEPT)
