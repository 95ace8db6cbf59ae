"""What only the real engine can show: each way of drawing, its own metrics, and what is said of it while it hangs."""

import asyncio
import re
import signal
import time

import psutil
import pytest

from services.chassis.errors import Unavailable
from services.chassis.rpc.client import connect, is_serving
from services.generation.settings import GenerationSettings
from tests.generation_client import GenerationRoom, conversation
from tests.telemetry_pages import DOCS

pytestmark = pytest.mark.engine
QUESTION = "What is the capital of France?"


async def test_every_way_of_drawing_reaches_the_real_engine(engine_room: GenerationRoom) -> None:
    async with engine_room.client() as client:
        greedy, *narrowed = [
            # Where nothing but the likeliest is left, however hot, the answer is the greedy one.
            (await client.ask(conversation(QUESTION), max_tokens=8, **given)).ids()
            for given in (
                {"temperature": 0},
                {"temperature": 2.0, "top_k": 1},
                {"temperature": 2.0, "top_p": 1e-6},
                {"temperature": 2.0, "min_p": 1.0},
            )
        ]
        assert all(ids == greedy for ids in narrowed)
        hot = [(await client.ask(conversation(QUESTION), max_tokens=8, temperature=2.0, seed=n)).ids() for n in (1, 2)]
        assert hot[0] != hot[1]
        story = conversation("Write a story about a fox and the moon.")
        plain, *penalised = await asyncio.gather(
            *(
                client.ask(story, max_tokens=40, temperature=0, **penalty)  # type: ignore[arg-type]
                for penalty in (
                    {},
                    {"frequency_penalty": 2.0},
                    {"presence_penalty": 2.0},
                    {"repetition_penalty": 2.0},
                )
            )
        )
        assert plain.text() not in {answer.text() for answer in penalised}
        found = await client.ask(conversation(QUESTION), max_tokens=8, temperature=0, json_object=True)
        assert found.text().lstrip().startswith("{")


async def test_the_real_engines_own_metrics_are_shown(engine_room: GenerationRoom) -> None:
    shown = engine_room.metrics()
    page = (DOCS / "telemetry" / "generation.md").read_text()
    named = re.findall(r"`(vllm:\w+)`", page)
    assert len(named) >= 3
    assert [name for name in named if f"\n{name}{{" not in shown] == []


def engine_process(room: GenerationRoom) -> psutil.Process:
    return next(it for it in psutil.Process(room.pid).children(recursive=True) if "EngineCore" in it.name())


async def test_an_engine_that_hangs_is_told_and_serves_again_when_it_goes_on(engine_room: GenerationRoom) -> None:
    # Its process is stopped, as a kernel or a driver that does not answer would stop it.
    engine = engine_process(engine_room)
    settings = GenerationSettings.model_fields
    # The span that is configured, and the looks that begin it.
    told_within_s = settings["standstill_timeout_s"].default + settings["probe_every_s"].default
    async with engine_room.client() as client, connect(engine_room.address) as probe:
        stream = client.stream("The sun", max_tokens=1900, ignore_eos=True)
        await anext(stream)
        engine.send_signal(signal.SIGSTOP)
        try:
            # Twice: the machine that runs the tests is slow. Running work is not left waiting either.
            async with asyncio.timeout(2 * told_within_s):
                with pytest.raises(Unavailable, match="no progress"):
                    async for _ in stream:
                        pass
                while await is_serving(probe):
                    await asyncio.sleep(0.2)
            assert engine_room.metric("brain_generation_engine_serving") == 0
        finally:
            engine.send_signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            while not await is_serving(probe):
                await asyncio.sleep(0.2)
        assert (await client.ask("The sun", max_tokens=2)).text()


async def test_a_long_prompt_is_not_taken_for_a_hang(engine_room: GenerationRoom) -> None:
    engine = engine_process(engine_room)
    async with engine_room.client() as client:
        await client.ask("The sun", max_tokens=2)
        # Read at a twentieth of its speed until a single step has lasted longer than its processes may stand still.
        long_s = GenerationSettings.model_fields["standstill_timeout_s"].default + 3
        began = time.monotonic()
        asking = asyncio.create_task(client.ask(" ".join(str(number) for number in range(430)), max_tokens=1))
        while not asking.done() and time.monotonic() - began < long_s:
            engine.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.9)
            engine.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.05)
        assert not asking.done(), "the step must be long"
        assert (await asking).text() is not None
