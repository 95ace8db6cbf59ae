"""The real engine killed and frozen in the middle of streams: every reader is told, and nobody is sent there meanwhile."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import pytest

from services.chassis.rpc.client import connect, is_serving
from tests.faults.audience import Audience, Ending, Heard
from tests.faults.results import over, record
from tests.faults.sizes import size
from tests.running_stack import RunningStack, running_stack

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

# At once, and how often.
STREAMS, TIMES = 10, size(ci=2, release=10)
# Without the watch on its processes a frozen engine's readers were told after two minutes.
_LONGEST_SILENCE_S = 60.0
_BODY = {
    "model": "default",
    # Longer than it takes to have everybody in the middle of an answer.
    "max_completion_tokens": 400,
    "ignore_eos": True,
    "messages": [{"role": "user", "content": "Count from one to one thousand in words."}],
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("stuck"), engine="vllm://") as stack:
        yield stack


def engine_process(stack: RunningStack) -> psutil.Process:
    family = psutil.Process(stack.pid("generation")).children(recursive=True)
    return next(one for one in family if "EngineCore" in one.name())


def serves(stack: RunningStack) -> bool:
    async def asked() -> bool:
        async with connect(stack.address("generation")) as channel:
            return await is_serving(channel)

    return asyncio.run(asked())


@dataclass(frozen=True)
class Told:
    """What a reader heard, and when."""

    heard: Heard
    at: float


@contextmanager
def reading(stack: RunningStack, key: str) -> Iterator[Callable[[], list[Told]]]:
    """Have everybody in the middle of an answer; yields what waits for all of them."""
    people = Audience()

    def listen(_number: int) -> Told:
        with stack.client(key) as client:
            return Told(people.listen(client, "count", _BODY), time.monotonic())

    with ThreadPoolExecutor(STREAMS) as threads:
        streams = [threads.submit(listen, number) for number in range(STREAMS)]
        stack.wait_until(lambda: people.reading == STREAMS or any(one.done() for one in streams))
        assert people.reading == STREAMS, [one.result() for one in streams if one.done()]
        yield lambda: [one.result() for one in streams]


def assert_serves_again(stack: RunningStack, key: str) -> None:
    stack.wait_until(lambda: serves(stack), timeout_s=60)
    with stack.client(key) as client:
        body = _BODY | {"max_completion_tokens": 4}
        # Callers look for a room that was away once a second; until then they say that it is away.
        stack.wait_until(lambda: client.post("/v1/chat/completions", json=body).is_success, timeout_s=60)
    stack.wait_until(lambda: stack.metric("generation", "brain_generation_inflight_requests") == 0)


def test_readers_of_a_frozen_engine_are_told(house: RunningStack) -> None:
    key = house.key("rita")
    told_s: list[float] = []
    not_serving_s: list[float] = []
    for _ in range(TIMES):
        with reading(house, key) as results:
            engine = engine_process(house)
            engine.send_signal(signal.SIGSTOP)
            try:
                frozen_at = time.monotonic()
                house.wait_until(lambda: not serves(house))
                not_serving_s.append(time.monotonic() - frozen_at)
                told = results()
            finally:
                engine.send_signal(signal.SIGCONT)
        assert {one.heard.ending for one in told} == {Ending.ERROR}, told
        told_s += [one.at - frozen_at for one in told]
        assert max(told_s) < _LONGEST_SILENCE_S
        assert house.state["rooms"]["generation"]["restarts"] == 0, "it was frozen, not dead"
        assert_serves_again(house, key)
    record(
        "engine frozen mid-stream",
        held="every stream ended with an error event, NOT_SERVING, serves again afterwards",
        streams=len(told_s),
        freezes=TIMES,
        **over("told_after", told_s),
        **over("not_serving_after", not_serving_s),
    )


def test_readers_of_a_killed_engine_are_told(house: RunningStack) -> None:
    key = house.key("kai")
    told_s: list[float] = []
    back_s: list[float] = []
    for _ in range(TIMES):
        before = house.state["rooms"]["generation"]["restarts"]
        with reading(house, key) as results:
            os.kill(engine_process(house).pid, signal.SIGKILL)
            killed_at = time.monotonic()
            told = results()
        assert {one.heard.ending for one in told} == {Ending.ERROR}, told
        told_s += [one.at - killed_at for one in told]
        assert max(told_s) < _LONGEST_SILENCE_S
        house.wait_until(
            lambda seen=before: house.state["rooms"]["generation"]["restarts"] > seen and house.ready,  # type: ignore[misc]
            timeout_s=420,
        )
        back_s.append(time.monotonic() - killed_at)
        assert_serves_again(house, key)
    record(
        "engine killed mid-stream",
        held="every stream ended with an error event, the room started its engine anew",
        streams=len(told_s),
        kills=TIMES,
        **over("told_after", told_s),
        **over("serves_again_after", back_s),
    )
