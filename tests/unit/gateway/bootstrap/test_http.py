"""Half a request is not waited for, one without end not kept, and a reader who takes nothing is cut."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.api.replies import Receive, Send
from gateway.bootstrap.http import PatientProtocol

HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n"


class Line(asyncio.Transport):
    """The other end of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self.closed = asyncio.Event()
        self.cut = asyncio.Event()
        self.waiting = 100_000
        self.taken_between_looks = 0

    def write(self, data: Any) -> None:
        self.said += bytes(data)

    def close(self) -> None:
        self.closed.set()

    def abort(self) -> None:
        self.cut.set()

    def get_write_buffer_size(self) -> int:
        self.waiting -= self.taken_between_looks
        return self.waiting

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answer(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Hasty(PatientProtocol):
    patience_s = 0.1
    stall_s = 0.1


@pytest.fixture
async def protocol() -> AsyncIterator[Hasty]:
    config = uvicorn.Config(answer, http=Hasty, ws="none", lifespan="off", log_config=None)
    made = Hasty(config, ServerState(), {})
    made.connection_made(Line())
    yield made
    made.connection_lost(None)


def line(protocol: Hasty) -> Line:
    assert isinstance(protocol.transport, Line)
    return protocol.transport


def refusal(protocol: Hasty) -> tuple[int, dict[str, Any]]:
    head, _, body = line(protocol).said.partition(b"\r\n\r\n")
    assert b"x-request-id: req_" in head
    assert b"connection: close" in head
    return int(head.split()[1]), orjson.loads(body)


async def answered(protocol: Hasty) -> None:
    """Have one request behind it: nothing more is waited for."""
    protocol.data_received(HEAD + b"\r\n")
    while b"200 OK" not in line(protocol).said:
        await asyncio.sleep(0)


async def drip(protocol: Hasty) -> None:
    while not line(protocol).closed.is_set():
        protocol.data_received(b"x")
        await asyncio.sleep(0.01)


async def test_a_head_that_does_not_end_is_given_up(protocol: Hasty) -> None:
    protocol.data_received(HEAD + b"x-")
    async with asyncio.timeout(5):
        # However often another byte of it comes.
        await drip(protocol)
    status, told = refusal(protocol)
    assert (status, told["error"]["code"]) == (408, "request_timeout")


async def test_who_says_nothing_is_let_go(protocol: Hasty) -> None:
    async with asyncio.timeout(5):
        await line(protocol).closed.wait()
    assert line(protocol).said == b""


async def test_a_head_without_end_is_refused(protocol: Hasty) -> None:
    protocol.data_received(HEAD)
    for _ in range(20):
        protocol.data_received(b"x-filler: " + b"a" * 8000 + b"\r\n")
        if line(protocol).closed.is_set():
            break
    assert refusal(protocol)[0] == 431


async def test_what_is_not_http_is_refused_as_everything_is(protocol: Hasty) -> None:
    protocol.data_received(b"\x16\x03\x01 hello\r\n\r\n")
    assert refusal(protocol)[0] == 400


async def test_one_request_after_another_is_answered_and_half_of_a_third_is_not_waited_for(protocol: Hasty) -> None:
    for count in (1, 2):
        protocol.data_received(HEAD + b"\r\n")
        while line(protocol).said.count(b"HTTP/1.1 200") < count:
            await asyncio.sleep(0)
        assert not line(protocol).closed.is_set()
        # As long as it likes between two requests.
        await asyncio.sleep(0.2)
    protocol.data_received(b"GET / HT")
    async with asyncio.timeout(5):
        await line(protocol).closed.wait()
    assert line(protocol).said.count(b"HTTP/1.1 408") == 1


async def test_what_still_comes_of_a_body_after_its_answer_is_let_pass_but_not_for_ever(protocol: Hasty) -> None:
    protocol.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n")
    while b"200 OK" not in line(protocol).said:
        await asyncio.sleep(0)
    protocol.data_received(b"x" * 300_000)
    protocol.data_received(HEAD + b"\r\n")
    while line(protocol).said.count(b"200 OK") < 2:
        await asyncio.sleep(0)
    protocol.data_received(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n")
    while line(protocol).said.count(b"200 OK") < 3:
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await drip(protocol)
    # It has its answer.
    assert line(protocol).said.count(b"HTTP/1.1") == 3


async def test_an_upgrade_is_answered_like_any_request(protocol: Hasty) -> None:
    protocol.data_received(HEAD + b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: a\r\n\r\n")
    while b"200 OK" not in line(protocol).said:
        await asyncio.sleep(0)


async def test_who_takes_nothing_of_what_waits_is_cut(protocol: Hasty) -> None:
    await answered(protocol)
    protocol.pause_writing()
    async with asyncio.timeout(5):
        await line(protocol).cut.wait()


async def test_who_takes_some_of_it_is_waited_for_until_that_ends(protocol: Hasty) -> None:
    await answered(protocol)
    line(protocol).taken_between_looks = 1
    protocol.pause_writing()
    async with asyncio.timeout(10):
        while line(protocol).waiting > 99_995:
            await asyncio.sleep(0.01)
        assert not line(protocol).cut.is_set()
        line(protocol).taken_between_looks = 0
        await line(protocol).cut.wait()


async def test_who_has_taken_it_is_not_watched(protocol: Hasty) -> None:
    await answered(protocol)
    protocol.pause_writing()
    protocol.resume_writing()
    await asyncio.sleep(0.3)
    assert not line(protocol).cut.is_set()


async def test_whose_answer_was_given_up_is_cut_whatever_it_takes(protocol: Hasty) -> None:
    await answered(protocol)
    line(protocol).taken_between_looks = 1
    protocol.pause_writing()
    protocol.transport.close()
    async with asyncio.timeout(5):
        await line(protocol).cut.wait()
