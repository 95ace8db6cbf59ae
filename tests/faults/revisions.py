"""Documents of several chunks that are replaced while rooms die, and a reader who sees that none is ever half there."""

import json
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.running_stack import RunningStack

__all__ = ["Looks", "assert_newest_only", "offer_revision", "pages_of", "replaced", "watched"]

# Small enough that each page of a document is a chunk of its own.
_CHUNK_TOKENS = 100
_PAGE = re.compile(r"Larch-(\d+), revision (\d+), page (\d+) of (\d+)\.")
_FILLER = (
    "The gauge hangs left of the door and is read at noon by whoever has the shift; the figure goes into the green book, "
    "with the name of the reader and the weather, and is compared with the figure of the day before. Whatever differs by more "
    "than a tenth is read again by somebody else."
)


def pages_of(revision: int) -> int:
    """Return how many pages a revision has: those beside each other differ."""
    return 3 + revision % 3


def _text(number: int, revision: int) -> str:
    pages = pages_of(revision)
    return f"# Log of Larch-{number}\n\n" + "".join(
        f"## Station {revision * 10 + page}\n\nLarch-{number}, revision {revision}, page {page} of {pages}. {_FILLER}\n\n"
        for page in range(1, pages + 1)
    )


def offer_revision(client: httpx.Client, collection: str, number: int, revision: int) -> None:
    """Upload until it is acknowledged."""
    query: dict[str, str | int] = {
        "collection": collection,
        "filename": f"larch-{number}.md",
        "key": f"larch-{number}",
        "attributes": json.dumps({"larch": number}),
        "chunk_tokens": _CHUNK_TOKENS,
        "chunk_overlap_tokens": 0,
    }
    until = time.monotonic() + 240
    while True:
        try:
            content = _text(number, revision).encode()
            if client.post("/brain/v1/documents", params=query, content=content, timeout=30).is_success:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, f"revision {revision} of document {number} was never accepted"
        time.sleep(0.3)


@contextmanager
def replaced(
    stack: RunningStack, key: str, collection: str, numbers: Sequence[int], *, revisions: int, pause_s: float
) -> Iterator[list[tuple[int, int]]]:
    """Bring documents and replace each again and again while the block runs, and at its end until all is kept.

    Yields the numbers and revisions that were acknowledged.

    Args:
        stack: Where.
        key: API key of who brings them.
        collection: Where to.
        numbers: Which documents.
        revisions: How many of each.
        pause_s: Between two uploads.
    """
    accepted: list[tuple[int, int]] = []

    def bring() -> None:
        with stack.client(key) as client:
            # One after the other: a revision that came after a newer one would be the newest.
            for revision in range(1, revisions + 1):
                for number in numbers:
                    offer_revision(client, collection, number, revision)
                    accepted.append((number, revision))
                    time.sleep(pause_s)

    thread = threading.Thread(target=bring)
    thread.start()
    try:
        yield accepted
    finally:
        thread.join()
    assert len(accepted) == len(numbers) * revisions


@dataclass
class Looks:
    """What a reader saw of the documents.

    Attributes:
        whole: How often a document was there with all pages of one revision.
        unanswered: How often the search was away.
        faults: What must never be seen, in words.
        newest: The newest revision seen of each document.
    """

    whole: int = 0
    unanswered: int = 0
    faults: list[str] = field(default_factory=list)
    newest: dict[int, int] = field(default_factory=dict)

    def look(self, client: httpx.Client, collection: str, number: int) -> None:
        """Look once for everything that is found of a document."""
        query = {
            "query": f"What does Larch-{number} say of the gauge?",
            "max_num_results": 50,
            "filters": {"type": "eq", "key": "larch", "value": number},
        }
        try:
            answer = client.post(f"/v1/vector_stores/{collection}/search", json=query, timeout=30)
        except httpx.TransportError:
            self.unanswered += 1
            return
        if not answer.is_success:
            self.unanswered += 1
            return
        found = [_PAGE.search(hit["content"][0]["text"]) for hit in answer.json()["data"]]
        told = [tuple(int(figure) for figure in page.groups()) for page in found if page is not None]
        assert len(told) == len(found), answer.text
        assert {one[0] for one in told} <= {number}, answer.text
        self._judge(number, told)

    def _judge(self, number: int, told: Sequence[tuple[int, ...]]) -> None:
        known = self.newest.get(number, 0)
        revisions = {one[1] for one in told}
        if not told:
            if known:
                self.faults.append(f"Larch-{number}: nothing was there after revision {known}")
            return
        if len(revisions) > 1:
            self.faults.append(f"Larch-{number}: revisions {sorted(revisions)} at once")
            return
        (revision,) = revisions
        if sorted(one[2] for one in told) != list(range(1, pages_of(revision) + 1)):
            self.faults.append(f"Larch-{number}: revision {revision} with pages {sorted(one[2] for one in told)}")
        elif revision < known:
            self.faults.append(f"Larch-{number}: revision {revision} after {known}")
        else:
            self.whole += 1
            self.newest[number] = revision


@contextmanager
def watched(stack: RunningStack, key: str, collection: str, numbers: Sequence[int]) -> Iterator[Looks]:
    """Look for the documents again and again while the block runs; yields what is seen."""
    looks = Looks()
    over = threading.Event()
    failed: list[BaseException] = []

    def keep_looking() -> None:
        chance = random.Random(3)
        try:
            with stack.client(key) as client:
                while not over.wait(0.05):
                    looks.look(client, collection, chance.choice(numbers))
        except BaseException as error:  # the thread's outermost line: the test raises it
            failed.append(error)
            raise

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()
    assert failed == []


def assert_newest_only(client: httpx.Client, collection: str, numbers: Sequence[int], *, revision: int) -> None:
    """See that the search finds all of each document's newest revision, and nothing else of it."""
    looks = Looks()
    for number in numbers:
        looks.look(client, collection, number)
    assert looks.faults == []
    assert looks.newest == dict.fromkeys(numbers, revision)
