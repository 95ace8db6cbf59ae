"""Rooms that show each other certificates: who is let in, what others are told, and files that are replaced meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from prometheus_client import CollectorRegistry

from brain.generation.v1 import generation_pb2, generation_pb2_grpc
from services.chassis.auth import ANYONE, Caller, Role, TokenMinter, TokenVerifier, generate_key_pair
from services.chassis.errors import InvalidInput, Unavailable
from services.chassis.rpc.client import connect, remote, why_not_serving
from services.chassis.rpc.replicas import ReplicaChannel, connect_replicas
from services.chassis.rpc.server import RpcServer, methods_of
from services.chassis.rpc.tls import Tls, tls_of
from services.chassis.settings import RoomSettings
from tests.certificates import Authority, MountedSecret, serial_of

SERVICE = "brain.generation.v1.GenerationService"
PRIVATE, PUBLIC = generate_key_pair()


class Servicer(generation_pb2_grpc.GenerationServiceServicer):
    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def Detokenize(self, request: Any, context: Any) -> Any:
        """Answer with the serial number of the caller's certificate."""
        [pem] = context.auth_context()["x509_pem_cert"]
        return generation_pb2.DetokenizeResponse(text=str(x509.load_pem_x509_certificate(pem).serial_number))

    async def Score(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Tokenize(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield generation_pb2.GenerateResponse(text="one")
        await self.go_on.wait()
        yield generation_pb2.GenerateResponse(text="two")


@dataclass
class Kitchen:
    """A room that serves."""

    address: str
    servicer: Servicer

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]


@asynccontextmanager
async def kitchen(tls: Tls | None, listen: str = "127.0.0.1:0") -> AsyncIterator[Kitchen]:
    server = RpcServer(
        room="kitchen",
        listen=listen,
        policy=dict.fromkeys(methods_of(SERVICE), ANYONE),
        verifier=TokenVerifier([PUBLIC]),
        registry=CollectorRegistry(),
        tls=tls,
    )
    servicer = Servicer()
    server.add(generation_pb2_grpc.add_GenerationServiceServicer_to_server, servicer, SERVICE)
    address = await server.start()
    await server.set_serving(serving=True)
    try:
        yield Kitchen(address, servicer)
    finally:
        servicer.go_on.set()
        await server.stop(0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "own")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "strange", "stranger")


def shown(authority: Authority, name: str = "room", *, trusts: Authority | None = None, **about: bool) -> Tls:
    certificate, key = authority.sign(name, **about)
    return Tls.of_files(authorities=(trusts or authority).file, certificate=certificate, key=key)


def mounted(secret: MountedSecret) -> Tls:
    return Tls.of_files(authorities=secret.ca, certificate=secret.cert, key=secret.key)


def token() -> str:
    return TokenMinter(PRIVATE, issuer="gateway").mint(Caller("vera", "acme", roles=frozenset({Role.VIEWER})))


async def seen(channel: grpc.aio.Channel) -> int:
    """Return whose certificate the room saw."""
    stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
    with remote("kitchen", "Detokenize", token=token()) as metadata:
        answer = await stub.Detokenize(generation_pb2.DetokenizeRequest(), timeout=10, metadata=metadata)
    return int(answer.text)


async def reason_why_not(address: str, tls: Tls | None) -> str:
    """Return what an operator is told of a call that the room does not take; callers are told less."""
    async with connect(address, tls=tls) as channel:
        with pytest.raises(Unavailable, match="The kitchen service is not available") as refused:
            await seen(channel)
        # As probes are told.
        assert str(refused.value.private)[-80:] == (await why_not_serving(channel, timeout_s=5))[-80:]
    return str(refused.value.private)


async def test_rooms_of_one_authority_answer_each_other(authority: Authority) -> None:
    async with kitchen(shown(authority, "kitchen")) as room, connect(room.address, tls=shown(authority)) as channel:
        assert await seen(channel) == serial_of(authority.file.parent / "room.pem")
        assert await why_not_serving(channel, timeout_s=5) == ""


@pytest.mark.parametrize("whose", ["expired", "a stranger's", "none", "plain text"])
async def test_a_caller_with_no_good_certificate_is_refused(
    authority: Authority, stranger: Authority, whose: str
) -> None:
    async with kitchen(shown(authority, "kitchen")) as room:
        match whose:
            case "expired":
                reason = await reason_why_not(room.address, shown(authority, expired=True))
            case "a stranger's":
                reason = await reason_why_not(room.address, shown(stranger, trusts=authority))
            case "none":
                bare = grpc.ssl_channel_credentials(authority.file.read_bytes())
                async with grpc.aio.secure_channel(room.address, bare) as channel:
                    reason = await why_not_serving(channel, timeout_s=5)
            case _:
                reason = await reason_why_not(room.address, None)
        # The library keeps to itself what the room did not like; the places to look at are named.
        assert "tls_cert_file" in reason
        assert "tls_ca_file" in reason
        # Nobody else is disturbed.
        async with connect(room.address, tls=shown(authority)) as channel:
            await seen(channel)


