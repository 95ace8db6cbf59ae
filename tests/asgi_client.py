"""A client that speaks ASGI itself: it can be slow, leave, and stop reading, which HTTP client libraries hide."""

import asyncio
from collections.abc import AsyncIterator, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

Message = MutableMapping[str, Any]


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    is_complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self) -> Any:
        return orjson.loads(self.body)


class Client:
    """Asks an ASGI application.

    Args:
        app: The application.
        key: API key; empty sends none.
    """

    def __init__(self, app: Any, key: str = "") -> None:
        self._app = app
        self._key = key
        self.left = asyncio.Event()
        # Set to let the reader take no more.
        self.stuck = False

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes | None] | AsyncIterator[bytes] = b"",
        headers: dict[str, str] | None = None,
        into: Answer | None = None,
    ) -> Answer:
        """Send a request; None among the pieces of the body is a sender who stops sending."""
        path, _, query = target.partition("?")
        sent = {"authorization": f"Bearer {self._key}"} if self._key else {}
        sent |= headers or {}
        coming = body if isinstance(body, AsyncIterator) else None
        pieces = [body] if isinstance(body, bytes) else [] if isinstance(body, AsyncIterator) else list(body)
        if isinstance(body, bytes) and "content-length" not in sent:
            sent["content-length"] = str(len(body))
        answer = Answer() if into is None else into
        queue = list(pieces)

        async def receive() -> Message:
            if coming is not None:
                return {"type": "http.request", "body": await anext(coming), "more_body": True}
            if queue:
                piece = queue.pop(0)
                if piece is not None:
                    return {"type": "http.request", "body": piece, "more_body": bool(queue)}
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if self.stuck and answer.status:
                await asyncio.Event().wait()
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.pieces.append(message.get("body", b""))
                answer.is_complete = not message.get("more_body", False)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        }
        await self._app(scope, receive, send)
        return answer
