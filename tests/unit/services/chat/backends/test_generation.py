"""Answers over real channels to replicas of generation that go away at chosen moments."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import grpc

from brain.generation.v1 import generation_pb2 as pb
from brain.generation.v1 import generation_pb2_grpc
from services.chassis.auth import Caller, Role, acting_as
from services.chassis.errors import Unavailable
from services.chassis.rpc.replicas import affinity, connect_replicas
from services.chat.backends.generation import RemoteEngine
from services.chat.domain.turn import Message, Sampling

VERA = Caller("vera", "acme", roles=frozenset({Role.VIEWER}))


@dataclass
class Replica(generation_pb2_grpc.GenerationServiceServicer):
    """Says two words, or goes after so many."""

    goes_after: int | None = None
    calls: list[str] = field(default_factory=list)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        self.calls.append(request.model)
        for said, word in enumerate(("fine", "thanks")):
            if said == self.goes_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            yield pb.GenerateResponse(text=word)

    async def Score(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Tokenize(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Detokenize(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


async def answered(replicas: list[Replica]) -> tuple[list[str], Unavailable | None]:
    """Return the words of an answer, and what it ends with."""
    servers, ports = [], []
    for replica in replicas:
        server = grpc.aio.server()
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(replica, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    words: list[str] = []
    try:
        async with connect_replicas(f"ipv4:{','.join(f'127.0.0.1:{port}' for port in ports)}") as channel:
            engine = RemoteEngine(channel, call_timeout_s=30, first_token_timeout_s=30, stall_timeout_s=30)
            steps = engine.generate([Message("user", "How are you?")], model="", sampling=Sampling())
            with acting_as(VERA, "token"), affinity("conv_1"):
                async with aclosing(steps):
                    async for step in steps:
                        words.append(step.text)  # noqa: PERF401  what came before the error is looked at
    except Unavailable as error:
        return words, error
    finally:
        for server in servers:
            await server.stop(0)
    return words, None


async def test_an_answer_whose_replica_went_before_the_first_word_is_asked_of_another() -> None:
    # Whichever of the two the conversation belongs to.
    for going in range(2):
        replicas = [Replica(), Replica()]
        replicas[going].goes_after = 0
        assert await answered(replicas) == (["fine", "thanks"], None)
        assert len(replicas[going].calls) <= 1
        assert len(replicas[1 - going].calls) == 1


async def test_after_the_first_word_nothing_is_repeated() -> None:
    replicas = [Replica(goes_after=1), Replica(goes_after=1)]
    words, error = await answered(replicas)
    assert (words, error is not None) == (["fine"], True)
    assert sum(len(replica.calls) for replica in replicas) == 1


async def test_replicas_of_which_none_stays_are_given_up() -> None:
    replicas = [Replica(goes_after=0), Replica(goes_after=0)]
    words, error = await answered(replicas)
    assert (words, error is not None) == ([], True)
    assert sum(len(replica.calls) for replica in replicas) == 4
