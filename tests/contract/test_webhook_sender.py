"""What a sender of webhooks promises, against a real receiver on this machine."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from services.chassis.errors import InvalidInput
from services.finetuning.backends.webhook_sender import HttpWebhookSender, resolve
from services.finetuning.domain.reach import Reach
from services.finetuning.domain.webhooks import Delivery, WebhookEvent, message_body, message_headers, webhook_secret
from tests.tcp_relay import certificate

HOST = "hooks.example.com"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
DELIVERY = Delivery("evt_1", "wh_1", "", WebhookEvent.SUCCEEDED, "ftjob-1", 1_700_000_000.0, 1)


@dataclass
class Receiver:
    """A server that keeps the requests it gets and answers what it is told."""

    answer: bytes = OK
    # Seconds before it answers, and how often it repeats a piece that has no end.
    silent_s: float = 0.0
    endless: bool = False
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    written: int = 0
    port: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append((head[0], headers, body))
            await asyncio.sleep(self.silent_s)
            writer.write(self.answer)
            while self.endless:
                writer.write(b"x" * 65_536)
                await writer.drain()
                self.written += 65_536
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    play = Receiver()
    server = await asyncio.start_server(play, "127.0.0.1", 0)
    play.port = server.sockets[0].getsockname()[1]
    yield play
    server.close()


def leads_to(*addresses: str) -> Callable[[str, int], object]:
    async def resolved(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolved


def sender(
    *addresses: str, timeout_s: float = 10.0, reach: Reach | None = None, tls: ssl.SSLContext | None = None
) -> HttpWebhookSender:
    return HttpWebhookSender(
        reach or Reach(http_loopback=True),
        timeout_s=timeout_s,
        resolve=leads_to(*addresses) if addresses else resolve,  # type: ignore[arg-type]
        tls=tls,
    )


async def test_a_message_is_taken_by_the_sdk_that_it_is_for(receiver: Receiver) -> None:
    secret, body = webhook_secret(b"room", "wh_1"), message_body(DELIVERY)
    headers = message_headers(DELIVERY, body, secret=secret, now=time.time())
    answer = await sender().send(f"http://127.0.0.1:{receiver.port}/hook?a=b%20c", headers, body)
    assert (answer.status, answer.accepted) == (200, True)
    ((line, heard, got),) = receiver.requests
    assert line == "POST /hook?a=b%20c HTTP/1.1"
    assert heard["host"] == f"127.0.0.1:{receiver.port}"
    client = OpenAI(api_key="none", webhook_secret=secret)
    event = client.webhooks.unwrap(got, heard)
    assert (event.type, event.id, event.data.id) == ("fine_tuning.job.succeeded", "evt_1", "ftjob-1")  # type: ignore[union-attr]
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(got.replace(b"ftjob-1", b"ftjob-2"), heard)
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(got, heard, secret=webhook_secret(b"another room", "wh_1"))


async def test_what_a_receiver_answers_is_reported(receiver: Receiver) -> None:
    for status in (204, 400, 410, 500):
        receiver.answer = f"HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n".encode()
        answer = await sender().send(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")
        assert (answer.status, answer.words) == (status, f"it answered {status}")
        assert answer.accepted == (status == 204)


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = (
        f"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{receiver.port}/admin\r\ncontent-length: 0\r\n\r\n".encode()
    )
    answer = await sender().send(f"http://127.0.0.1:{receiver.port}/hook", {}, b"{}")
    assert (answer.status, answer.accepted) == (302, False)
    assert "redirects are not followed" in answer.words
    assert [line for line, _, _ in receiver.requests] == ["POST /hook HTTP/1.1"]


async def test_an_answer_without_end_costs_neither_memory_nor_time(receiver: Receiver) -> None:
    receiver.answer, receiver.endless = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n", True
    answer = await sender(timeout_s=60).send(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")
    assert answer.accepted
    # What the kernel's buffers take before the connection is closed.
    assert receiver.written < 64 * 1024 * 1024


async def test_a_head_without_end_is_no_answer(receiver: Receiver) -> None:
    receiver.answer, receiver.endless = b"HTTP/1.1 200 OK\r\nx-long: ", True
    answer = await sender(timeout_s=60).send(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")
    assert answer.status == 0
    assert "the call failed" in answer.words


async def test_a_receiver_that_is_silent_is_not_waited_for(receiver: Receiver) -> None:
    receiver.silent_s = 60
    async with asyncio.timeout(30):
        answer = await sender(timeout_s=0.3).send(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")
    assert (answer.status, answer.words) == (0, "no answer within 0.3 s")


async def test_a_receiver_that_is_not_there_is_reported(receiver: Receiver) -> None:
    answer = await sender().send("http://127.0.0.1:1/", {}, b"{}")
    assert answer.status == 0
    assert answer.words.startswith("the call failed (ConnectError")


async def test_a_call_keeps_no_cookie_and_no_connection(receiver: Receiver) -> None:
    receiver.answer = b"HTTP/1.1 200 OK\r\nset-cookie: who=you\r\ncontent-length: 0\r\n\r\n"
    calling = sender()
    for _ in range(2):
        await calling.send(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")
    assert receiver.connections == 2
    assert all("cookie" not in headers for _, headers, _ in receiver.requests)


async def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await sender().send(f"http://127.0.0.1:{receiver.port}/", {}, b"{}")).accepted


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], []],
)
async def test_a_name_that_leads_inside_is_not_called(receiver: Receiver, addresses: list[str]) -> None:
    async def resolved(_host: str, _port: int) -> Sequence[str]:
        return addresses

    calling, url = HttpWebhookSender(Reach(), resolve=resolved), f"https://{HOST}:{receiver.port}/"
    with pytest.raises(InvalidInput, match=r"^url: 'hooks.example.com' leads to no address that may be called"):
        await calling.check(url)
    answer = await calling.send(url, {}, b"{}")
    assert answer.status == 0
    assert "leads to no address that may be called" in answer.words
    assert receiver.connections == 0


async def test_a_name_that_is_not_known_is_refused_in_the_same_words() -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(InvalidInput, match="leads to no address that may be called"):
        await HttpWebhookSender(Reach(), resolve=unknown).check(f"https://{HOST}/")


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f000001", "127.1", "0"])
async def test_other_ways_to_write_this_machine_are_found_out(receiver: Receiver, host: str) -> None:
    answer = await HttpWebhookSender(Reach()).send(f"https://{host}:{receiver.port}/", {}, b"{}")
    assert answer.status == 0
    assert receiver.connections == 0


async def test_the_checked_address_is_the_one_that_is_called(receiver: Receiver) -> None:
    """A name that leads elsewhere when it is asked again is not asked again."""
    asked = 0

    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.1"] if asked == 1 else ["169.254.169.254"]

    calling = HttpWebhookSender(Reach(http_loopback=True), resolve=rebinding)
    assert (await calling.send(f"http://{HOST}:{receiver.port}/", {}, b"{}")).accepted
    assert asked == 1
    assert receiver.requests[0][1]["host"] == f"{HOST}:{receiver.port}"
    assert not (await calling.send(f"http://{HOST}:{receiver.port}/", {}, b"{}")).accepted
    assert receiver.connections == 1


async def test_a_second_address_is_called_when_the_first_is_silent(receiver: Receiver) -> None:
    # Nobody listens at the first: the receiver has the second only.
    calling = sender("127.0.0.2", "127.0.0.1")
    assert (await calling.send(f"http://{HOST}:{receiver.port}/", {}, b"{}")).accepted


async def test_the_certificate_must_be_that_of_the_name(tmp_path: Path) -> None:
    file, play = certificate(tmp_path, HOST), Receiver()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file)
    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(file))
    calling = sender("127.0.0.1", tls=trusting)
    assert (await calling.send(f"https://{HOST}:{port}/", {}, b"{}")).accepted
    assert play.requests[0][1]["host"] == f"{HOST}:{port}"
    for refused in (
        await calling.send(f"https://other.example.com:{port}/", {}, b"{}"),
        await sender("127.0.0.1").send(f"https://{HOST}:{port}/", {}, b"{}"),
    ):
        assert refused.status == 0
        assert "CERTIFICATE_VERIFY_FAILED" in refused.words
    assert len(play.requests) == 1
    server.close()
