"""A room's server and its callers, over a real channel, with generation's language as the example."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from brain.generation.v1 import generation_pb2, generation_pb2_grpc
from services.chassis.auth import (
    ANYONE,
    Caller,
    Role,
    TokenMinter,
    TokenVerifier,
    WorkerMinter,
    at_least,
    current_caller,
    generate_key_pair,
)
from services.chassis.errors import (
    BrainError,
    Internal,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from services.chassis.rpc import interceptors
from services.chassis.rpc.client import connect, is_serving, remote
from services.chassis.rpc.server import MAX_DEADLINE_S, RpcServer, methods_of

SERVICE = "brain.generation.v1.GenerationService"
VIEWER = Caller("vera", "acme", roles=frozenset({Role.VIEWER}))


@dataclass
class Servicer(generation_pb2_grpc.GenerationServiceServicer):
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            while request.model == "floods":
                yield generation_pb2.GenerateResponse(text="word " * 100_000)
            for word in ("one", "two"):
                yield generation_pb2.GenerateResponse(text=word)
            if request.model == "endless":
                await asyncio.sleep(3600)
            if request.model == "breaks":
                raise Unavailable("The engine died.", retry_after_s=3)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.closed.set()

    async def Score(self, request: Any, context: Any) -> Any:
        raise AssertionError("not reached: the policy refuses it")

    async def Tokenize(self, request: Any, context: Any) -> Any:
        self.asked += 1
        match request.model:
            case "away" | "away after a while":
                await asyncio.sleep(1.1 if request.model != "away" else 0)
                raise Unavailable("The index is away.", retry_after_s=1)
            case "nobody":
                raise NotFound("model: 'nobody' is not served.", param="model")
            case "full":
                raise Overloaded("Too many requests at once.", retry_after_s=1.5)
            case "bug":
                raise ZeroDivisionError("secret details")
        return generation_pb2.TokenizeResponse(context_window=len(current_caller().subject))

    async def Detokenize(self, request: Any, context: Any) -> Any:
        return generation_pb2.DetokenizeResponse(text="ü")


@dataclass
class Room:
    server: RpcServer
    servicer: Servicer
    channel: grpc.aio.Channel
    stub: Any
    minter: TokenMinter
    registry: CollectorRegistry
    worker: WorkerMinter
    address: str

    def token(self, caller: Caller = VIEWER) -> str:
        return self.minter.mint(caller)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    private, public = generate_key_pair()
    worker_private, worker_public = generate_key_pair()
    registry = CollectorRegistry()
    policy = dict.fromkeys(methods_of(SERVICE), ANYONE) | {f"/{SERVICE}/Score": at_least(Role.TRAINER)}
    server = RpcServer(
        room="generation",
        listen="127.0.0.1:0",
        policy=policy,
        verifier=TokenVerifier([public], worker_keys={"finetuning": worker_public}),
        registry=registry,
        delegates={"finetuning": frozenset({f"/{SERVICE}/Tokenize"})},
    )
    servicer = Servicer()
    server.add(generation_pb2_grpc.add_GenerationServiceServicer_to_server, servicer, SERVICE)
    address = await server.start()
    channel = connect(address)
    stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
    minter, worker = TokenMinter(private, issuer="gateway"), WorkerMinter(worker_private, worker="finetuning")
    yield Room(server, servicer, channel, stub, minter, registry, worker, address)
    await channel.close()
    await server.stop(0)


async def tokenize(room: Room, model: str = "") -> Any:
    with remote("generation", "Tokenize", token=room.token()) as metadata:
        return await room.stub.Tokenize(generation_pb2.TokenizeRequest(model=model), timeout=10, metadata=metadata)


async def test_the_caller_arrives(room: Room) -> None:
    assert (await tokenize(room)).context_window == len("vera")


async def test_errors_arrive_as_the_member_that_was_raised(room: Room) -> None:
    with pytest.raises(NotFound, match="nobody") as missing:
        await tokenize(room, "nobody")
    assert missing.value.param == "model"
    with pytest.raises(Overloaded) as full:
        await tokenize(room, "full")
    assert full.value.retry_after_s == 1.5


@pytest.mark.parametrize(("model", "times"), [("away", 4), ("away after a while", 1)])
async def test_who_says_at_once_that_something_is_away_is_asked_again_and_who_waited_for_it_is_not(
    room: Room, model: str, times: int
) -> None:
    channel = connect(room.address, idempotent=[f"{SERVICE}/Tokenize"])
    stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
    with pytest.raises(Unavailable, match="away") as away, remote("generation", token=room.token()) as metadata:
        await stub.Tokenize(generation_pb2.TokenizeRequest(model=model), timeout=3, metadata=metadata)
    assert away.value.retry_after_s == 1
    assert room.servicer.asked == times
    await channel.close()


async def test_a_bug_says_nothing_about_itself(room: Room) -> None:
    with pytest.raises(Internal) as bug:
        await tokenize(room, "bug")
    assert "secret" not in bug.value.message


async def test_without_a_good_token_nothing_is_served(room: Room) -> None:
    for token in ("nonsense", TokenMinter(generate_key_pair()[0], issuer="x").mint(VIEWER)):
        with pytest.raises(Unauthenticated), remote("generation", token=token) as metadata:
            await room.stub.Tokenize(generation_pb2.TokenizeRequest(), timeout=10, metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as bare:
        await room.stub.Tokenize(generation_pb2.TokenizeRequest(), timeout=10)
    assert bare.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_policy_decides_by_role(room: Room) -> None:
    with pytest.raises(PermissionDenied), remote("generation", token=room.token()) as metadata:
        await room.stub.Score(generation_pb2.ScoreRequest(), timeout=10, metadata=metadata)


async def test_a_worker_acts_for_a_caller_where_it_is_listed_and_what_it_asks_beyond_is_counted(room: Room) -> None:
    token = room.worker.mint(VIEWER, work="ftjob-1")
    with remote("generation", "Tokenize", token=token) as metadata:
        answer = await room.stub.Tokenize(generation_pb2.TokenizeRequest(), timeout=10, metadata=metadata)
    assert answer.context_window == len("vera")
    assert room.registry.get_sample_value("brain_authz_denied_total", {"reason": "permission_denied"}) is None
    with pytest.raises(PermissionDenied, match="'finetuning' may not call"), remote("generation", token=token) as sent:
        await room.stub.Detokenize(generation_pb2.DetokenizeRequest(), timeout=10, metadata=sent)
    assert room.registry.get_sample_value("brain_authz_denied_total", {"reason": "permission_denied"}) == 1


async def test_a_call_without_a_deadline_is_refused(room: Room) -> None:
    with pytest.raises(InvalidInput, match="deadline"), remote("generation", token=room.token()) as metadata:
        await room.stub.Tokenize(generation_pb2.TokenizeRequest(), metadata=metadata)


async def test_the_longest_deadline_is_allowed(room: Room) -> None:
    with remote("generation", token=room.token()) as metadata:
        await room.stub.Tokenize(generation_pb2.TokenizeRequest(), timeout=MAX_DEADLINE_S, metadata=metadata)


async def test_malformed_protobuf_is_the_callers_fault(room: Room) -> None:
    raw: Any = room.channel.unary_unary(f"/{SERVICE}/Tokenize")
    with pytest.raises(InvalidInput), remote("generation", token=room.token()) as metadata:
        await raw(b"\xff\xff\xff\xff", timeout=10, metadata=metadata)


async def collected(room: Room, model: str, words: list[str]) -> None:
    with remote("generation", "Generate", token=room.token()) as metadata:
        request = generation_pb2.GenerateRequest(model=model)
        words += [message.text async for message in room.stub.Generate(request, timeout=10, metadata=metadata)]


async def test_a_stream_ends_with_its_end_or_its_error(room: Room) -> None:
    words: list[str] = []
    await collected(room, "", words)
    assert words == ["one", "two"]
    with pytest.raises(Unavailable) as broken:
        await collected(room, "breaks", words)
    assert broken.value.retry_after_s == 3


async def test_a_caller_who_leaves_ends_the_work(room: Room) -> None:
    reading = asyncio.create_task(collected(room, "endless", []))
    await asyncio.sleep(0.3)
    reading.cancel()
    async with asyncio.timeout(30):
        await room.servicer.cancelled.wait()


async def test_a_caller_who_leaves_what_he_does_not_read_ends_the_work(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(interceptors, "_tracer", provider.get_tracer("test"))
    with remote("generation", "Generate", token=room.token()) as metadata:
        request = generation_pb2.GenerateRequest(model="floods")
        call = room.stub.Generate(request, timeout=60, metadata=metadata)
        await call.read()
        # Nobody reads on: the window fills, and the room waits until it may write.
        await asyncio.sleep(0.3)
        call.cancel()
    async with asyncio.timeout(30):
        await room.servicer.closed.wait()
        while not spans.get_finished_spans():
            await asyncio.sleep(0.01)
    labels = {"grpc_service": SERVICE, "grpc_method": "Generate", "grpc_code": "CANCELLED"}
    assert room.registry.get_sample_value("brain_grpc_server_handled_total", labels) == 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_health_tells_the_truth(room: Room) -> None:
    assert not await is_serving(room.channel)
    await room.server.set_serving(serving=True)
    assert await is_serving(room.channel)
    await room.server.set_serving(serving=False)
    assert not await is_serving(room.channel)


async def test_a_room_that_is_away_is_unavailable() -> None:
    channel = connect("127.0.0.1:1")
    stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
    with pytest.raises(Unavailable), remote("generation", token="t") as metadata:
        await stub.Tokenize(generation_pb2.TokenizeRequest(), timeout=10, metadata=metadata)
    await channel.close()


async def test_a_method_without_a_policy_row_does_not_start() -> None:
    server = RpcServer(
        room="generation",
        listen="127.0.0.1:0",
        policy={},
        verifier=TokenVerifier([generate_key_pair()[1]]),
        registry=CollectorRegistry(),
    )
    with pytest.raises(BrainError, match="Tokenize"):
        server.add(generation_pb2_grpc.add_GenerationServiceServicer_to_server, Servicer(), SERVICE)


async def test_rpcs_are_counted_by_outcome(room: Room) -> None:
    await tokenize(room)
    with pytest.raises(NotFound):
        await tokenize(room, "nobody")
    labels = {"grpc_service": SERVICE, "grpc_method": "Tokenize"}
    for code in ("OK", "NOT_FOUND"):
        value = room.registry.get_sample_value("brain_grpc_server_handled_total", labels | {"grpc_code": code})
        assert value == 1
