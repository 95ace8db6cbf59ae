"""Small documents that are told apart by a number, offered to a stack whose rooms die."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from tests.faults.index_rows import places
from tests.running_stack import RunningStack

_PURPOSES = ("rain", "wind", "light", "noise", "salt", "pressure", "heat", "depth", "ozone", "dust", "frost", "current")
_PLACES = (
    "in the harbour", "under the bridge", "on the roof", "behind the mill", "at the airport", "in the vineyard",
    "along the railway", "above the glacier", "inside the reactor", "near the lighthouse",
)  # fmt: skip
_PARTS = (
    "brass",
    "glass",
    "quartz",
    "copper",
    "oak",
    "ceramic",
    "rubber",
    "steel",
    "silk",
    "graphite",
    "cork",
    "amber",
)
# Uploads at once.
_HANDS = 2


def text(number: int) -> str:
    chance = random.Random(number)
    # What tells it from others of its mould: the order in which a search finds them hangs on no rounding.
    purpose, place, parts = chance.choice(_PURPOSES), chance.choice(_PLACES), chance.sample(_PARTS, 4)
    return (
        f"# Instrument {number}\n\nThe instrument called Fern-{number:04d} weighs {number + 100} grams. "
        f"It was built by team {number % 7} and is calibrated every {number % 11 + 2} months. "
        f"It measures {purpose} {place} and is made of {', '.join(parts[:-1])} and {parts[-1]}.\n"
    )


def offer(client: httpx.Client, collection: str, number: int) -> str:
    """Upload until it is acknowledged, as a patient client does, and return its id; the key makes the retry harmless."""
    until = time.monotonic() + 240
    while True:
        try:
            answer = client.post(
                "/brain/v1/documents",
                params={"collection": collection, "filename": f"fern-{number}.md", "key": f"fern-{number}"},
                content=text(number).encode(),
                timeout=30,
            )
            if answer.is_success:
                return str(answer.json()["document"]["id"])
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, f"document {number} was never accepted"
        time.sleep(0.3)


@contextmanager
def flowing_in(stack: RunningStack, key: str, collection: str, numbers: Sequence[int]) -> Iterator[list[int]]:
    """Offer documents while the block runs, and at its end until all are kept; yields those that were acknowledged."""
    acknowledged: list[int] = []

    def offer_some(first: int) -> None:
        with stack.client(key) as mine:
            for number in numbers[first::_HANDS]:
                offer(mine, collection, number)
                acknowledged.append(number)
                time.sleep(0.15)

    threads = [threading.Thread(target=offer_some, args=(first,)) for first in range(_HANDS)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        for thread in threads:
            thread.join()
    assert sorted(acknowledged) == sorted(numbers)


def reachable(client: httpx.Client, collection: str) -> bool:
    try:
        return client.get(f"/v1/vector_stores/{collection}").is_success
    except httpx.TransportError:
        return False


def assert_found_once(client: httpx.Client, collection: str, number: int) -> None:
    hits = client.post(
        f"/v1/vector_stores/{collection}/search",
        json={"query": f"How heavy is Fern-{number:04d}?", "max_num_results": 50},
    ).json()["data"]
    mine = [hit for hit in hits if hit["filename"] == f"fern-{number}.md"]
    assert len(mine) == 1, f"document {number} is there {len(mine)} times"
    assert f"{number + 100} grams" in mine[0]["content"][0]["text"]


def assert_rows_once(stack: RunningStack, collection: str, documents: int) -> None:
    """Look behind the search, which might hide a row that is there twice."""
    rows = places(stack.environment, stack.state_dir, collection)
    assert len(rows) == len(set(rows)) == len({row.document_id for row in rows}) == documents
