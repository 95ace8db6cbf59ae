"""Two indexers, retrievals, chats and gateways; one of each is killed while documents come in and people ask."""

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from services.local.plan import free_addresses
from services.retrieval.backends.weaviate import WeaviateIndex
from tests.cluster_servers import ClusterServers
from tests.faults.documents import assert_found_once, text
from tests.many_rooms import Fleet, running_fleet, several
from tests.weaviate_index import weaviate_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

DOCUMENTS = 200
CHATS = 100
PEOPLE = 8
# Who falls, in this order, while documents come in and people ask.
KILLED = ("retrieval index 0", "chat 0", "retrieval serve 0", "gateway 0")
# Half a second of answer: there are always streams on their way.
ENGINE = "scripted://?mode=extract&rate=60"


@dataclass(frozen=True)
class Office:
    """Everything runs; `urls` are the two gateways."""

    fleet: Fleet
    urls: tuple[str, ...]
    key: str

    def client(self) -> httpx.Client:
        return httpx.Client(headers={"Authorization": f"Bearer {self.key}"}, timeout=60)


@pytest.fixture(scope="module")
def office(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    settings = {
        "BRAIN_GENERATION_ENGINE": ENGINE,
        # Fourteen processes on the machine of the tests: how long a search takes says nothing.
        "BRAIN_CHAT_SEARCH_TIMEOUT_S": "60",
    }
    with running_fleet(tmp_path_factory.mktemp("fleet"), environment=settings) as fleet:
        rooms = fleet.plan
        pairs = {room: [free_addresses(0)[room] for _ in range(2)] for room in ("chat", "retrieval", "gateway")}
        retrieval = several(pairs["retrieval"])
        fleet.start("generation", 0, rooms.room("generation").addresses.serving, settings={})
        fleet.start(
            "ingestion",
            0,
            rooms.room("ingestion").addresses.serving,
            role="serve",
            settings={"BRAIN_INGESTION_RETRIEVAL_ADDRESS": retrieval},
        )
        fleet.start(
            "ingestion", 0, "127.0.0.1:0", role="work", settings={"BRAIN_INGESTION_RETRIEVAL_ADDRESS": retrieval}
        )
        for number in range(2):
            fleet.start("retrieval", number, pairs["retrieval"][number].serving, role="serve", settings={})
            fleet.start("retrieval", number, "127.0.0.1:0", role="index", settings={})
            fleet.start(
                "chat",
                number,
                pairs["chat"][number].serving,
                settings={"BRAIN_CHAT_RETRIEVAL_ADDRESS": retrieval},
            )
            fleet.start(
                "gateway",
                number,
                pairs["gateway"][number].serving,
                settings={
                    "BRAIN_GATEWAY_RETRIEVAL_ADDRESS": retrieval,
                    "BRAIN_GATEWAY_CHAT_ADDRESS": several(pairs["chat"]),
                },
            )
        fleet.wait_ready()
        urls = tuple(f"http://{one.serving}" for one in pairs["gateway"])
        yield Office(fleet, urls, fleet.key("admin", role="administrator"))


def eventually(office: Office, client: httpx.Client, method: str, path: str, **about: object) -> httpx.Response:
    """Ask one gateway after the other until one answers well, as a client behind a load balancer does."""
    until = time.monotonic() + 240
    for url in itertools.cycle(office.urls):
        try:
            answer = client.request(method, f"{url}{path}", **about)  # type: ignore[arg-type]
            if answer.is_success:
                return answer
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, f"{method} {path} never went well"
        time.sleep(0.2)
    raise AssertionError


@dataclass
class Heard:
    """What became of one streamed answer."""

    url: str
    words: str = ""
    error: str = ""
    refused: str = ""
    is_done: bool = False


def chat(office: Office, client: httpx.Client, collection: str, number: int) -> Heard:
    """Ask for a document over a stream; a gateway that is gone before its first byte is a refusal."""
    heard = Heard(office.urls[number % 2])
    body = {
        "model": "default",
        "stream": True,
        "collections": [collection],
        "messages": [{"role": "user", "content": f"How many grams does the Fern-{number % 40:04d} weigh?"}],
    }
    try:
        with client.stream("POST", f"{heard.url}/v1/chat/completions", json=body) as response:
            if not response.is_success:
                heard.refused = f"{response.status_code} {response.read().decode()}"
                return heard
            for line in response.iter_lines():
                if not line.startswith("data: "):
                    continue
                if line == "data: [DONE]":
                    heard.is_done = True
                    continue
                frame = json.loads(line.removeprefix("data: "))
                if "error" in frame:
                    heard.error = json.dumps(frame["error"])
                for choice in frame.get("choices", ()):
                    heard.words += choice["delta"].get("content") or ""
    except httpx.TransportError as error:
        heard.refused = repr(error)
    return heard


@contextmanager
def offering(office: Office, collection: str, numbers: range) -> Iterator[None]:
    def some(first: int) -> None:
        with office.client() as client:
            for number in numbers[first::2]:
                name = f"fern-{number}"
                query = {"collection": collection, "filename": f"{name}.md", "key": name}
                eventually(office, client, "POST", "/brain/v1/documents", params=query, content=text(number).encode())

    threads = [threading.Thread(target=some, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def test_one_of_each_is_killed_and_nobody_loses_anything(office: Office, cluster: ClusterServers) -> None:
    with office.client() as client:
        made = eventually(office, client, "POST", "/v1/vector_stores", json={"name": "ferns"})
        collection = str(made.json()["id"])

        def final(count: int) -> dict[str, int]:
            until = time.monotonic() + 300
            while True:
                counts = eventually(office, client, "GET", f"/v1/vector_stores/{collection}").json()["file_counts"]
                if counts["total"] >= count and counts["in_progress"] == 0:
                    return dict(counts)
                assert time.monotonic() < until, counts
                time.sleep(0.3)

        with offering(office, collection, range(40)):
            pass
        assert final(40)["completed"] == 40

        chance = random.Random(5)
        with offering(office, collection, range(40, DOCUMENTS)), ThreadPoolExecutor(PEOPLE) as people:
            asked: list[Future[Heard]] = []
            for number in range(CHATS):
                # Not more ahead of the answers than people who ask: who falls falls among them.
                while sum(not one.done() for one in asked) >= PEOPLE:
                    time.sleep(0.01)
                asked.append(people.submit(chat, office, client, collection, number))
                if number % 20 == 19 and number // 20 < len(KILLED):
                    office.fleet.kill(KILLED[number // 20])
                time.sleep(chance.uniform(0.05, 0.25))
            heard = [one.result() for one in asked]

        counts = final(DOCUMENTS)
        assert counts["completed"] == DOCUMENTS, counts
        for number in chance.sample(range(DOCUMENTS), 25):
            with httpx.Client(base_url=office.urls[1], headers=client.headers, timeout=60) as survivor:
                assert_found_once(survivor, collection, number)
        documents = eventually(
            office, client, "GET", "/brain/v1/documents", params={"collection": collection, "limit": 100}
        ).json()
        ids = [one["id"] for one in documents["data"]]
        while documents.get("has_more"):
            query = {"collection": collection, "limit": 100, "after": ids[-1]}
            documents = eventually(office, client, "GET", "/brain/v1/documents", params=query).json()
            ids += [one["id"] for one in documents["data"]]
        assert len(set(ids)) == len(ids) == DOCUMENTS

    # Nobody at the gateway that lived was turned away, and no answer broke off before its first word.
    stayed = [one for one in heard if one.url == office.urls[1]]
    assert [one.refused for one in stayed if one.refused] == []
    assert [one.error for one in stayed if one.error and not one.words] == []
    assert all(one.is_done for one in stayed)
    whole = [one for one in stayed if not one.error]
    assert len(whole) >= len(stayed) - PEOPLE, "an answer on its way may break when its chat dies, no other"
    assert all("grams" in one.words for one in whole)
    # The gateway that died answered until then.
    assert sum(one.is_done and not one.error for one in heard if one.url == office.urls[0]) >= CHATS // 4


async def test_behind_the_search_each_chunk_stands_once(office: Office, cluster: ClusterServers) -> None:
    settings = office.fleet.plan.room("retrieval").environment
    server = weaviate_server(cluster)
    index = WeaviateIndex(
        server,
        dimension=384,
        collection=settings["BRAIN_RETRIEVAL_INDEX_COLLECTION"],
        replicas=1,
        consistency="QUORUM",
        ann_rows=100_000,
    )
    await index.open()
    with office.client() as client:
        stores = eventually(office, client, "GET", "/v1/vector_stores").json()["data"]
        collection = next(store["id"] for store in stores if store["name"] == "ferns")
        ids: list[str] = []
        while True:
            query = {"collection": collection, "limit": 100, **({"after": ids[-1]} if ids else {})}
            page = eventually(office, client, "GET", "/brain/v1/documents", params=query).json()
            ids += [one["id"] for one in page["data"]]
            if not page.get("has_more"):
                break
    counts = await index.counts("main", ids)
    await index.close()
    assert counts == dict.fromkeys(((document, 1) for document in ids), 1)
