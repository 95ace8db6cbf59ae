"""Certificates on both sides, to the servers of a cluster behind something that asks for them: who is let in, and files that are
replaced meanwhile."""

import asyncio
import ssl
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import text

from gateway.backends.redis_counters import RedisCounters
from services.chassis.database import Database
from services.chassis.errors import Unavailable
from services.chassis.events.log import open_event_log
from services.chassis.redis_access import RedisAccess, RedisSettings
from services.chassis.settings import EventSettings, RoomSettings
from services.retrieval.backends.weaviate_server import WeaviateServer, answered
from tests.certificates import Authority, MountedSecret, serial_of
from tests.cluster_servers import ClusterServers
from tests.tcp_relay import TcpRelay, relays

pytestmark = pytest.mark.cluster

# Longer than REST's connections to Weaviate are kept without work (5 s).
_REST_KEPT_S = 5.5


@dataclass(frozen=True)
class Shown:
    """The files that a caller is given."""

    ca: Path
    cert: Path | None
    key: Path | None


class Caller(ABC):
    """Reaches a server over and over, each time over a new connection with the files of the moment."""

    @abstractmethod
    async def reach(self) -> None:
        """Connect and ask something; `Unavailable` where one of the two does not take the other's certificate."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the server."""


class Redis(Caller):
    def __init__(self, cluster: ClusterServers, ports: list[int], shown: Shown) -> None:
        settings = RedisSettings(redis_ca_file=shown.ca, redis_cert_file=shown.cert, redis_cert_key_file=shown.key)
        self._access = RedisAccess.of(f"rediss://127.0.0.1:{ports[0]}/0", settings)

    async def reach(self) -> None:
        alone = Counter("alone", "Counted alone.", registry=CollectorRegistry())
        counters = RedisCounters(self._access, alone=alone)
        assert (await counters.draw(uuid.uuid4().hex, 10)).allowed
        await counters.close()
        if alone._value.get():
            raise Unavailable("It counted alone.")

    async def close(self) -> None:
        """Nothing is kept open."""


class Postgres(Caller):
    def __init__(self, cluster: ClusterServers, ports: list[int], shown: Shown) -> None:
        user = urlsplit(cluster.postgres).username
        settings = RoomSettings(
            database_ca_file=shown.ca, database_cert_file=shown.cert, database_cert_key_file=shown.key
        )
        self._database = Database(f"postgresql://{user}@127.0.0.1:{ports[0]}/postgres", access=settings)

    async def reach(self) -> None:
        await self._database.engine.dispose()
        async with self._database.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1

    async def close(self) -> None:
        await self._database.close()


class Weaviate(Caller):
    def __init__(self, cluster: ClusterServers, ports: list[int], shown: Shown) -> None:
        server = WeaviateServer.of_url(
            f"weaviates://127.0.0.1:{ports[0]}?grpc=127.0.0.1:{ports[1]}",
            key=cluster.weaviate_key,
            ca_file=shown.ca,
            cert_file=shown.cert,
            cert_key_file=shown.key,
            query_timeout_s=5.0,
        )
        self._client = server.client()

    async def reach(self) -> None:
        is_connected = self._client.is_connected()
        if is_connected:
            await asyncio.sleep(_REST_KEPT_S)
        # The library repeats for a minute what found nobody.
        async with answered(20.0):
            if not is_connected:
                await self._client.connect()
            await self._client.collections.exists("Nothing")

    async def close(self) -> None:
        await self._client.close()


class PostgresRelay(TcpRelay):
    """Begins TLS where PostgreSQL's callers ask for it."""

    context: ssl.SSLContext

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            await writer.start_tls(self.context)
        except (ssl.SSLError, ConnectionError):
            writer.close()
            return
        await super()._meet(reader, writer)


@asynccontextmanager
async def postgres_relay(target: str, context: ssl.SSLContext) -> AsyncIterator[list[TcpRelay]]:
    relay = PostgresRelay(target)
    relay.context = context
    await relay.listen()
    yield [relay]
    await relay.leave()


