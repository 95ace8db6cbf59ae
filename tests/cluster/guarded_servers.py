"""Servers of a test's own that let in who shows a certificate of their authority, and callers that reach them.

Each class below is a server with its caller: `reach` makes a new connection, with the files of the moment, and asks something.
"""

import asyncio
import ssl
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import text
from weaviate.classes.config import Configure

from gateway.backends.redis_counters import RedisCounters
from services.chassis.blobs import open_blobs
from services.chassis.database import Database
from services.chassis.errors import Unavailable
from services.chassis.events.kafka_access import kafka_access
from services.chassis.events.log import EventLog, open_event_log
from services.chassis.redis_access import RedisAccess, RedisSettings
from services.chassis.settings import EventSettings, RoomSettings
from services.retrieval.backends.weaviate_server import WeaviateServer, answered
from tests.certificates import Authority
from tests.cluster.servers.kafka import KafkaServer
from tests.cluster.servers.postgres import USER, PostgresServer
from tests.cluster.servers.process import ServerProcess
from tests.cluster.servers.redis import RedisServer
from tests.cluster.servers.s3 import S3Server
from tests.cluster.servers.weaviate import WeaviateServer as WeaviateProcess
from tests.tcp_relay import relays

PASSWORD = "correct: horse/battery"
# Longer than REST's connections to Weaviate are kept without work (5 s).
_REST_KEPT_S = 5.5


@dataclass(frozen=True)
class Shown:
    """The files that a caller is given."""

    ca: Path
    cert: Path | None
    key: Path | None


class Caller(ABC):
    """Reaches a server over and over, each time over a new connection."""

    @abstractmethod
    async def reach(self) -> None:
        """Connect and ask something.

        Raises:
            Unavailable: One of the two does not take the other's certificate.
        """

    async def close(self) -> None:  # noqa: B027  most keep nothing open
        """Let go of the server."""


