"""Two of each room that an answer needs, restarted one process after the other while people stream: nobody's answer breaks."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.local.plan import free_addresses
from tests.cluster_servers import ClusterServers
from tests.faults.documents import assert_found_once, text
from tests.faults.results import over, record
from tests.faults.sizes import size
from tests.many_rooms import Fleet, running_fleet
from tests.running_stack import RunningStack, indexed, new_collection

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(size(ci=900, release=1800))]

STREAMS = size(ci=30, release=100)
PEOPLE = 8
DOCUMENTS = 20
# Plain answers last four seconds, grounded ones less than one: in every moment some are on their way.
ENGINE, WORDS = "scripted://?mode=extract&rate=15", 60
# A replacement counts once its callers have found it, as `minReadySeconds` has it: they look once a second.
SETTLED_S = 3.0
# Longer than any answer here lasts, on any machine.
DRAIN_S = 90
# Two of each that an answer needs, and one of each that it does not.
TWINS = (("generation", ""), ("retrieval", "serve"), ("chat", ""), ("gateway", ""))
BESIDE = (("ingestion", "serve"), ("ingestion", "work"), ("retrieval", "index"))
REPLACED = size(ci=TWINS, release=TWINS + BESIDE)


@dataclass
class Office:
    """Everything runs; `urls` are the two gateways."""

    fleet: Fleet
    addresses: dict[str, list[str]]
    key: str
    started: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    @property
    def urls(self) -> list[str]:
        return [f"http://{one}" for one in self.addresses["gateway"]]

    def settings(self, room: str) -> dict[str, str]:
        callees = {"ingestion": ("retrieval",), "chat": ("retrieval", "generation")}.get(room, ())
        if room == "gateway":
            callees = ("ingestion", "retrieval", "generation", "chat")
        led = {
            f"BRAIN_{room.upper()}_{one.upper()}_ADDRESS": "ipv4:" + ",".join(self.addresses[one]) for one in callees
        }
        return led | {f"BRAIN_{room.upper()}_DRAIN_S": str(DRAIN_S)}

    def of(self, room: str, role: str) -> list[str]:
        """Where the processes of a role listen; who is asked nothing listens anywhere."""
        return ["127.0.0.1:0"] if role in {"work", "index"} else self.addresses[room]

    def start(self, room: str, role: str, number: int, address: str) -> str:
        self.fleet.start(room, number, address, role=role, settings=self.settings(room))
        return " ".join(part for part in (room, role, str(number)) if part)

    def client(self) -> httpx.Client:
        # A connection for each request, as a load balancer has it that spreads them.
        return httpx.Client(
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=120,
            limits=httpx.Limits(max_keepalive_connections=0),
        )


@pytest.fixture(scope="module")
def office(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with running_fleet(tmp_path_factory.mktemp("rolling"), environment={"BRAIN_GENERATION_ENGINE": ENGINE}) as fleet:
        twins = [free_addresses(0) for _ in range(2)]
        addresses = {room: [one[room].serving for one in twins] for room, _ in TWINS}
        addresses["ingestion"] = [twins[0]["ingestion"].serving]
        made = Office(fleet, addresses, fleet.key("rolf", role="administrator"))
        for room, role in TWINS + BESIDE:
            for number, address in enumerate(made.of(room, role)):
                made.start(room, role, number, address)
        fleet.wait_ready()
        yield made


@dataclass(frozen=True)
class Heard:
    """One streamed answer; `fault` says how it broke."""

    words: str = ""
    fault: str = ""


def listen(client: httpx.Client, urls: Sequence[str], body: dict[str, object]) -> Heard:
    """Stream an answer; where nobody takes the connection the other gateway is tried, as a load balancer does."""
    words = ""
    for url in urls:
        try:
            with client.stream("POST", f"{url}/v1/chat/completions", json=body | {"stream": True}) as response:
                if not response.is_success:
                    return Heard(fault=f"{response.status_code} {response.read().decode()}")
                lines = [line for line in response.iter_lines() if line]
        except httpx.ConnectError:
            continue
        except httpx.TransportError as error:
            return Heard(words, repr(error))
        if not lines or lines[-1] != "data: [DONE]":
            return Heard(words, f"it ended with {lines[-1:]}")
        frames = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        if told := [frame["error"] for frame in frames if "error" in frame]:
            return Heard(words, str(told[0]))
        return Heard("".join(choice["delta"].get("content") or "" for one in frames for choice in one["choices"]))
    return Heard(fault="no gateway took the connection")


@contextmanager
def streaming(office: Office, collection: str) -> Iterator[list[Heard]]:
    """Have people stream one answer after the other while the block runs; yields what they heard."""
    heard: list[Heard] = []
    over_now = threading.Event()
    plain: dict[str, object] = {
        "model": "default",
        "max_completion_tokens": WORDS,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "Go on."}],
    }

    def keep_asking(person: int) -> None:
        urls = office.urls if person % 2 else office.urls[::-1]
        with office.client() as client:
            for number in itertools.count(person):
                if over_now.is_set():
                    return
                asked = f"How many grams does the Fern-{number % DOCUMENTS:04d} weigh?"
                grounded: dict[str, object] = {
                    "model": "default",
                    "collections": [collection],
                    "messages": [{"role": "user", "content": asked}],
                }
                heard.append(listen(client, urls, plain if person < PEOPLE // 2 else grounded))

    threads = [threading.Thread(target=keep_asking, args=(person,)) for person in range(PEOPLE)]
    for thread in threads:
        thread.start()
    try:
        yield heard
    finally:
        over_now.set()
        for thread in threads:
            thread.join()


class Farewell:
    """Watches one process from before it is asked to end until it says that it serves no more."""

    def __init__(self, room: str, address: str) -> None:
        self._address = address
        self._ended = threading.Event()
        self._at = 0.0
        self._watching = threading.Event()
        watch = self._knock if room == "gateway" else self._watch
        threading.Thread(target=watch, daemon=True).start()
        assert self._watching.wait(30), f"{room} at {address} does not serve"

    def seconds_after(self, began: float) -> float:
        """Return how long it took; fail when it never said so."""
        assert self._ended.wait(60), f"{self._address} went on as if nothing were"
        return max(0.0, self._at - began)

    def _watch(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            told = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            try:
                for answer in told:
                    if answer.status != health_pb2.HealthCheckResponse.SERVING:
                        break
                    self._watching.set()
            except grpc.RpcError:
                pass
            self._note()
            told.cancel()

    def _knock(self) -> None:
        with httpx.Client(timeout=5) as client:
            try:
                while client.get(f"http://{self._address}/health/live", headers={"connection": "close"}).is_success:
                    self._watching.set()
                    time.sleep(0.02)
            except httpx.TransportError:
                pass
        self._note()

    def _note(self) -> None:
        self._at = time.monotonic()
        self._ended.set()


def restarted(office: Office, room: str, role: str, name: str, address: str) -> float | None:
    """End one process, start another in its place; return how long the first still said that it serves."""
    farewell = None if address.endswith(":0") else Farewell(room, address)
    began = time.monotonic()
    office.fleet.stop(name, timeout_s=DRAIN_S + 60)
    silent_s = None if farewell is None else farewell.seconds_after(began)
    office.start(room, role, next(office.started), address)
    office.fleet.wait_ready()
    time.sleep(SETTLED_S)
    return silent_s


def bring(office: Office, client: httpx.Client, collection: str, number: int) -> None:
    """Upload until one of the gateways acknowledges."""
    query = {"collection": collection, "filename": f"fern-{number}.md", "key": f"fern-{number}"}
    until = time.monotonic() + 120
    for url in itertools.cycle(office.urls):
        try:
            if client.post(f"{url}/brain/v1/documents", params=query, content=text(number).encode()).is_success:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, f"document {number} was never accepted"
        time.sleep(0.2)


def test_nobody_s_answer_breaks_while_every_process_is_replaced(office: Office) -> None:
    with office.client() as client:
        client.base_url = httpx.URL(office.urls[0])
        collection = new_collection(client, "ferns")
        for number in range(DOCUMENTS):
            bring(office, client, collection, number)
        assert indexed(client, collection, DOCUMENTS)["completed"] == DOCUMENTS

        silent_s: list[float] = []
        with streaming(office, collection) as heard:
            places = [
                (room, role, f"{room} {role} {number}".replace("  ", " "), address)
                for room, role in REPLACED
                for number, address in enumerate(office.of(room, role))
            ]
            for count, (room, role, name, address) in enumerate(places):
                # Documents come in, too, through whichever is there.
                bring(office, client, collection, DOCUMENTS + count)
                took = restarted(office, room, role, name, address)
                silent_s += [] if took is None else [took]
            RunningStack.wait_until(lambda: len(heard) >= STREAMS, timeout_s=300)
        # Told apart without what is of one request only.
        assert Counter(one.fault.partition('"id"')[0] for one in heard if one.fault) == Counter()
        assert all(one.words for one in heard)
        total = DOCUMENTS + len(places)
        assert indexed(client, collection, total)["completed"] == total
        for number in range(DOCUMENTS, total):
            assert_found_once(client, collection, number)

        # The same people, and processes that go without a word.
        with streaming(office, collection) as broken:
            for room in ("generation", "chat", "gateway"):
                RunningStack.wait_until(lambda: len(broken) >= PEOPLE)
                newest = [
                    name
                    for name, process in office.fleet.processes.items()
                    if name.startswith(room) and process.poll() is None
                ]
                office.fleet.kill(newest[0])
        assert [one.fault for one in broken if one.fault], "a process that is not asked to end must break answers"
    record(
        "SIGTERM rolling restart under load",
        held="broken streams 0, every process replaced",
        streams=len(heard),
        processes=len(places),
        broken_by_kills_instead=sum(bool(one.fault) for one in broken),
        **over("not_serving", silent_s),
    )
