"""One request and what has been said to it so far."""

import asyncio
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from gateway.api.replies import Receive, Send
from gateway.api.routing import Route
from gateway.domain.identity import ApiKey
from gateway.usecases.limits import RateState
from services.chassis.errors import Cancelled

__all__ = ["Exchange", "watched"]


class Exchange:
    """One request and what has been said to it so far."""

    __slots__ = ("_send", "began", "finished", "key", "noted", "rate", "request_id", "route", "scope", "status")

    def __init__(self, scope: MutableMapping[str, Any], send: Send, request_id: str) -> None:
        self.scope = scope
        self.request_id = request_id
        self.began = time.perf_counter()
        self.status = 0
        self.finished = False
        self.noted = False
        self.key: ApiKey | None = None
        self.rate: RateState | None = None
        self.route: Route | None = None
        self._send = send

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Pass a message on; the first one gets the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self.request_id.encode())]
            if (rate := self.rate) is not None:
                headers += (
                    (b"x-ratelimit-limit-requests", b"%d" % rate.limit),
                    (b"x-ratelimit-remaining-requests", b"%d" % rate.remaining),
                    (b"x-ratelimit-reset-requests", b"%.3fs" % rate.reset_s),
                )
            message["headers"] = headers
        elif not message.get("more_body", False):
            self.finished = True
        await self._send(message)


@asynccontextmanager
async def watched(exchange: Exchange, receive: Receive) -> AsyncIterator[None]:
    """End the work within the block when the client leaves.

    Raises:
        Cancelled: The client left.
    """
    work = asyncio.current_task()
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        # At the end of an answer servers report a disconnect too.
        if not exchange.finished and work is not None:
            left = True
            work.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError as error:
        if left and work is not None and work.uncancel() == 0:
            raise Cancelled("The client left.") from error
        raise
    finally:
        watcher.cancel()
