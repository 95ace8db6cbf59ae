"""The gRPC server that every room runs."""

from collections.abc import Callable
from typing import Any, Final, Self

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from services.chassis.auth import Delegates, Policy, TokenVerifier
from services.chassis.errors import Internal
from services.chassis.lifecycle import Lifecycle
from services.chassis.rpc.interceptors import RoomInterceptor, RpcMetrics
from services.chassis.rpc.tls import Tls, tls_of
from services.chassis.settings import RoomSettings

__all__ = ["MAX_MESSAGE_BYTES", "RpcServer", "methods_of"]

# Largest message in either direction: the stored text of the largest document with room to spare.
MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
# Longest deadline a caller may set: a long answer on a slow machine.
MAX_DEADLINE_S: Final = 900.0

_log = structlog.get_logger()


def methods_of(service: str) -> list[str]:
    """Return the full method names of a service whose generated code has been imported."""
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    return [f"/{service}/{method.name}" for method in descriptor.methods]


class RpcServer:
    """A room's gRPC server with health, limits, policy and telemetry.

    Args:
        room: Name of the room, for logs.
        listen: `host:port`; port 0 takes a free one.
        policy: Roles by full method name.
        verifier: Reads the callers' tokens.
        registry: Where RPCs are counted.
        tls: Certificates; None for plain text (loopback, or a mesh that encrypts).
        delegates: Methods by worker room that its tokens are taken for.
    """

    def __init__(
        self,
        *,
        room: str,
        listen: str,
        policy: Policy,
        verifier: TokenVerifier,
        registry: CollectorRegistry,
        tls: Tls | None = None,
        delegates: Delegates | None = None,
    ) -> None:
        self._room = room
        self._listen = listen
        self._policy = policy
        self._tls = tls
        self._services: list[str] = []
        interceptor = RoomInterceptor(
            policy=policy,
            verifier=verifier,
            metrics=RpcMetrics(registry),
            max_deadline_s=MAX_DEADLINE_S,
            delegates=delegates,
        )
        self._server = grpc.aio.server(
            interceptors=(interceptor,),
            options=(
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                # New replicas get their share: callers reconnect, and look names up again, every half hour.
                ("grpc.max_connection_age_ms", 1_800_000),
                ("grpc.max_connection_age_grace_ms", 900_000),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                # Two processes must never share a port: one would get half of the other's calls.
                ("grpc.so_reuseport", 0),
            ),
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    @classmethod
    def of(
        cls,
        settings: RoomSettings,
        *,
        room: str,
        policy: Policy,
        registry: CollectorRegistry,
        delegates: Delegates | None = None,
    ) -> Self:
        """Return the server that a room's settings describe."""
        return cls(
            room=room,
            listen=settings.listen,
            policy=policy,
            verifier=TokenVerifier(
                [path.read_bytes() for path in settings.token_public_key_files],
                worker_keys={room: path.read_bytes() for room, path in settings.worker_public_key_files.items()},
            ),
            registry=registry,
            tls=tls_of(settings),
            delegates=delegates,
        )

    def add(self, register: Callable[[Any, Any], None], servicer: object, service: str) -> None:
        """Serve `servicer` as `service` (full name).

        Raises:
            Internal: The policy lacks a row for one of its methods.
        """
        missing = [method for method in methods_of(service) if method not in self._policy]
        if missing:
            raise Internal(f"The policy of {self._room} has no row for: {', '.join(missing)}.")
        register(servicer, self._server)
        self._services.append(service)

    async def start(self) -> str:
        """Begin to serve; return the bound address. Health says SERVING only after `set_serving`."""
        if self._tls is None:
            port = self._server.add_insecure_port(self._listen)
        else:
            port = self._server.add_secure_port(self._listen, self._tls.server_credentials())
        await self.set_serving(serving=False)
        await self._server.start()
        host = self._listen.rpartition(":")[0]
        return f"{host}:{port}"

    async def serve(self, life: Lifecycle, *, drain_s: float) -> str:
        """Serve callers until the process ends, and say so to probes; return the bound address."""
        address = await self.start()
        life.on_stop(lambda: self.stop(drain_s), name="rpc")
        await self.set_serving(serving=True)
        return address

    async def set_serving(self, *, serving: bool) -> None:
        """Tell probes and callers whether the room can do its duty."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *self._services):
            await self._health.set(service, status)

    async def stop(self, drain_s: float) -> None:
        """Say NOT_SERVING, refuse new calls, give running ones `drain_s` seconds, then end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(drain_s)
        _log.info("rpc_stopped", room=self._room)
