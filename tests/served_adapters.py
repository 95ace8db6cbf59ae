"""What tests of announced adapters ask of a room, whichever engine it has."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from brain.generation.v1 import model_pb2
from services.chassis.blobs import open_blobs
from services.chassis.errors import BrainError, Conflict, NotFound
from services.chassis.events.log import open_event_log
from tests.adapter_announcer import Announcer
from tests.generation_client import Answer, Client, GenerationRoom, conversation
from tests.tiny_adapter import write_adapter

QUESTION = conversation("What is the capital of France?")
# A room that runs already may have heard of the same names in a run before.
RUN = uuid.uuid4().hex[:8]


@asynccontextmanager
async def announcing(room: GenerationRoom) -> AsyncIterator[Announcer]:
    log = open_event_log(f"sqlite:///{room.state_dir / 'events.db'}")
    try:
        yield Announcer(log, open_blobs(f"file://{room.state_dir / 'blobs'}"))
    finally:
        await log.close()


def write_strong(folder: Path, *, rank: int = 4) -> Path:
    """Write an adapter whose answers nobody takes for the base model's."""
    config = {"lora_alpha": 400, "target_modules": ["down_proj"]}
    return write_adapter(folder, rank=rank, config=config, layer="layers.15.mlp.down_proj", inner=1536)


async def base(client: Client) -> model_pb2.Model:
    return (await client.list())[0]


async def on_base(client: Client) -> dict[str, Any]:
    """What an announcement says of the base model when it fits."""
    model = await base(client)
    return {"base_model": model.name, "base_digest": model.base_digest, "template_hash": model.template_hash}


async def listed(client: Client, name: str, *, there: bool = True) -> None:
    async with asyncio.timeout(60):
        while (name in [model.name for model in await client.list()]) is not there:
            await asyncio.sleep(0.05)


async def ask(client: Client, model: str = "", **more: object) -> Answer:
    return await client.ask(QUESTION, model=model, **({"temperature": 0, "max_tokens": 10} | more))


async def told(client: Client, name: str, what: str) -> None:
    """Wait until an announcement has arrived, then see that it is refused for good."""
    async with asyncio.timeout(120):
        while (answer := await outcome(client, name)) is NotFound:
            await asyncio.sleep(0.05)
    assert answer is Conflict, what


async def outcome(client: Client, name: str) -> type[BrainError] | None:
    try:
        await ask(client, name, max_tokens=1)
    except BrainError as error:
        return type(error)
    return None