@pytest.mark.parametrize(
    ("whose", "said"),
    [
        ("expired", "certificate has expired"),
        ("a stranger's", "unable to get local issuer certificate"),
        ("another host's", "(?i)peer name|hostname"),
        ("plain text", "WRONG_VERSION_NUMBER|tls_cert_file"),
    ],
)
async def test_a_room_with_no_good_certificate_is_not_called(
    authority: Authority, stranger: Authority, whose: str, said: str
) -> None:
    match whose:
        case "expired":
            tls: Tls | None = shown(authority, "kitchen", expired=True)
        case "a stranger's":
            tls = shown(stranger, "kitchen", trusts=authority)
        case "another host's":
            tls = shown(authority, "kitchen", elsewhere=True)
        case _:
            tls = None
    async with kitchen(tls) as room:
        reason = await reason_why_not(room.address, shown(authority))
    assert re.search(said, reason), reason


async def test_replicas_are_called_by_number_and_checked_by_name(authority: Authority) -> None:
    """Certificates carry addresses, or the one name that callers are told."""
    async with AsyncExitStack() as stack:
        by_number = [await stack.enter_async_context(kitchen(shown(authority, "kitchen"))) for _ in range(2)]
        by_name = [
            await stack.enter_async_context(kitchen(shown(authority, "kitchen.svc", elsewhere=True))) for _ in range(2)
        ]
        caller = shown(authority)

        async def answers(channel: grpc.aio.Channel) -> bool:
            assert isinstance(channel, ReplicaChannel)
            return [await why_not_serving(one, timeout_s=5) for one in channel.replicas] == ["", ""]

        def listed(rooms: list[Kitchen]) -> str:
            return f"ipv4:{','.join(room.address for room in rooms)}"

        async with connect_replicas(listed(by_number), tls=caller) as channel:
            assert await answers(channel)
            await seen(channel)
        async with connect_replicas(listed(by_name), tls=caller) as channel:
            assert not await answers(channel)
        told = Tls(caller.files, "kitchen.svc")
        async with connect_replicas(listed(by_name), tls=told) as channel:
            assert await answers(channel)
            await seen(channel)

        # A headless service: the name leads to numbers, and certificates are for the name.
        async def resolve(host: str, port: int) -> list[str]:
            return [room.address for room in by_name]

        headless = ReplicaChannel(
            "kitchen.svc:1",
            connect=lambda address, name: connect(address, tls=caller, server_name=name),
            resolve=resolve,
        )
        async with headless:
            await headless.look_up()
            assert await answers(headless)
            await seen(headless)


async def test_a_caller_shows_the_files_of_the_moment(authority: Authority, tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path / "mounted")
    secret.put(authority.sign("before"), authority)
    async with kitchen(shown(authority, "kitchen")) as room, connect(room.address, tls=mounted(secret)) as channel:
        assert await seen(channel) == serial_of(secret.cert)
        stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        with remote("kitchen", token=token()) as metadata:
            running = stub.Generate(generation_pb2.GenerateRequest(), timeout=60, metadata=metadata)
            words = [(await anext(aiter(running))).text]
            ca, cert, key = secret.contents
            secret.put(authority.sign("after"), authority)
            after = serial_of(secret.cert)
            async with asyncio.timeout(30):
                while await seen(channel) != after:
                    await asyncio.sleep(0.1)
            # What runs on the connection before ends there.
            room.servicer.go_on.set()
            words += [part.text async for part in running]
        assert words == ["one", "two"]
        # Half a file changes nothing.
        secret.put_bytes(ca, cert[:100], key)
        await asyncio.sleep(1.5)
        assert await seen(channel) == after


async def test_a_room_shows_and_trusts_the_files_of_the_moment(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    secret = MountedSecret(tmp_path / "mounted")
    secret.put(authority.sign("kitchen"), authority)
    of_before, of_after = shown(authority), shown(stranger)
    async with kitchen(mounted(secret)) as room:

        async def answers(tls: Tls) -> bool:
            async with connect(room.address, tls=tls) as channel:
                return await why_not_serving(channel, timeout_s=5) == ""

        async with connect(room.address, tls=of_before) as standing:
            await seen(standing)
            assert not await answers(of_after)
            # Half a file changes nothing.
            secret.put_bytes(secret.contents[0], b"-----BEGIN", secret.contents[2])
            await asyncio.sleep(1.5)
            assert await answers(of_before)
            secret.put(stranger.sign("kitchen"), stranger)
            async with asyncio.timeout(30):
                while not await answers(of_after):
                    await asyncio.sleep(0.1)
            assert not await answers(of_before)
            # What stands goes on.
            await seen(standing)


def test_settings_of_tls_go_together(authority: Authority) -> None:
    certificate, key = authority.sign("room")
    assert tls_of(RoomSettings()) is None
    with pytest.raises(InvalidInput, match="go together"):
        tls_of(RoomSettings(tls_cert_file=certificate, tls_key_file=key))
    with pytest.raises(InvalidInput, match="tls_server_name"):
        tls_of(RoomSettings(tls_server_name="kitchen.svc"))
    found = tls_of(
        RoomSettings(
            tls_cert_file=certificate, tls_key_file=key, tls_ca_file=authority.file, tls_server_name="kitchen.svc"
        )
    )
    assert found is not None
    assert found.server_name == "kitchen.svc"
    assert found.files.current().authorities == authority.file.read_bytes()
