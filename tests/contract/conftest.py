"""A room with each engine, and somebody who announces adapters to it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.chassis.auth import Role
from tests.adapter_announcer import Announcer
from tests.generation_client import Client, GenerationRoom, running_generation
from tests.served_adapters import announcing, listed, write_strong


@pytest.fixture(scope="package")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenerationRoom]:
    url = "scripted://?mode=echo&base_digest=aaaa&template_hash=bbbb"
    with running_generation(tmp_path_factory.mktemp("generation"), url) as room:
        yield room


@pytest.fixture(params=["scripted", pytest.param("vllm", marks=pytest.mark.engine)])
def room(request: pytest.FixtureRequest) -> GenerationRoom:
    fixture = {"scripted": "scripted", "vllm": "engine_room"}[request.param]
    return request.getfixturevalue(fixture)  # type: ignore[no-any-return]


@pytest.fixture
async def client(room: GenerationRoom) -> AsyncIterator[Client]:
    async with room.client() as client:
        yield client


@pytest.fixture
async def announce(room: GenerationRoom) -> AsyncIterator[Announcer]:
    async with announcing(room) as announcer, room.client(role=Role.ADMINISTRATOR) as client:
        yield announcer
        # The room is others' afterwards.
        await announcer.clear()
        for name in announcer.adapters:
            await listed(client, name, there=False)


@pytest.fixture
def strong(tmp_path: Path) -> Path:
    return write_strong(tmp_path / "strong")
