"""The ASGI application: what happens to every request, whatever its dialect."""

import asyncio
import re
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from opentelemetry import propagate
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.datastructures import Headers

from gateway.api.call import Call, Intake
from gateway.api.errors import HttpFault, error_body, error_headers, status_of
from gateway.api.exchange import Exchange, watched
from gateway.api.replies import Receive, Reply, Send, Stream
from gateway.api.routing import Body, Route, RouteTable
from gateway.domain.identity import ApiKey, AuditEntry, Spent
from gateway.telemetry import SPAN_PREFIX, Metrics
from gateway.usecases.authenticate import Authenticate, InternalTokens
from gateway.usecases.ledger import Ledger
from gateway.usecases.limits import Limits, Quotas
from gateway.usecases.repeat import AnswerOnce
from services.chassis.auth import Policy, acting_as
from services.chassis.errors import (
    BrainError,
    Cancelled,
    Internal,
    Overloaded,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
)
from services.chassis.ids import new_id
from services.chassis.telemetry import tracer

__all__ = ["BodyLimits", "Gateway"]

_log = structlog.get_logger()
_tracer = tracer("brain.gateway")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNMATCHED: Final = "unmatched"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large bodies may be and how long anything may stand still.

    Attributes:
        json_bytes: Largest JSON body.
        upload_bytes: Largest form or raw body.
        patience_s: How long the next piece of a body may take.
        stall_s: How long a reader of a stream may take nothing.
    """

    json_bytes: int
    upload_bytes: int
    patience_s: float
    stall_s: float

    def of(self, route: Route) -> int:
        """Return the most bytes that a route takes."""
        return self.upload_bytes if route.body in {Body.FORM, Body.RAW} else self.json_bytes


class Gateway:
    """Answers HTTP.

    Args:
        table: All routes.
        policy: Roles by route.
        authenticate: Knows keys.
        tokens: Makes internal tokens.
        limits: Holds keys to their limits.
        quotas: Holds tenants to theirs.
        once: Remembers answers for `Idempotency-Key`.
        ledger: Writes usage and audit entries.
        metrics: Where requests are counted.
        bodies: Limits of bodies.
    """

    def __init__(
        self,
        *,
        table: RouteTable,
        policy: Policy,
        authenticate: Authenticate,
        tokens: InternalTokens,
        limits: Limits,
        quotas: Quotas,
        once: AnswerOnce,
        ledger: Ledger,
        metrics: Metrics,
        bodies: BodyLimits,
    ) -> None:
        self._table = table
        self._policy = policy
        self._authenticate = authenticate
        self._tokens = tokens
        self._limits = limits
        self._quotas = quotas
        self._once = once
        self._ledger = ledger
        self._metrics = metrics
        self._bodies = bodies

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        headers = Headers(raw=scope["headers"])
        named = headers.get("x-request-id", "")
        exchange = Exchange(scope, send, named if _REQUEST_ID.fullmatch(named) else new_id("req_"))
        route, path, allowed = self._table.find(scope["method"], scope["path"])
        exchange.route = route
        self._metrics.inflight.inc()
        with _tracer.start_as_current_span(
            f"{SPAN_PREFIX}{route.name if route else _UNMATCHED}",
            context=propagate.extract(headers),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": scope["method"],
                "http.route": route.path if route else _UNMATCHED,
                "brain.request_id": exchange.request_id,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            error: BrainError | None = None
            try:
                error = (
                    _no_route(scope, allowed)
                    if route is None
                    else await self._admit(exchange, route, path, headers, receive)
                )
            except BrainError as raised:
                error = raised
            except Exception as raised:  # noqa: BLE001  the outermost loop of a request
                _log.error("request_crashed", route=exchange.route and exchange.route.name, exc_info=raised)
                error = Internal("Something went wrong on our side; the log has the details.")
            finally:
                self._metrics.inflight.dec()
            if error is not None:
                await self._fail(exchange, error)
                if status_of(error) >= 500:
                    span.set_status(Status(StatusCode.ERROR, error.code))
            status = exchange.status if exchange.finished or error is None else status_of(error)
            span.set_attribute("http.response.status_code", status)
            self._metrics.seconds.labels(
                route=route.path if route else _UNMATCHED, method=_method(scope), status=str(status)
            ).observe(time.perf_counter() - exchange.began)

    async def _admit(
        self, exchange: Exchange, route: Route, path: Mapping[str, str], headers: Headers, receive: Receive
    ) -> BrainError | None:
        """Find out who asks and whether they may, and serve them; return what a stream broke with."""
        key = exchange.key = await self._who(route, headers)
        if key is None:
            call = self._call(exchange, route, path, headers, receive)
            reply = await route.handler(call)
            await reply.send(exchange.send) if isinstance(reply, Reply) else await reply.send(exchange.send, stall_s=1)
            return None
        exchange.rate, within = await self._limits.take(key)
        if not within:
            raise RateLimited(
                f"No more than {exchange.rate.limit} requests a minute are allowed.",
                retry_after_s=exchange.rate.reset_s,
            )
        caller = key.caller
        if not (route.is_open or caller.may(self._policy[route.name])):
            raise PermissionDenied(f"The roles of this key ({_roles(key)}) do not allow {route.name}.")
        async with self._limits.running(key):
            with acting_as(caller, self._tokens.token(caller)):
                if route.makes_tokens:
                    await self._quotas.check(caller.tenant)
                call = self._call(exchange, route, path, headers, receive)
                try:
                    return await self._serve(exchange, route, call, receive)
                finally:
                    self._meter(key, call)
                    await call.close()

    async def _who(self, route: Route, headers: Headers) -> ApiKey | None:
        """Return the key; None only on an open route."""
        if not route.is_open:
            return await self._authenticate(headers.get("authorization", ""))
        if "authorization" not in headers:
            return None
        try:
            return await self._authenticate(headers["authorization"])
        except Unauthenticated:
            return None

    def _call(
        self, exchange: Exchange, route: Route, path: Mapping[str, str], headers: Headers, receive: Receive
    ) -> Call:
        return Call(
            request_id=exchange.request_id,
            path=path,
            query_string=exchange.scope["query_string"],
            headers=headers,
            caller=exchange.key.caller if exchange.key else None,
            intake=Intake(receive, headers, max_bytes=self._bodies.of(route), patience_s=self._bodies.patience_s),
        )

    async def _serve(self, exchange: Exchange, route: Route, call: Call, receive: Receive) -> BrainError | None:
        """Let the handler answer, and send the answer; return what a stream broke with."""
        if route.body is Body.JSON:
            await call.body()
        failed: BrainError | None = None
        try:
            if route.makes_tokens:
                async with watched(exchange, receive):
                    failed = await self._send(exchange, route, await route.handler(call))
            else:
                repeat = call.header("idempotency-key") if route.creates else ""
                reply = await (self._repeatable(route, call, repeat) if repeat else route.handler(call))
                if route.changes:
                    self._note(exchange, call, reply.status if isinstance(reply, Reply) else 200)
                    await self._ledger.flush()
                failed = await self._send(exchange, route, reply)
        except BrainError as error:
            if isinstance(error, Cancelled) and exchange.status:
                self._metrics.streams_cut.labels(reason="left").inc()
            self._note(exchange, call, status_of(error), error.code)
            raise
        if route.makes_tokens:
            self._note(
                exchange, call, 200 if failed is None else status_of(failed), "" if failed is None else failed.code
            )
        return failed

    async def _send(self, exchange: Exchange, route: Route, reply: Reply | Stream) -> BrainError | None:
        if isinstance(reply, Reply):
            await reply.send(exchange.send)
            return None

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._metrics.first_frame_seconds.labels(route=route.path).observe(time.perf_counter() - exchange.began)
            await exchange.send(message)

        try:
            failed = await reply.send(send, stall_s=self._bodies.stall_s)
        except TimeoutError:
            self._metrics.streams_cut.labels(reason="stalled").inc()
            _log.warning("reader_stalled", route=route.name, request_id=exchange.request_id)
            return Cancelled("The reader took nothing for too long.")
        if failed is not None:
            self._metrics.streams_cut.labels(reason="failed").inc()
        return failed

    async def _repeatable(self, route: Route, call: Call, key: str) -> Reply | Stream:
        """Answer a request with an `Idempotency-Key`: once."""
        caller = call.caller
        # As JSON: no tenant and no subject can be written so that two of them read alike.
        scope = orjson.dumps([caller.tenant, caller.subject, route.name, *call.path.values()]).decode()
        known = await self._once.begin(scope, key)
        if known is not None:
            if route.body is Body.FORM:
                await call.form()
            body = self._once.checked(known, await call.digest())
            self._metrics.replayed.inc()
            return Reply(body, known.status, known.media_type, [(b"idempotent-replayed", b"true")])
        try:
            reply = await route.handler(call)
            if isinstance(reply, Reply):
                await self._once.finish(
                    scope,
                    key,
                    digest=await call.digest(),
                    status=reply.status,
                    media_type=reply.media_type,
                    body=None if route.secret else reply.body,
                )
        except BaseException:
            # What failed may be tried again under the same key.
            await asyncio.shield(self._once.forget(scope, key))
            raise
        return reply

    async def _fail(self, exchange: Exchange, error: BrainError) -> None:
        """Answer with an error, where nothing has been said yet."""
        if isinstance(error, Unauthenticated | PermissionDenied):
            self._metrics.denied.labels(reason=error.code).inc()
        elif isinstance(error, RateLimited | Overloaded):
            self._metrics.limited.labels(reason=error.code).inc()
        if not exchange.noted and isinstance(error, Unauthenticated | PermissionDenied | RateLimited):
            self._note(exchange, None, status_of(error), error.code)
        if error.private or isinstance(error, Internal):
            _log.warning("request_failed", request_id=exchange.request_id, code=error.code, private=error.private)
        if exchange.status:
            return
        reply = Reply(error_body(error, exchange.request_id), status_of(error), headers=error_headers(error))
        if status_of(error) in {408, 413}:
            # What is still to come of the body is not waited for.
            reply.headers.append((b"connection", b"close"))
        await reply.send(exchange.send)

    def _note(self, exchange: Exchange, call: Call | None, status: int, reason: str = "") -> None:
        """Write to the audit log: changes, questions, and refusals of a known key; plain reading is in the access metrics.

        Who has no good key belongs to no tenant whose log this could be, and must not be able to fill it; the metric of
        refusals counts them.
        """
        route, key = exchange.route, exchange.key
        exchange.noted = True
        if route is None or key is None or (route.method == "GET" and status not in {401, 403, 429}):
            return
        self._ledger.note(
            AuditEntry(
                at=datetime.now(UTC),
                request_id=exchange.request_id,
                tenant=key.grant.tenant,
                subject=key.grant.subject,
                key_id=key.id,
                action=route.name,
                object_id=call.object_id if call else "",
                status=status,
                reason=reason,
            )
        )

    def _meter(self, key: ApiKey, call: Call) -> None:
        tenant = key.grant.tenant
        for model, usage in call.spent:
            self._ledger.spend(Spent(tenant, key.id, model, usage.prompt_tokens, usage.completion_tokens))
            for kind, count in (
                ("prompt", usage.prompt_tokens),
                ("cached", usage.cached_tokens),
                ("completion", usage.completion_tokens),
            ):
                if count:
                    self._metrics.tokens.labels(tenant=tenant, model=model, kind=kind).inc(count)


def _no_route(scope: MutableMapping[str, Any], allowed: tuple[str, ...]) -> HttpFault:
    if allowed:
        return HttpFault(
            405,
            f"{scope['path']} does not take {scope['method']}; it takes {', '.join(allowed)}.",
            code="method_not_allowed",
            headers=((b"allow", ", ".join(allowed).encode()),),
        )
    return HttpFault(404, f"There is nothing at {scope['method']} {scope['path']}.", code="unknown_url")


def _method(scope: MutableMapping[str, Any]) -> str:
    """Return the method as a bounded label."""
    method: str = scope["method"]
    return method if method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"


def _roles(key: ApiKey) -> str:
    return ", ".join(sorted(key.grant.roles)) or "none"
