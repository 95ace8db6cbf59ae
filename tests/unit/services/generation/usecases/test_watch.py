import asyncio
from collections.abc import Callable

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


def watched(options: str, *, timeout_s: float = 0.1) -> tuple[WatchEngine, Admission, list[bool]]:
    metrics = Metrics(CollectorRegistry())
    admission = Admission(limit=2, metrics=metrics)
    states: list[bool] = []

    async def report(serving: bool) -> None:
        states.append(serving)

    engine = ScriptedEngine(ScriptedOptions.from_url(f"scripted://?{options}"), name="scripted")
    watch = WatchEngine(
        engine=engine, admission=admission, report=report, metrics=metrics, every_s=0.01, timeout_s=timeout_s
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