@dataclass
class Secured:
    """A server of the cluster behind what lets in whom its authority vouches for."""

    authority: Authority
    kind: Callable[[ClusterServers, list[int], Shown], Caller]
    cluster: ClusterServers

    def open(self, *, expired: bool = False) -> AbstractAsyncContextManager[list[TcpRelay]]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority.file)
        context.load_cert_chain(*self.authority.sign("server", expired=expired))
        context.verify_mode = ssl.CERT_REQUIRED
        if self.kind is Postgres:
            return postgres_relay(urlsplit(self.cluster.postgres).netloc.rpartition("@")[2], context)
        if self.kind is Redis:
            return relays(urlsplit(self.cluster.redis).netloc, context=context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return relays(urlsplit(self.cluster.weaviate_http).netloc, self.cluster.weaviate_grpc, context=context)

    @asynccontextmanager
    async def caller(self, shown: Shown, *, expired: bool = False) -> AsyncIterator[Caller]:
        async with self.open(expired=expired) as opened:
            caller = self.kind(self.cluster, [relay.port for relay in opened], shown)
            yield caller
            await caller.close()


@pytest.fixture(params=[Postgres, Redis, Weaviate], ids=lambda kind: kind.__name__.lower())
def secured(request: pytest.FixtureRequest, cluster: ClusterServers, tmp_path: Path) -> Secured:
    return Secured(Authority(tmp_path), request.param, cluster)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "stranger")


async def is_let_in(caller: Caller) -> bool:
    try:
        async with asyncio.timeout(60):
            await caller.reach()
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize(
    "what", ["good", "expired", "another authority's", "none", "the server's is a stranger's", "the server's expired"]
)
async def test_only_good_certificates_meet(secured: Secured, stranger: Authority, what: str) -> None:
    authority = secured.authority
    shown = Shown(authority.file, *authority.sign("room"))
    match what:
        case "expired":
            shown = Shown(authority.file, *authority.sign("late", expired=True))
        case "another authority's":
            shown = Shown(authority.file, *stranger.sign("room"))
        case "none":
            shown = Shown(authority.file, None, None)
        case "the server's is a stranger's":
            shown = Shown(stranger.file, shown.cert, shown.key)
    async with secured.caller(shown, expired=what == "the server's expired") as caller:
        assert await is_let_in(caller) is (what == "good")


async def test_new_connections_use_the_files_of_the_moment(
    secured: Secured, stranger: Authority, tmp_path: Path
) -> None:
    own, secret = secured.authority, MountedSecret(tmp_path / "mounted")
    secret.put(own.sign("room"), own)
    async with secured.caller(Shown(secret.ca, secret.cert, secret.key)) as caller:

        async def until(*, let_in: bool) -> None:
            async with asyncio.timeout(120):
                while await is_let_in(caller) is not let_in:
                    await asyncio.sleep(0.2)

        await until(let_in=True)
        # Whom the server does not know.
        secret.put(stranger.sign("room"), own)
        await until(let_in=False)
        secret.put(own.sign("room"), own)
        await until(let_in=True)
        # Half a file changes nothing.
        ca, cert, key = secret.contents
        secret.put_bytes(ca, cert[:100], key)
        await asyncio.sleep(1.5)
        await caller.reach()
        # An authority that does not vouch for the server; then both, which is how a fleet moves.
        secret.put(own.sign("room"), stranger)
        await until(let_in=False)
        secret.put(own.sign("room"), stranger, own)
        await until(let_in=True)


# The library leaves sockets of refused connections to the garbage collector, which closes them.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_kafkas_new_connections_show_the_certificate_of_the_moment(
    cluster: ClusterServers, tmp_path: Path
) -> None:
    """Brokers send callers on to other addresses, so that nothing stands before them: here nobody answers after the handshake."""
    own, secret = Authority(tmp_path), MountedSecret(tmp_path / "mounted")
    secret.put(own.sign("room"), own)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=own.file)
    context.load_cert_chain(*own.sign("broker"))
    context.verify_mode = ssl.CERT_REQUIRED
    came: set[int] = set()

    def meet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.add(int(writer.get_extra_info("ssl_object").getpeercert()["serialNumber"], 16))
        writer.close()

    settings = EventSettings(events_ca_file=secret.ca, events_cert_file=secret.cert, events_cert_key_file=secret.key)
    async with await asyncio.start_server(meet, "127.0.0.1", 0, ssl=context) as listening:
        log = open_event_log(f"kafkas://127.0.0.1:{listening.sockets[0].getsockname()[1]}", access=settings)
        for _ in range(2):
            came.clear()
            with pytest.raises(Unavailable):
                await log.lag("brain.kitchen.v1", "eaters")
            assert came == {serial_of(secret.cert)}
            secret.put(own.sign("room"), own)
            await asyncio.sleep(1.5)
        await log.close()
