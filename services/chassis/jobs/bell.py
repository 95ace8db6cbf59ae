"""The doorbell of a room's workers: says that there may be work. The job table is the truth; a ring that is lost costs seconds.

Within one process a ring wakes the workers directly. In a cluster callers and workers are other processes: there Celery
carries it, and whoever heard it looks into the table.
"""

from collections.abc import Callable
from typing import Protocol

from services.chassis.errors import InvalidInput
from services.chassis.lifecycle import Lifecycle
from services.chassis.redis_access import RedisAccess, RedisSettings

__all__ = ["Bell", "hang_bell", "open_bell"]


class Bell(Protocol):
    """Carries rings between the processes of one room."""

    def ring(self) -> None:
        """Say that there may be work; returns at once and never fails."""
        ...

    async def run(self) -> None:
        """Hear rings of all processes until cancelled, and wake those that `open_bell` was told of."""
        ...

    async def close(self) -> None:
        """Let go of the broker."""
        ...


def hang_bell(
    url: str, *, settings: RedisSettings, room: str, works: bool, bells: list[Callable[[], None]], life: Lifecycle
) -> None:
    """Join a process of a room to the room's bell: one that works hears it, one that only serves rings it.

    Args:
        url: Broker; see `open_bell`.
        settings: How to come in to the broker.
        room: Whose bell.
        works: Whether workers of the room run in this process.
        bells: What is rung when there may be work; the wakes of this process's own workers are among them or will be.
        life: Takes everything down again.

    Raises:
        InvalidInput: The scheme of `url` is not offered.
    """

    def wake() -> None:
        for bell in bells:
            bell()

    bell = open_bell(RedisAccess.of(url, settings), room=room, wake=wake)
    if bell is None:
        return
    life.on_stop(bell.close, name="bell")
    if works:
        life.spawn(bell.run(), name="bell")
    else:
        bells.append(bell.ring)


def open_bell(access: RedisAccess, *, room: str, wake: Callable[[], None]) -> Bell | None:
    """Return the bell of an address: `local://` (None: callers and workers share a process) or `redis://HOST:PORT/N`.

    Args:
        access: Broker.
        room: Whose bell; each room has one.
        wake: Wakes the workers of this process.

    Raises:
        InvalidInput: The scheme is not offered.
    """
    scheme = access.url.partition("://")[0]
    match scheme:
        case "local":
            return None
        case "redis" | "rediss":
            from services.chassis.jobs.celery import CeleryBell  # noqa: PLC0415  only the chosen back end

            return CeleryBell(access, room=room, wake=wake)
        case _:
            raise InvalidInput(f"jobs_url: {scheme!r} is not offered; use local:// or redis://HOST:PORT/N.")
