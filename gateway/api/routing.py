"""Routes: what a dialect offers, and finding the one that a request means."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pydantic import BaseModel
from starlette.routing import compile_path

from gateway.api.call import Call
from gateway.api.replies import Reply, Stream
from gateway.ports import (
    Adapters,
    Audit,
    Chat,
    Datasets,
    Feedback,
    Generation,
    Graders,
    Ingestion,
    Jobs,
    Meter,
    Probe,
    Promotions,
    Retrieval,
    Webhooks,
)
from gateway.usecases.keys import KeyUseCases
from gateway.usecases.withholding import Withholding
from services.chassis.auth import Policy
from services.chassis.errors import Internal

__all__ = ["Body", "Handler", "Route", "RouteTable", "Services"]

Handler = Callable[[Call], Awaitable[Reply | Stream]]


class Body(Enum):
    """What a route takes as its body; each has its own size limit."""

    NONE = auto()
    JSON = auto()
    FORM = auto()
    RAW = auto()


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers can call."""

    ingestion: Ingestion
    retrieval: Retrieval
    chat: Chat
    feedback: Feedback
    generation: Generation
    jobs: Jobs
    graders: Graders
    datasets: Datasets
    adapters: Adapters
    promotions: Promotions
    webhooks: Webhooks
    withholding: Withholding
    probe: Probe
    keys: KeyUseCases
    meter: Meter
    audit: Audit


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path.

    Attributes:
        method: GET, POST, DELETE, …
        path: Template as Starlette's: `/v1/files/{file_id}`, `{model:path}` for a parameter with slashes.
        handler: What answers.
        summary: One line for the OpenAPI document.
        body: What the body is.
        request: The body's model, for the OpenAPI document.
        answer: The answer's media type, for the OpenAPI document.
        query: Model of the query string, for the OpenAPI document.
        creates: Whether the route honours `Idempotency-Key`.
        secret: Whether the answer holds a secret, and is therefore not kept for repetitions.
        makes_tokens: Whether the tenant's quota of tokens applies.
        only_reads: Whether a POST changes nothing (a search).
        is_open: Whether the route answers without a key (its row in the policy is empty).
    """

    method: str
    path: str
    handler: Handler
    summary: str
    body: Body = Body.NONE
    request: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: str = "application/json"
    creates: bool = False
    secret: bool = False
    makes_tokens: bool = False
    only_reads: bool = False
    is_open: bool = False

    @property
    def name(self) -> str:
        """How the policy, metrics, traces and the audit log call it."""
        return f"{self.method} {self.path}"

    @property
    def changes(self) -> bool:
        """Whether what it does is written to the audit log before it is answered."""
        return self.method != "GET" and not (self.makes_tokens or self.only_reads)


class RouteTable:
    """Finds the route of a request.

    Args:
        routes: All routes.
        policy: Roles by route name.

    Raises:
        Internal: A route has no row in the policy, or a row no route, or two routes are the same.
    """

    def __init__(self, routes: Iterable[Route], policy: Policy) -> None:
        self.routes = tuple(routes)
        names = [route.name for route in self.routes]
        wrong = (
            {f"no row for {name}" for name in names if name not in policy}
            | {f"no route for {name}" for name in policy if name not in names}
            | {f"twice: {name}" for name in names if names.count(name) > 1}
        )
        if wrong:
            raise Internal(f"Routes and policy differ: {'; '.join(sorted(wrong))}.")
        self._fixed: dict[str, dict[str, Route]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], Mapping[str, Any], dict[str, Route]]] = {}
        for route in self.routes:
            if "{" in route.path:
                pattern, _, convertors = compile_path(route.path)
                self._patterns.setdefault(route.path, (pattern, convertors, {}))[2][route.method] = route
            else:
                self._fixed.setdefault(route.path, {})[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route | None, dict[str, str], tuple[str, ...]]:
        """Return the route, its path parameters, and the methods that the path allows."""
        allowed: tuple[str, ...] = ()
        if (by_method := self._fixed.get(path)) is not None:
            if (route := by_method.get(method)) is not None:
                return route, {}, ()
            allowed = tuple(by_method)
        for pattern, _, by_method in self._patterns.values():
            if (match := pattern.match(path)) is not None:
                if (route := by_method.get(method)) is not None:
                    return route, match.groupdict(), ()
                allowed += tuple(by_method)
        return None, {}, tuple(dict.fromkeys(allowed))
