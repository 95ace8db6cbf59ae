"""Watches that the engine makes progress."""

import asyncio
import math
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
# Between two looks while something is asked of the engine: its readers wait for what is seen then.
_LOOK_S = 1.0


class WatchEngine:
    """Says whether the engine serves: one that accepts work and makes no progress does not.

    While steps are made nothing else is asked of the engine. When none were made since the last look, it is given one
    small piece of work. Then there are two ways to tell that it is stuck:

    - nothing at all moves within `timeout_s`. A slow machine may take nearly as long over one step, so running work is
      spared: it is ended when the engine stays stuck five times as long;
    - its processes take no processor time for `standstill_s`, which the slowest step does not look like. Whatever holds
      them (a stopped process, a lost disk), running work is ended at once.

    The probe is left standing: when it is answered the engine serves again.

    Args:
        engine: What is watched.
        admission: Holds the running work.
        report: Called with each change of state.
        metrics: Shows the state.
        every_s: Seconds between two looks.
        timeout_s: Seconds without progress after which the engine counts as stuck.
        standstill_s: Seconds after which it does when its processes take no processor time either.
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
        standstill_s: float,
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._report = report
        self._metrics = metrics
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._look_s = min(_LOOK_S, every_s)
        # Counted in looks: where this process was held up as well, no time was given to the engine.
        self._most_still_looks = math.ceil(standstill_s / self._look_s)
        self._still_looks = 0
        self._processor_s: float | None = None

    async def run(self) -> None:
        """Watch for ever.

        Raises:
            Unavailable: The engine died; the process should end, so that it is started again.
        """
        seen, moved_at, serving = -1, time.monotonic(), False
        stands_still = False
        probe: asyncio.Task[None] | None = None
        try:
            while True:
                self._engine.check()
                steps = self._engine.steps
                if probe is not None and probe.done():
                    probe.result()
                    probe, moved_at, stands_still = None, time.monotonic(), False
                if steps != seen:
                    seen, moved_at, stands_still = steps, time.monotonic(), False
                elif probe is None:
                    probe = asyncio.create_task(self._engine.probe(), name="engine-probe")
                stands_still = self._look_at_processes(asked=probe is not None) or stands_still
                alive = time.monotonic() - moved_at < self._timeout_s and not stands_still
                if alive != serving:
                    serving = alive
                    self._metrics.serving.set(serving)
                    (_log.info if serving else _log.error)("engine_state", serving=serving, stands_still=stands_still)
                    await self._report(serving)
                if stands_still or time.monotonic() - moved_at > self._timeout_s * _PATIENCE:
                    self._admission.abandon()
                await asyncio.sleep(self._look_s if probe or self._admission.inflight else self._every_s)
        finally:
            if probe is not None:
                probe.cancel()

    def _look_at_processes(self, *, asked: bool) -> bool:
        """Return whether the engine's processes, which were asked for something, have done nothing at all for too long."""
        processor_s = self._engine.processor_s() if asked else None
        if processor_s is None or processor_s != self._processor_s:
            self._processor_s, self._still_looks = processor_s, 0
        else:
            self._still_looks += 1
        return self._still_looks >= self._most_still_looks
