"""Documents that flow in at an even pace while a server below the rooms is hurt, and what became of each upload."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.faults.documents import text
from tests.running_stack import RunningStack, counts, indexed

# Uploads at once.
_HANDS = 2


@dataclass(frozen=True, slots=True)
class Upload:
    """One try to upload a document.

    Attributes:
        number: Of the document.
        began: Monotonic time.
        took_s: Until the answer.
        status: Of the answer; 0 where the connection broke.
        detail: What a refusal said.
    """

    number: int
    began: float
    took_s: float
    status: int
    retry_after: str = ""
    detail: str = ""

    @property
    def acknowledged(self) -> bool:
        return self.status in {200, 202}


@dataclass
class Uploads:
    """Every try, in the order of their ends, and how many documents were begun."""

    tries: list[Upload] = field(default_factory=list)
    begun: int = 0

    @property
    def acknowledged(self) -> int:
        return sum(one.acknowledged for one in self.tries)

    def begun_in(self, began: float, ended: float) -> list[Upload]:
        """Return the tries that began in a span of monotonic time."""
        return [one for one in self.tries if began <= one.began < ended]


def upload_once(client: httpx.Client, collection: str, number: int) -> Upload:
    """Offer a document once; its key makes a repetition harmless."""
    began = time.monotonic()
    try:
        answer = client.post(
            "/brain/v1/documents",
            params={"collection": collection, "filename": f"fern-{number}.md", "key": f"fern-{number}"},
            content=text(number).encode(),
        )
    except httpx.TransportError as error:
        return Upload(number, began, time.monotonic() - began, 0, detail=repr(error))
    return Upload(
        number,
        began,
        time.monotonic() - began,
        answer.status_code,
        answer.headers.get("retry-after", ""),
        "" if answer.is_success else answer.text,
    )


@contextmanager
def uploading(stack: RunningStack, key: str, collection: str, *, at_least: int, every_s: float) -> Iterator[Uploads]:
    """Upload one document after the other while the block runs, each until it is acknowledged.

    Args:
        stack: Where.
        key: API key.
        collection: Into which collection.
        at_least: When the block has left some of so many over, they come as fast as they are taken. Documents are numbered
            from 0.
        every_s: How often one of them begins.
    """
    uploads = Uploads()
    is_over = threading.Event()
    counting = threading.Lock()

    def keep_uploading() -> None:
        with stack.client(key) as client:
            client.timeout = httpx.Timeout(60)
            while True:
                with counting:
                    if is_over.is_set() and uploads.begun >= at_least:
                        return
                    number = uploads.begun
                    uploads.begun += 1
                until = time.monotonic() + 240
                while True:
                    uploads.tries.append(tried := upload_once(client, collection, number))
                    if tried.acknowledged:
                        break
                    assert time.monotonic() < until, f"document {number} was never accepted: {tried}"
                    time.sleep(0.3)
                is_over.wait(max(0.0, tried.began + every_s * _HANDS - time.monotonic()))

    with ThreadPoolExecutor(_HANDS) as threads:
        hands = [threads.submit(keep_uploading) for _ in range(_HANDS)]
        try:
            yield uploads
        finally:
            is_over.set()
        for hand in hands:
            hand.result()
    assert uploads.acknowledged == uploads.begun >= at_least


def all_indexed(client: httpx.Client, collection: str, total: int) -> float:
    """Wait until every document is found in the index; return how many seconds that took."""
    began = time.monotonic()
    final = indexed(client, collection, total, timeout_s=300)
    assert final["completed"] == total, final
    return time.monotonic() - began


def done(client: httpx.Client, collection: str) -> int:
    """Return how many documents have come to the end of their way."""
    return counts(client, collection)["completed"]
