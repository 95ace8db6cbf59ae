"""Watches that the engine makes progress."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from services.generation.ports import Engine
from services.generation.telemetry import Metrics
from services.generation.usecases.admission import Admission

__all__ = ["WatchEngine"]

_log = structlog.get_logger()
# Running work is given up after so many times the span after which no new work is taken.
_PATIENCE = 5


class WatchEngine:
    """Says whether the engine serves: one that accepts work and makes no progress does not.

    While steps are made nothing else is asked of the engine. When none were made since the last look, it is given one
    small piece of work; if nothing at all moves within `timeout_s` it counts as stuck, and the probe is left standing: when
    it is answered the engine serves again. Running work may be saved by that; it is ended when the engine stays stuck.

    Args:
        engine: What is watched.
        admission: Holds the running work.
        report: Called with each change of state.
        metrics: Shows the state.
        every_s: Seconds between two looks.
        timeout_s: Seconds without progress after which the engine counts as stuck.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        admission: Admission,
        report: Callable[[bool], Awaitable[None]],
        metrics: Metrics,
        every_s: float,
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._report = report
        self._metrics = metrics
        self._every_s = every_s
        self._timeout_s = timeout_s

    async def run(self) -> None:
        """Watch for ever.

        Raises:
            Unavailable: The engine died; the process should end, so that it is started again.
        """
        seen, moved_at, serving = -1, time.monotonic(), False
        probe: asyncio.Task[None] | None = None
        try:
            while True:
                self._engine.check()
                steps = self._engine.steps
                if probe is not None and probe.done():
                    probe.result()
                    probe, moved_at = None, time.monotonic()
                if steps != seen:
                    seen, moved_at = steps, time.monotonic()
                elif probe is None:
                    probe = asyncio.create_task(self._engine.probe(), name="engine-probe")
                alive = time.monotonic() - moved_at < self._timeout_s
                if alive != serving:
                    serving = alive
                    self._metrics.serving.set(serving)
                    (_log.info if serving else _log.error)("engine_state", serving=serving)
                    await self._report(serving)
                if time.monotonic() - moved_at > self._timeout_s * _PATIENCE:
                    self._admission.abandon()
                await asyncio.sleep(min(1.0, self._every_s) if probe else self._every_s)
        finally:
            if probe is not None:
                probe.cancel()
