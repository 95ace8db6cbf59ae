import asyncio
import itertools
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry

from services.chassis.errors import Overloaded, Unavailable
from services.generation.backends.scripted import ScriptedEngine, ScriptedOptions
from services.generation.telemetry import Metrics
from services.generation.usecases import Admission, WatchEngine


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


class Processes(ScriptedEngine):
    """An engine that has processes, and has taken so much processor time at each look."""

    def __init__(self, options: str, spent_s: Iterable[float]) -> None:
        super().__init__(ScriptedOptions.from_url(f"scripted://?{options}"), name="scripted")
        self.spent_s = iter(spent_s)

    def processor_s(self) -> float:  # type: ignore[override]
        return next(self.spent_s)


def watched(
    options: str, *, timeout_s: float = 0.1, spent_s: Iterable[float] | None = None
) -> tuple[WatchEngine, Admission, list[bool]]:
    metrics = Metrics(CollectorRegistry())
    admission = Admission(limit=2, metrics=metrics)
    states: list[bool] = []

    async def report(serving: bool) -> None:
        states.append(serving)

    engine = (
        Processes(options, spent_s)
        if spent_s
        else ScriptedEngine(ScriptedOptions.from_url(f"scripted://?{options}"), name="scripted")
    )
    watch = WatchEngine(
        engine=engine,
        admission=admission,
        report=report,
        metrics=metrics,
        every_s=0.01,
        timeout_s=timeout_s,
        standstill_s=0.05,
    )
    return watch, admission, states


async def test_an_idle_engine_serves() -> None:
    # Longer than a busy machine lets the test itself wait.
    watch, _, states = watched("mode=echo", timeout_s=1.5)
    task = asyncio.create_task(watch.run())
    await until(lambda: bool(states))
    await asyncio.sleep(2)
    assert states == [True]
    task.cancel()


async def test_an_engine_that_stops_making_steps_is_reported_and_its_work_ended() -> None:
    watch, admission, states = watched("mode=echo&stall_after=3")
    task = asyncio.create_task(watch.run())
    await until(lambda: bool(states))
    with pytest.raises(Unavailable, match="no progress"):
        async with admission.admitted(1):
            await asyncio.Event().wait()
    assert states == [True, False]
    assert admission.inflight == 0
    task.cancel()


async def test_an_engine_whose_processes_stand_still_is_not_waited_for() -> None:
    watch, admission, states = watched("mode=echo&stall_after=3", timeout_s=10_000, spent_s=itertools.repeat(7.5))
    task = asyncio.create_task(watch.run())
    await until(lambda: bool(states))
    with pytest.raises(Unavailable, match="no progress"):
        async with asyncio.timeout(20), admission.admitted(1):
            await asyncio.Event().wait()
    assert states == [True, False]
    task.cancel()


async def test_a_long_step_on_a_slow_machine_is_waited_for() -> None:
    looks = itertools.count()
    watch, admission, states = watched("mode=echo&stall_after=3", timeout_s=10_000, spent_s=(0.01 * it for it in looks))
    task = asyncio.create_task(watch.run())
    async with asyncio.timeout(20), admission.admitted(1):
        # Many times as long as processes may stand still.
        await until(lambda: next(looks) > 100)
    assert states == [True]
    task.cancel()


async def test_an_engine_that_stood_still_serves_again_when_it_has_answered() -> None:
    engine_waits = asyncio.Event()

    class Thawing(Processes):
        async def _pace(self) -> None:
            if self.steps >= 3:
                await engine_waits.wait()
            await super()._pace()

    metrics = Metrics(CollectorRegistry())
    states: list[bool] = []

    async def report(serving: bool) -> None:
        states.append(serving)

    spent = itertools.chain(itertools.repeat(7.5, 40), itertools.count(8))
    watch = WatchEngine(
        engine=Thawing("mode=echo", spent),
        admission=Admission(limit=2, metrics=metrics),
        report=report,
        metrics=metrics,
        every_s=0.01,
        timeout_s=10_000,
        standstill_s=0.05,
    )
    task = asyncio.create_task(watch.run())
    await until(lambda: states == [True, False])
    # Its processes move again, but nothing comes of it yet.
    await asyncio.sleep(0.6)
    assert states == [True, False]
    engine_waits.set()
    await until(lambda: states == [True, False, True])
    task.cancel()


async def test_a_dead_engine_ends_the_watch() -> None:
    watch, _, _ = watched("mode=echo&die_after=2")
    with pytest.raises(Unavailable, match="died"):
        async with asyncio.timeout(20):
            await watch.run()


async def test_places_are_given_back() -> None:
    _, admission, _ = watched("mode=echo")
    async with admission.admitted(2):
        with pytest.raises(Overloaded) as caught:
            async with admission.admitted(1):
                pytest.fail("There was no place.")
        assert caught.value.retry_after_s
    async with admission.admitted(2):
        assert admission.inflight == 2
