"""What stands between the wire and a servicer: telemetry, then errors, then identity and policy.

A malformed message is INVALID_ARGUMENT (grpcio alone answers INTERNAL), a member of the error family its own status
with the public message, anything else INTERNAL with the details in the log only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from urllib.parse import quote

import grpc
import structlog
from google.protobuf.message import DecodeError
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import CollectorRegistry, Counter, Histogram

from services.chassis.auth import Bearer, Caller, Delegates, Policy, TokenVerifier, enter
from services.chassis.errors import (
    BrainError,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    PermissionDenied,
    Unauthenticated,
    grpc_status,
)
from services.chassis.telemetry import remote_context, tracer

__all__ = ["CODE_KEY", "PARAM_KEY", "RETRY_AFTER_KEY", "RoomInterceptor", "RpcMetrics"]

CODE_KEY = "brain-error-code"
PARAM_KEY = "brain-error-param"
RETRY_AFTER_KEY = "brain-retry-after-s"
# Of the specification of retries (gRFC A6): a number below zero says not to ask again.
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
# An answer of "not available" that took longer is not asked for again: what it waited for would be waited for again, until the
# caller's deadline takes the place of the reason.
_ASK_AGAIN_S = 1.0
# Probes come without a token and often without a deadline.
_OPEN_PREFIX = "/grpc.health.v1.Health/"
# Deadlines travel rounded up.
_DEADLINE_SLACK_S = 5.0

_log = structlog.get_logger()
_tracer = tracer("brain.rpc")

Context = grpc.aio.ServicerContext[Any, Any]


class RpcMetrics:
    """What every room's gRPC server counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "brain_grpc_server_handled_total",
            "RPCs completed by the server.",
            ["grpc_service", "grpc_method", "grpc_code"],
            registry=registry,
        )
        self.seconds = Histogram(
            "brain_grpc_server_handling_seconds",
            "Seconds from the start of an RPC to its end.",
            ["grpc_service", "grpc_method"],
            registry=registry,
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300),
        )
        self.denied = Counter(
            "brain_authz_denied_total",
            "RPCs refused before they reached a servicer.",
            ["reason"],
            registry=registry,
        )


