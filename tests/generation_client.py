"""A generation room as tests see it: an address, keys to speak to it, its folders, its metrics."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from brain.generation.v1 import generation_pb2 as pb
from brain.generation.v1 import generation_pb2_grpc, model_pb2, model_pb2_grpc
from brain.types.v1 import sampling_pb2 as types
from services.chassis.auth import Caller, Role, TokenMinter, generate_key_pair
from services.chassis.rpc.client import connect, remote

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 240


@dataclass
class Answer:
    """What one request streamed."""

    messages: list[pb.GenerateResponse] = field(default_factory=list)

    @property
    def first(self) -> pb.GenerateResponse:
        return self.messages[0]

    @property
    def last(self) -> pb.GenerateResponse:
        return self.messages[-1]

    def text(self, index: int = 0) -> str:
        return "".join(message.text for message in self.messages if message.index == index)

    def ids(self, index: int = 0) -> list[int]:
        return [it for message in self.messages if message.index == index for it in message.token_ids]

    def logprobs(self) -> list[types.TokenLogprob]:
        return [it for message in self.messages for it in message.logprobs]


def conversation(*turns: str, system: str = "") -> pb.Conversation:
    """Alternate user and assistant turns, the user first."""
    messages = [types.Message(role="system", content=system)] if system else []
    messages += [
        types.Message(role="assistant" if place % 2 else "user", content=turn) for place, turn in enumerate(turns)
    ]
    return pb.Conversation(messages=messages)


def as_prompt(value: str | pb.Conversation | list[int]) -> pb.Prompt:
    match value:
        case str():
            return pb.Prompt(text=value)
        case list():
            return pb.Prompt(token_ids=pb.TokenIds(ids=value))
        case _:
            return pb.Prompt(conversation=value)


class Client:
    """Speaks to a room as one tenant."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.service = generation_pb2_grpc.GenerationServiceStub(channel)
        self.models = model_pb2_grpc.ModelServiceStub(channel)
        self._token = token

    async def stream(
        self, prompt: str | pb.Conversation | list[int], *, model: str = "", **sampling: object
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        request = pb.GenerateRequest(model=model, prompt=as_prompt(prompt), sampling=types.Sampling(**sampling))  # type: ignore[arg-type]
        with remote("generation", token=self._token) as metadata:
            call = self.service.Generate(request, timeout=DEADLINE_S, metadata=metadata)
            try:
                async for message in call:
                    yield message
            finally:
                call.cancel()

    async def ask(self, prompt: str | pb.Conversation | list[int], *, model: str = "", **sampling: object) -> Answer:
        return Answer([message async for message in self.stream(prompt, model=model, **sampling)])

    async def score(
        self, prompt: str | pb.Conversation | list[int], *continuations: str, model: str = ""
    ) -> list[pb.ContinuationScore]:
        request = pb.ScoreRequest(model=model, prompt=as_prompt(prompt), continuations=continuations)
        with remote("generation", token=self._token) as metadata:
            return list((await self.service.Score(request, timeout=DEADLINE_S, metadata=metadata)).scores)

    async def tokenize(
        self, *texts: str, conversation: pb.Conversation | None = None, model: str = ""
    ) -> pb.TokenizeResponse:
        request = pb.TokenizeRequest(model=model, texts=texts, conversation=conversation)
        with remote("generation", token=self._token) as metadata:
            return await self.service.Tokenize(request, timeout=DEADLINE_S, metadata=metadata)

    async def detokenize(self, ids: list[int]) -> str:
        request = pb.DetokenizeRequest(token_ids=pb.TokenIds(ids=ids))
        with remote("generation", token=self._token) as metadata:
            return (await self.service.Detokenize(request, timeout=DEADLINE_S, metadata=metadata)).text

    async def list(self) -> list[model_pb2.Model]:
        with remote("generation", token=self._token) as metadata:
            answer = await self.models.ListModels(model_pb2.ListModelsRequest(), timeout=DEADLINE_S, metadata=metadata)
        return [*answer.models]

    async def register(self, name: str, path: str | Path) -> model_pb2.RegisterAdapterResponse:
        request = model_pb2.RegisterAdapterRequest(name=name, path=str(path))
        with remote("generation", token=self._token) as metadata:
            return await self.models.RegisterAdapter(request, timeout=DEADLINE_S, metadata=metadata)

    async def check(self, config_key: str, weights_key: str) -> model_pb2.CheckAdapterResponse:
        request = model_pb2.CheckAdapterRequest(config_blob_key=config_key, weights_blob_key=weights_key)
        with remote("generation", token=self._token) as metadata:
            return await self.models.CheckAdapter(request, timeout=DEADLINE_S, metadata=metadata)

    async def withhold(self, **revisions: int) -> None:
        adapters = [model_pb2.WithheldAdapter(name=name, revision=revision) for name, revision in revisions.items()]
        request = model_pb2.WithholdAdaptersRequest(adapters=adapters)
        with remote("generation", token=self._token) as metadata:
            await self.models.WithholdAdapters(request, timeout=DEADLINE_S, metadata=metadata)

    async def unregister(self, name: str) -> None:
        request = model_pb2.UnregisterAdapterRequest(name=name)
        with remote("generation", token=self._token) as metadata:
            await self.models.UnregisterAdapter(request, timeout=DEADLINE_S, metadata=metadata)


@dataclass(frozen=True)
class GenerationRoom:
    """A room that runs. `state_dir` is a stack's: `keys/internal.pem` and `generation/` lie in it."""

    address: str
    metrics_address: str
    state_dir: Path
    pid: int = 0

    @property
    def adapters(self) -> Path:
        return self.state_dir / "generation" / "adapters"

    @asynccontextmanager
    async def client(
        self,
        tenant: str = "acme",
        role: Role = Role.TRAINER,
        *,
        subject: str = "tester",
        groups: frozenset[str] = frozenset(),
    ) -> AsyncIterator[Client]:
        minter = TokenMinter((self.state_dir / "keys" / "internal.pem").read_bytes(), issuer="gateway")
        token = minter.mint(Caller(subject, tenant, groups=groups, roles=frozenset({role})))
        async with connect(self.address) as channel:
            yield Client(channel, token)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", self.metrics(), re.MULTILINE)
        return sum(map(float, found))


@contextmanager
def running_generation(
    state_dir: Path, engine: str, *, timeout_s: float = 300, **settings: object
) -> Iterator[GenerationRoom]:
    """Start `python -m services.generation`, yield it when it is ready, and stop it."""
    keys = state_dir / "keys"
    keys.mkdir(parents=True, exist_ok=True)
    if not (keys / "internal.pem").exists():
        private, public = generate_key_pair()
        (keys / "internal.pem").write_bytes(private)
        (keys / "internal.pub.pem").write_bytes(public)
    listen, metrics = _free_addresses()
    given = {
        "LISTEN": listen,
        "METRICS_LISTEN": metrics,
        "STATE_DIR": str(state_dir / "generation"),
        "EVENTS_URL": f"sqlite:///{state_dir / 'events.db'}",
        "BLOBS_URL": f"file://{state_dir / 'blobs'}",
        "TOKEN_PUBLIC_KEY_FILES": f'["{keys / "internal.pub.pem"}"]',
        "ENGINE": engine,
        "DRAIN_S": "1",
        **{key.upper(): str(value) for key, value in settings.items()},
    }
    log_file = state_dir / "generation.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.generation"],
            cwd=ROOT,
            env=dict(os.environ) | {f"BRAIN_GENERATION_{key}": value for key, value in given.items()},
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + timeout_s
        while "room_ready" not in log_file.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"The room did not start:\n{log_file.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)
        yield GenerationRoom(listen, metrics, state_dir, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _free_addresses() -> tuple[str, str]:
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}", f"127.0.0.1:{other.getsockname()[1]}"
