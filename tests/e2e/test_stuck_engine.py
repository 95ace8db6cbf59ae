"""An engine that hangs: its process is stopped, as a kernel or a driver that does not answer would stop it."""

import asyncio
import signal

import psutil
import pytest

from services.chassis.rpc.client import connect, is_serving
from services.generation.settings import GenerationSettings
from tests.generation_client import GenerationRoom

pytestmark = pytest.mark.engine


async def test_an_engine_that_hangs_is_told_and_serves_again_when_it_goes_on(engine_room: GenerationRoom) -> None:
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