class _Malformed:
    """Stands for a message that could not be read, until an error can be answered."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _checked(message: Any) -> Any:
    if isinstance(message, _Malformed):
        raise InvalidInput("The message is not valid protobuf of the type that this RPC takes.", private=message.reason)
    return message


async def _checked_stream(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield _checked(message)


class RoomInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every RPC of a room.

    Args:
        policy: Roles by full method name; what is not listed is refused.
        verifier: Reads the callers' tokens.
        metrics: Where RPCs are counted.
        max_deadline_s: Longest deadline a caller may set.
        delegates: Methods by worker room that its tokens are taken for; a worker that is not listed is refused.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        verifier: TokenVerifier,
        metrics: RpcMetrics,
        max_deadline_s: float,
        delegates: Delegates | None = None,
    ) -> None:
        self._policy = policy
        self._delegates = delegates or {}
        self._verifier = verifier
        self._metrics = metrics
        self._max_deadline_s = max_deadline_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the RPC, wrapped."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_OPEN_PREFIX):
            return handler
        return _wrap(self, handler, method)

    def admit(self, method: str, context: Context) -> Caller:
        """Return who is calling, if the policy lets them.

        Raises:
            Unauthenticated: No valid token.
            PermissionDenied: The method is not listed, not for the caller's roles, or not for the worker that signed.
            InvalidInput: No deadline.
        """
        metadata = dict(context.invocation_metadata() or ())
        token = str(metadata.get("authorization", "")).removeprefix("Bearer ")
        try:
            caller = self._identified(token, method)
        except (Unauthenticated, PermissionDenied) as error:
            self._metrics.denied.labels(reason=error.code).inc()
            raise
        remaining = context.time_remaining()
        # grpcio gives a very large number where there is no deadline.
        if remaining is None or remaining > self._max_deadline_s + _DEADLINE_SLACK_S:
            raise InvalidInput(f"Every call needs a deadline of at most {self._max_deadline_s:g} s.", param="deadline")
        enter(caller, token)
        return caller

    def _identified(self, token: str, method: str) -> Caller:
        if not token:
            raise Unauthenticated("This call carries no internal token.")
        bearer = self._verifier.verify(token)
        if bearer.worker:
            self._check_worker(bearer, method)
        if not bearer.caller.may(self._policy.get(method, frozenset())):
            raise PermissionDenied(f"The roles of the caller do not allow {method}.")
        return bearer.caller

    def _check_worker(self, bearer: Bearer, method: str) -> None:
        """Refuse a worker's token that names no work, or a method that is not listed for the worker."""
        if bearer.work and method in self._delegates.get(bearer.worker, frozenset()):
            return
        # A room asks only for what is listed: whoever asks for more has its key, or a bug.
        _log.warning("worker_refused", worker=bearer.worker, work=bearer.work, method=method)
        if not bearer.work:
            raise PermissionDenied(f"The token of the worker {bearer.worker!r} does not say for which work it acts.")
        raise PermissionDenied(f"The worker {bearer.worker!r} may not call {method}.")

    @contextmanager
    def observed(self, method: str, context: Context) -> Iterator[_Outcome]:
        """Count and trace an RPC; keep the error that it ended with."""
        service, _, name = method.lstrip("/").partition("/")
        metadata = {key: str(value) for key, value in (context.invocation_metadata() or ())}
        outcome = _Outcome()
        began = time.perf_counter()
        with _tracer.start_as_current_span(
            f"{service}/{name}",
            context=remote_context(metadata),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            status = grpc.StatusCode.CANCELLED
            try:
                yield outcome
                status = grpc_status(outcome.error) if outcome.error else grpc.StatusCode.OK
            finally:
                span.set_attribute("rpc.grpc.status_code", status.value[0])
                if outcome.error is not None:
                    span.set_status(Status(StatusCode.ERROR, outcome.error.code))
                self._metrics.handled.labels(grpc_service=service, grpc_method=name, grpc_code=status.name).inc()
                outcome.took_s = time.perf_counter() - began
                self._metrics.seconds.labels(grpc_service=service, grpc_method=name).observe(outcome.took_s)


class _Outcome:
    """How an RPC ended, and after how long."""

    __slots__ = ("error", "took_s")

    def __init__(self) -> None:
        self.error: BrainError | None = None
        self.took_s = 0.0


def _as_family(error: Exception, method: str) -> BrainError:
    """Return the member of the family that stands for `error`, logging what the caller must not see."""
    if isinstance(error, BrainError):
        if error.private or isinstance(error, Internal):
            _log.warning("rpc_failed", method=method, code=error.code, private=error.private)
        return error
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("The work took longer than its deadline.", private=repr(error))
    _log.error("rpc_crashed", method=method, exc_info=error)
    return Internal("Something went wrong on our side; the log has the details.")


async def _abort(context: Context, error: BrainError, *, took_s: float) -> None:
    trailing = [(CODE_KEY, error.code)]
    if took_s > _ASK_AGAIN_S:
        trailing.append((_PUSHBACK_KEY, "-1"))
    if error.param is not None:
        trailing.append((PARAM_KEY, quote(error.param, safe="[]._-")))
    if error.retry_after_s is not None:
        trailing.append((RETRY_AFTER_KEY, f"{error.retry_after_s:.3f}"))
    await context.abort(grpc_status(error), error.message, trailing_metadata=tuple(trailing))


async def _until_error(
    room: RoomInterceptor,
    method: str,
    context: Context,
    outcome: _Outcome,
    produce: Callable[[], AsyncGenerator[Any, None]],
) -> AsyncGenerator[Any, None]:
    """Admit the caller and yield the messages of a stream; an error ends them and is noted."""
    try:
        room.admit(method, context)
        async with aclosing(produce()) as messages:
            async for message in messages:
                yield message
    except Exception as error:  # noqa: BLE001  the outermost loop of an RPC
        outcome.error = _as_family(error, method)


async def _write(context: Context, message: Any) -> None:
    """Send a message of a stream.

    Raises:
        CancelledError: The caller left, which a write may notice before the task is cancelled.
    """
    try:
        await context.write(message)
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error


def _wrap(
    room: RoomInterceptor, handler: grpc.RpcMethodHandler[Any, Any], method: str
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler of the same kind that observes, translates errors and admits."""
    inner: Any = handler
    streams_in, streams_out = inner.request_streaming, inner.response_streaming
    behaviour = {
        (False, False): inner.unary_unary,
        (False, True): inner.unary_stream,
        (True, False): inner.stream_unary,
        (True, True): inner.stream_stream,
    }[streams_in, streams_out]

    def read(data: bytes) -> Any:
        try:
            return inner.request_deserializer(data)
        except DecodeError as error:
            return _Malformed(repr(error))

    def taken(request: Any) -> Any:
        return _checked_stream(request) if streams_in else _checked(request)

    async def answer(request: Any, context: Context) -> Any:
        with room.observed(method, context) as outcome:
            try:
                room.admit(method, context)
                return await behaviour(taken(request), context)
            except Exception as error:  # noqa: BLE001  the outermost loop of an RPC
                outcome.error = _as_family(error, method)
        await _abort(context, outcome.error, took_s=outcome.took_s)
        return None

    # Writes by itself: grpc leaves a generator standing where a write fails or is cancelled, and whoever collects it
    # would end the work later, in a task that is not the one that began it.
    async def stream(request: Any, context: Context) -> None:
        with room.observed(method, context) as outcome:
            admitted = _until_error(room, method, context, outcome, lambda: behaviour(taken(request), context))
            async with aclosing(admitted) as produced:
                async for message in produced:
                    await _write(context, message)
        if outcome.error is not None:
            await _abort(context, outcome.error, took_s=outcome.took_s)

    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[streams_in, streams_out]
    wrapped: grpc.RpcMethodHandler[Any, Any] = make(
        stream if streams_out else answer, request_deserializer=read, response_serializer=inner.response_serializer
    )
    return wrapped
