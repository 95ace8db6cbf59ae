"""Readers who leave, and readers who take a byte a second: what they asked for ends, and nothing of it stays."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Self

import httpx
import psutil
import pytest

from tests.faults.results import over, record
from tests.faults.sizes import size
from tests.running_stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(size(ci=600, release=1800))

MIB = 1024 * 1024
# Who leaves, in waves of so many.
LEAVING, LEAVING_WAVES = 10, size(ci=2, release=10)
SLOW, SLOW_WAVES = size(ci=20, release=25), size(ci=1, release=4)
# The answer to somebody slow: 1.5 MiB, more than the sockets on its way take in, and a dozen times the longest that a model
# gives. Chat takes it in whole, so that the engine is free for others; nothing else of it is held.
WORD, WORDS = "x" * 4096, 400
# Bytes of a segment as a network carries them. Over the loopback they are so large that the kernel alone would take megabytes.
SEGMENT = 1400
RUNNING = "brain_generation_inflight_requests"
CUT = "brain_http_streams_cut_total"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("readers"), engine="scripted://?mode=echo&rate=50") as running:
        yield running


def body(text: str, *, tokens: int) -> dict[str, object]:
    return {
        "model": "default",
        "stream": True,
        "max_completion_tokens": tokens,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": text}],
    }


def test_who_leaves_ends_the_work(stack: RunningStack) -> None:
    # Two minutes at the engine's rate: no answer ends by itself before its reader leaves.
    asked = body("Go on until somebody leaves.", tokens=6000)
    left_s: list[float] = []
    with stack.client(stack.key("lea")) as client:
        for _ in range(LEAVING_WAVES):
            with ExitStack() as readers:
                answers = [
                    readers.enter_context(client.stream("POST", "/v1/chat/completions", json=asked)).iter_lines()
                    for _ in range(LEAVING)
                ]
                for answer in answers:
                    assert next(line for line in answer if '"content":"' in line)
                assert stack.metric("generation", RUNNING) == LEAVING, "they must run before anybody leaves"
            began = time.monotonic()
            stack.wait_until(lambda: stack.metric("generation", RUNNING) == 0, timeout_s=60)
            left_s.append(time.monotonic() - began)
    stack.wait_until(lambda: cut(stack, "left") >= LEAVING * LEAVING_WAVES)
    record(
        "client disconnect",
        held="generation cancelled",
        streams=LEAVING * LEAVING_WAVES,
        **over("cancelled", left_s),
    )


def cut(stack: RunningStack, reason: str) -> float:
    """How many streams ended before their last frame, for a reason."""
    text = httpx.get(f"http://{stack.state['rooms']['gateway']['metrics']}/metrics", timeout=10).text
    line = next((line for line in text.splitlines() if line.startswith(f'{CUT}{{reason="{reason}"}}')), f"{CUT} 0")
    return float(line.rpartition(" ")[2])


@dataclass
class SlowReader:
    """Asks for a stream and takes a byte of it a second."""

    address: tuple[str, int]
    request: bytes
    line: socket.socket = field(init=False)

    def __enter__(self) -> Self:
        self.line = socket.socket()
        # Little room on this side, so that what is not taken stays on the other.
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        self.line.connect(self.address)
        self.line.sendall(self.request)
        return self

    def __exit__(self, *_about: object) -> None:
        self.line.close()

    @property
    def port(self) -> int:
        return int(self.line.getsockname()[1])

    def take_a_byte(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.line.recv(1, socket.MSG_DONTWAIT)


@contextmanager
def sipping(readers: list[SlowReader]) -> Iterator[None]:
    """Have each take its byte a second while the block runs."""
    over_now = threading.Event()

    def sip() -> None:
        while not over_now.wait(1.0):
            for reader in readers:
                reader.take_a_byte()

    thread = threading.Thread(target=sip)
    thread.start()
    try:
        yield
    finally:
        over_now.set()
        thread.join()


def connections(stack: RunningStack, ports: set[int]) -> int:
    """How many connections of ours the gateway still holds."""
    return sum(
        one.raddr.port in ports for one in psutil.Process(stack.pid("gateway")).net_connections(kind="tcp") if one.raddr
    )


def memory(stack: RunningStack) -> dict[str, float]:
    """What the rooms between the engine and the reader hold, in MiB."""
    return {room: psutil.Process(stack.pid(room)).memory_info().rss / MIB for room in ("gateway", "chat")}


def test_who_reads_a_byte_a_second_is_cut(stack: RunningStack) -> None:
    host, _, port = stack.address("gateway").rpartition(":")
    data = json.dumps(body(f"{WORD} {WORD}", tokens=WORDS)).encode()
    key = stack.key("slow")
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode() + data
    with stack.client(key) as client, client.stream("POST", "/v1/chat/completions", content=data) as whole:
        # The rooms have met such an answer.
        taken = 0
        pieces = whole.iter_bytes()
        while taken < MIB:
            taken += len(next(pieces))
    stack.wait_until(lambda: stack.metric("generation", RUNNING) == 0)
    calm = memory(stack)
    most = calm
    cut_s: list[float] = []
    for wave in range(SLOW_WAVES):
        before = cut(stack, "stalled")
        with ExitStack() as lines:
            readers = [lines.enter_context(SlowReader((host, int(port)), request)) for _ in range(SLOW)]
            ports = {reader.port for reader in readers}
            began = time.monotonic()
            with sipping(readers):
                stack.wait_until(lambda: stack.metric("generation", RUNNING) == SLOW)
                assert connections(stack, ports) == SLOW, "they must hold the gateway before they are cut"
                until = time.monotonic() + 240
                left = SLOW
                while left:
                    assert time.monotonic() < until, f"{left} of {SLOW} were never cut in wave {wave}"
                    time.sleep(0.2)
                    most = {room: max(most[room], held) for room, held in memory(stack).items()}
                    now = connections(stack, ports)
                    cut_s += [time.monotonic() - began] * (left - now)
                    left = now
                stack.wait_until(lambda: stack.metric("generation", RUNNING) == 0, timeout_s=30)
        stack.wait_until(lambda before=before: cut(stack, "stalled") == before + SLOW)  # type: ignore[misc]
    grown = {room: most[room] - calm[room] for room in calm}
    assert sum(grown.values()) <= 64, grown
    record(
        "slow reader (1 B/s)",
        held="cut, connection gone, work ended, memory + <= 64 MiB",
        readers=SLOW * SLOW_WAVES,
        memory_grown_mib=sum(grown.values()),
        **over("cut_after", cut_s),
    )
