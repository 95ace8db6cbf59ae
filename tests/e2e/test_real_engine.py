"""What only the real engine can show: each way of drawing, its own metrics, and what is said of it while it hangs."""

import asyncio
import re
import signal

import psutil
import pytest

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


async def test_an_engine_that_hangs_is_told_and_serves_again_when_it_goes_on(engine_room: GenerationRoom) -> None:
    # Its process is stopped, as a kernel or a driver that does not answer would stop it.
    engine = next(it for it in psutil.Process(engine_room.pid).children(recursive=True) if "EngineCore" in it.name())
    settings = GenerationSettings.model_fields
    # The span that is configured, and the look that begins it.
    told_within_s = settings["probe_timeout_s"].default + settings["probe_every_s"].default
    async with engine_room.client() as client, connect(engine_room.address) as probe:
        stream = client.stream("The sun", max_tokens=1900, ignore_eos=True)
        await anext(stream)
        engine.send_signal(signal.SIGSTOP)
        try:
            # Twice: the machine that runs the tests is slow.
            async with asyncio.timeout(2 * told_within_s):
                while await is_serving(probe):
                    await asyncio.sleep(0.2)
            assert engine_room.metric("brain_generation_engine_serving") == 0
        finally:
            engine.send_signal(signal.SIGCONT)
        # What was running goes on.
        assert (await anext(stream)).token_ids
        await stream.aclose()
        async with asyncio.timeout(60):
            while not await is_serving(probe):
                await asyncio.sleep(0.2)
        assert (await client.ask("The sun", max_tokens=2)).text()