class Guarded(ABC):
    """A server that lets in who shows a certificate of its authority.

    Attributes:
        authority: Whom it trusts.
        password: File with the password that it asks for, too, where it is one that does.
        process: The server.
        at: Its addresses, `host:port`.

    Args:
        folder: A folder of its own.
        expired: Its certificate was good until yesterday.
    """

    process: ServerProcess
    at: Sequence[str]

    def __init__(self, folder: Path, *, expired: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(folder)
        self.password = folder / "password"
        self.password.write_text(f"{PASSWORD}\n")
        certificate, key = self.authority.sign("server", expired=expired)
        self.make(folder / "server", (certificate, key, self.authority.file))
        self.process.start()

    @abstractmethod
    def make(self, folder: Path, tls: tuple[Path, Path, Path]) -> None:
        """Make the process with a certificate, its key, and authorities."""

    @abstractmethod
    def caller(self, shown: Shown, at: Sequence[str] = ()) -> Caller:
        """Return somebody who shows these files; `at` is where the server is found instead."""

    @asynccontextmanager
    async def expired(self) -> AsyncIterator[Callable[[Shown], Caller]]:
        """Yield what makes callers of a server whose certificate has ended."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.authority.sign("late", expired=True))
        async with relays(*self.at, context=context) as ports:
            yield lambda shown: self.caller(shown, [f"127.0.0.1:{one.port}" for one in ports])


class GuardedKafka(Guarded):
    """A broker that asks for a certificate and a password."""

    user = "brain"

    def make(self, folder: Path, tls: tuple[Path, Path, Path]) -> None:
        certificate, key, authorities = tls
        store = folder.parent / "store.pem"
        store.write_text(key.read_text() + certificate.read_text())
        room = Shown(self.authority.file, *self.authority.sign("room"))
        process = KafkaServer(
            folder,
            settings={
                "listeners": "SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": "SASL_SSL://127.0.0.1:{port}",
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
                "inter.broker.listener.name": "SASL_SSL",
                "sasl.enabled.mechanisms": "SCRAM-SHA-256",
                "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-256",
                "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required "
                    f'username="{self.user}" password="{PASSWORD}";'
                ),
                # By the listener's name: the general setting is not for listeners with SASL.
                "listener.name.sasl_ssl.ssl.client.auth": "required",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(store),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(authorities),
                "ssl.endpoint.identification.algorithm": "",
            },
            format_arguments=["--add-scram", f"SCRAM-SHA-256=[name={self.user},password={PASSWORD},iterations=4096]"],
            client=kafka_access(self.settings(room), tls=True),
        )
        self.process, self.at = process, [process.address]

    def settings(self, shown: Shown, **changed: Any) -> EventSettings:
        """Return what a room is told that shows these files."""
        given: dict[str, Any] = {
            "events_user": self.user,
            "events_password_file": self.password,
            "events_mechanism": "SCRAM-SHA-256",
            "events_ca_file": shown.ca,
            "events_cert_file": shown.cert,
            "events_cert_key_file": shown.key,
        }
        return EventSettings(**(given | changed))

    def caller(self, shown: Shown, at: Sequence[str] = ()) -> Caller:
        [address] = at or self.at
        return _KafkaCaller(open_event_log(f"kafkas://{address}", access=self.settings(shown)))


class _KafkaCaller(Caller):
    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def reach(self) -> None:
        # A group that nobody knows has a client of its own.
        await self._log.read("brain.kitchen.v1", uuid.uuid4().hex, wait_s=0)

    async def close(self) -> None:
        await self._log.close()


class GuardedRedis(Guarded):
    """A Redis that asks for a certificate and a password."""

    def make(self, folder: Path, tls: tuple[Path, Path, Path]) -> None:
        certificate, key, authorities = map(str, tls)
        process = RedisServer(
            folder,
            arguments=[
                *("--tls-port", "{tls_port}", "--tls-auth-clients", "yes", "--tls-ca-cert-file", authorities),
                *("--tls-cert-file", certificate, "--tls-key-file", key, "--requirepass", PASSWORD),
            ],
        )
        self.process, self.at = process, [urlsplit(process.tls_url).netloc]

    def access(self, shown: Shown, at: Sequence[str] = (), **changed: Any) -> RedisAccess:
        """Return the access of a room that shows these files."""
        given: dict[str, Any] = {
            "redis_password_file": self.password,
            "redis_ca_file": shown.ca,
            "redis_cert_file": shown.cert,
            "redis_cert_key_file": shown.key,
        }
        [address] = at or self.at
        return RedisAccess.of(f"rediss://{address}/0", RedisSettings(**(given | changed)))

    def caller(self, shown: Shown, at: Sequence[str] = ()) -> Caller:
        return RedisCaller(self.access(shown, at))


class RedisCaller(Caller):
    """Counts, as a gateway does."""

    def __init__(self, access: RedisAccess) -> None:
        self._access = access

    async def reach(self) -> None:
        alone = Counter("alone", "Counted alone.", registry=CollectorRegistry())
        counters = RedisCounters(self._access, alone=alone)
        assert (await counters.draw(uuid.uuid4().hex, 10)).allowed
        await counters.close()
        if alone._value.get():
            raise Unavailable("It counted alone.")


class GuardedPostgres(Guarded):
    """A PostgreSQL that asks for a certificate of the user's name and a password."""

    def make(self, folder: Path, tls: tuple[Path, Path, Path]) -> None:
        process = PostgresServer(folder, tls=tls, password=PASSWORD)
        self.process, self.at = process, [urlsplit(process.url).netloc.rpartition("@")[2]]

    def database(self, shown: Shown, **changed: Any) -> Database:
        """Return the database of a room that shows these files."""
        given: dict[str, Any] = {
            "database_password_file": self.password,
            "database_ca_file": shown.ca,
            "database_cert_file": shown.cert,
            "database_cert_key_file": shown.key,
        }
        return Database(
            f"postgresql://{USER}@{self.at[0]}/postgres?schema=kitchen", access=RoomSettings(**(given | changed))
        )

    def caller(self, shown: Shown, at: Sequence[str] = ()) -> Caller:
        return PostgresCaller(self.database(shown))

    @asynccontextmanager
    async def expired(self) -> AsyncIterator[Callable[[Shown], Caller]]:
        """Yield what makes callers of another server: no relay speaks PostgreSQL's way into TLS."""
        late = type(self)(self.password.parent / "late", expired=True)
        try:
            yield lambda shown: late.caller(Shown(late.authority.file, shown.cert, shown.key))
        finally:
            late.process.stop()


class PostgresCaller(Caller):
    """Asks the server whom it sees.

    Attributes:
        serial: Serial number of the certificate that the server saw last.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.serial = 0

    async def reach(self) -> None:
        await self._database.engine.dispose()
        async with self._database.connect() as connection:
            seen = text("SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            self.serial = int(await connection.scalar(seen))

    async def close(self) -> None:
        await self._database.close()


class GuardedWeaviate(Guarded):
    """A Weaviate whose REST asks for a certificate; its gRPC asks for the key alone."""

    def make(self, folder: Path, tls: tuple[Path, Path, Path]) -> None:
        self.process = process = WeaviateProcess(folder, tls=tls)
        self.at = [urlsplit(process.http).netloc, process.grpc]
        self._key = process.key

    def caller(self, shown: Shown, at: Sequence[str] = ()) -> Caller:
        rest, grpc = at or self.at
        server = WeaviateServer.of_url(
            f"weaviates://{rest}?grpc={grpc}",
            key=self._key,
            ca_file=shown.ca,
            cert_file=shown.cert,
            cert_key_file=shown.key,
            query_timeout_s=5.0,
        )
        return _WeaviateCaller(server)


class _WeaviateCaller(Caller):
    def __init__(self, server: WeaviateServer) -> None:
        self._client = server.client()
        self._name = f"Test{uuid.uuid4().hex}"

    async def reach(self) -> None:
        is_connected = self._client.is_connected()
        if is_connected:
            await asyncio.sleep(_REST_KEPT_S)
        # The library repeats for a minute what found nobody.
        async with answered(20.0):
            if not is_connected:
                await self._client.connect()
            if not await self._client.collections.exists(self._name):
                multi = Configure.multi_tenancy(enabled=True)
                await self._client.collections.create(self._name, multi_tenancy_config=multi)
            await self._client.collections.use(self._name).tenants.get_by_names(["nobody"])

    async def close(self) -> None:
        await self._client.close()


class GuardedS3(Guarded):
    """An S3 store that speaks TLS; it asks callers for keys, not for certificates."""

    def make(self, folder: Path, tls: tuple[Path, Path, Path]) -> None:
        self.process = process = S3Server(folder, tls=tls[:2])
        self.at = [urlsplit(process.url).netloc]
        self.keys = {"AWS_ACCESS_KEY_ID": process.access_key, "AWS_SECRET_ACCESS_KEY": process.secret_key}

    def caller(self, shown: Shown, at: Sequence[str] = ()) -> Caller:
        [address] = at or self.at
        return _S3Caller(f"s3://{S3Server.bucket}/room?endpoint=https://{address}&region=us-east-1&ca_file={shown.ca}")


class _S3Caller(Caller):
    def __init__(self, url: str) -> None:
        self._store = open_blobs(url)

    async def reach(self) -> None:
        await self._store.put("a", b"bytes")
        assert await self._store.get("a") == b"bytes"
