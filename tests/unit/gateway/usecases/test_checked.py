"""Collections that are asked for are there, and who only asks does not need the room that keeps them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.usecases.checked import KnownCollections
from services.chassis.auth import Caller, acting_as
from services.chassis.errors import NotFound, Unavailable


class Ingestion:
    """Has one collection, and can be away or silent."""

    def __init__(self) -> None:
        self.asked = 0
        self.ids = {"vs_1"}
        self.is_away = self.is_silent = False

    async def get_collection(self, collection_id: str) -> Any:
        self.asked += 1
        if self.is_away:
            raise Unavailable("The ingestion service is not available.", retry_after_s=1)
        if self.is_silent:
            await asyncio.sleep(3600)
        if collection_id not in self.ids:
            raise NotFound("There is no such collection.")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    with acting_as(Caller("ann", "acme"), ""):
        yield


async def test_an_unknown_collection_is_not_found() -> None:
    with pytest.raises(NotFound, match="collections: 'vs_2' was not found"):
        await KnownCollections(ingestion=Ingestion()).check(["vs_1", "vs_2"])  # type: ignore[arg-type]


async def test_what_was_seen_a_moment_ago_is_not_asked_for() -> None:
    ingestion, clock = Ingestion(), Clock()
    known = KnownCollections(ingestion=ingestion, clock=clock)  # type: ignore[arg-type]
    for now in (0, 4, 6):
        clock.now = now
        await known.check(["vs_1"])
    assert ingestion.asked == 2


@pytest.mark.parametrize("how", ["is_away", "is_silent"])
async def test_what_was_there_before_is_asked_also_while_ingestion_is_away(how: str) -> None:
    ingestion, clock = Ingestion(), Clock()
    known = KnownCollections(ingestion=ingestion, clock=clock)  # type: ignore[arg-type]
    await known.check(["vs_1"])
    setattr(ingestion, how, True)
    clock.now = 3600
    async with asyncio.timeout(10):
        await known.check(["vs_1"])
        # Nobody waits for it again and again.
        await known.check(["vs_1"])
    assert ingestion.asked == 2


async def test_what_nobody_has_seen_waits_for_ingestion() -> None:
    ingestion = Ingestion()
    ingestion.is_away = True
    with pytest.raises(Unavailable):
        await KnownCollections(ingestion=ingestion).check(["vs_1"])  # type: ignore[arg-type]


async def test_what_was_deleted_is_known_no_more() -> None:
    ingestion, clock = Ingestion(), Clock()
    known = KnownCollections(ingestion=ingestion, clock=clock)  # type: ignore[arg-type]
    await known.check(["vs_1"])
    ingestion.ids.clear()
    clock.now = 6
    with pytest.raises(NotFound):
        await known.check(["vs_1"])
    ingestion.is_away = True
    with pytest.raises(Unavailable):
        await known.check(["vs_1"])
