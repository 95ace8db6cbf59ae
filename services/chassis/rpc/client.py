"""Calls to other rooms: one long-lived channel each, with the caller's token, the trace and a deadline on every call.

>>> async def search(stub, request):
...     with remote("retrieval", "Search") as metadata:
...         return await stub.Search(request, timeout=10, metadata=metadata)
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import propagate
from opentelemetry.trace import SpanKind, Status, StatusCode

from services.chassis.auth import current_token
from services.chassis.errors import BrainError, Unauthenticated, Unavailable, from_grpc
from services.chassis.rpc.interceptors import CODE_KEY, PARAM_KEY, RETRY_AFTER_KEY
from services.chassis.rpc.renewed import RenewedChannel
from services.chassis.rpc.server import MAX_MESSAGE_BYTES
from services.chassis.rpc.tls import Tls
from services.chassis.telemetry import tracer

__all__ = ["connect", "is_serving", "reason", "remote", "translated", "why_not_serving"]

_tracer = tracer("brain.rpc")
# Why a call to another room may be tried again: nothing reached it. Jittered by grpc itself.
_RETRY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
# What a room does that does not take a caller's certificate, and one of two of which only one speaks TLS.
_HUNG_UP: Final = (
    " (It hung up before the first call: does one of the two speak TLS and the other not, and is the certificate in"
    " tls_cert_file good and from an authority in the other's tls_ca_file?)"
)


def connect(
    address: str, *, idempotent: Sequence[str] = (), tls: Tls | None = None, server_name: str = ""
) -> grpc.aio.Channel:
    """Return a channel to a room.

    Args:
        address: `host:port`, or any name that grpc resolves.
        idempotent: Full names (`brain.retrieval.v1.SearchService/Search`) of the methods that may be retried.
        tls: Certificates; None for plain text.
        server_name: Name that the room's certificate is for, where it is not that of `address` and `tls` names none.
    """
    names = [dict(zip(("service", "method"), name.split("/", 1), strict=True)) for name in idempotent]
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": names, "retryPolicy": _RETRY}] if names else [],
        # A burst of failures must not become a burst of retries.
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
    }
    options = (
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        # What nobody reads stays where it is made: with probing grpc takes in megabytes for each stream, in each room on its
        # way. 64 KiB in flight are enough within one network.
        ("grpc.http2.bdp_probe", 0),
        # A room that was restarted is found again within a second.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    )
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    name = tls.server_name or server_name
    secured = (*options, ("grpc.ssl_target_name_override", name)) if name else options
    return RenewedChannel(
        tls.files,
        connect=lambda credentials: grpc.aio.secure_channel(address, credentials, options=secured),
    )


def translated(error: grpc.aio.AioRpcError, room: str) -> BrainError:
    """Return the member of the error family that a remote room's answer stands for."""
    trailing = {key: str(value) for key, value in (error.trailing_metadata() or ())}
    code = trailing.get(CODE_KEY)
    status = error.code()
    if code is None and status is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(f"The {room} service is not available.", private=reason(error), retry_after_s=1.0)
    retry_after = trailing.get(RETRY_AFTER_KEY)
    param = trailing.get(PARAM_KEY)
    return from_grpc(
        status,
        error.details() or status.name,
        code=code,
        param=None if param is None else unquote(param),
        retry_after_s=None if retry_after is None else float(retry_after),
    )


@contextmanager
def remote(room: str, method: str = "", *, token: str | None = None) -> Iterator[tuple[tuple[str, str], ...]]:
    """Call another room within the block: yields the call's metadata, and turns its errors into the error family.

    The metadata carries the token (of the request being served, unless one is given) and the trace. The block is a
    client span; that of a stream ends when the block does, a cancelled one included.

    Raises:
        BrainError: What the room answered.
        Unauthenticated: Outside a request and without `token`.
    """
    bearer = token or current_token()
    if bearer is None:
        raise Unauthenticated(f"No token to call the {room} service with.")
    with _tracer.start_as_current_span(
        f"{room}/{method}",
        kind=SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": room, "rpc.method": method},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        try:
            yield (("authorization", f"Bearer {bearer}"), *carrier.items())
        except grpc.aio.AioRpcError as error:
            span.set_status(Status(StatusCode.ERROR, error.code().name))
            raise translated(error, room) from error


async def is_serving(channel: grpc.aio.Channel, *, timeout_s: float = 1.0) -> bool:
    """Return whether the room behind `channel` says that it can do its duty."""
    return not await why_not_serving(channel, timeout_s=timeout_s)


async def why_not_serving(channel: grpc.aio.Channel, *, timeout_s: float = 1.0) -> str:
    """Return why the room behind `channel` cannot do its duty, for an operator; empty when it can."""
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except grpc.aio.AioRpcError as error:
        return reason(error)
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return "" if serving else "it says that it does not serve"


def reason(error: grpc.aio.AioRpcError) -> str:
    """Return what an operator needs to know of a call that came to nothing."""
    said = error.details() or error.code().name
    # The library does not say why the other side hung up. Between rooms it is a certificate more often than anything else.
    refused = "last error:" in said and ("Socket closed" in said or "eset by peer" in said)
    return said + _HUNG_UP if refused else said
