"""The gateway as the command sees it, answered from a script over httpx's own transport for tests."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from client.commands import app
from client.gateway import Gateway
from client.settings import Connection

Handler = Callable[[httpx.Request], httpx.Response]


class Wire:
    """Answers requests by method and path, and remembers them."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self._handlers: dict[tuple[str, str], Handler] = {}

    def on(self, method: str, path: str, answer: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.on_call(method, path, lambda _request: httpx.Response(status, json=answer))

    def on_call(self, method: str, path: str, handler: Handler) -> None:
        """Answer with what `handler` returns."""
        self._handlers[method, path] = handler

    def on_stream(self, chunks: Sequence[Any], *, ended: bool = True) -> None:
        """Answer a chat with these chunks."""
        frames = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + (["data: [DONE]\n\n"] if ended else [])
        headers = {"content-type": "text/event-stream"}
        body = "".join(frames)
        self.on_call("POST", "/v1/chat/completions", lambda _request: httpx.Response(200, headers=headers, text=body))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        handler = self._handlers.get((request.method, request.url.path))
        if handler is None:
            return httpx.Response(404, json={"error": {"message": f"no {request.method} {request.url.path}"}})
        request.read()
        return handler(request)

    def gateway(self) -> Gateway:
        """Return a connection over this wire."""
        return Gateway(Connection("http://brain.test", "key-1"), transport=httpx.MockTransport(self))

    def body(self, place: int = -1) -> Any:
        """Return the JSON that a request carried."""
        return json.loads(self.requests[place].content)


def run(wire: Wire, *arguments: str, told: str = "") -> Result:
    """Run the command against this wire."""
    return CliRunner().invoke(app, list(arguments), obj=httpx.MockTransport(wire), input=told)


def printed(result: Result) -> Any:
    """Return what the command printed for a program."""
    return json.loads(result.stdout)


def text_chunk(text: str, **more: Any) -> dict[str, Any]:
    """Return a chunk of a streamed answer."""
    return {"choices": [{"index": 0, "delta": {"content": text}}], **more}


def entry(key: str, content: bytes | str, **more: Any) -> dict[str, Any]:
    """Return a line of a manifest."""
    data = content.encode() if isinstance(content, str) else content
    digest = hashlib.sha256(data).hexdigest()
    return {"id": f"doc_{Path(key).stem}", "key": key, "digest": digest, "state": "indexed", "reason": None} | more
