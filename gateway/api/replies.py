"""Answers: whole ones, and streams that stop when nobody reads."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog

from services.chassis.errors import BrainError, Internal

__all__ = ["EVENT_STREAM", "Message", "Receive", "Reply", "Send", "Stream", "json_line", "json_reply"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
# JSON lets them stand in a string, and many a reader of lines (`str.splitlines`, httpx) takes them for the line's end.
_LINE_ENDS: Final = tuple((end.encode(), f"\\u{ord(end):04x}".encode()) for end in "\x85\u2028\u2029")
_log = structlog.get_logger()


@dataclass(slots=True)
class Reply:
    """A whole answer."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def send(self, send: Send) -> None:
        """Send it."""
        headers = [
            (b"content-type", self.media_type.encode()),
            (b"content-length", str(len(self.body)).encode()),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return `value` as a JSON answer."""
    return Reply(orjson.dumps(value), status)


def json_line(value: Any) -> bytes:
    """Return `value` as JSON that is one line to every reader."""
    data = orjson.dumps(value)
    if not data.isascii():
        for end, escaped in _LINE_ENDS:
            data = data.replace(end, escaped)
    return data


@dataclass(slots=True)
class Stream:
    """An answer in frames.

    Attributes:
        frames: Yields what is sent, as it is; closed when the client leaves.
        on_error: Renders an error that comes after the first frame; nothing follows it.
        media_type: Content type.
        headers: Further headers.
    """

    frames: AsyncGenerator[bytes, None]
    on_error: Callable[[BrainError], bytes] | None = None
    media_type: str = EVENT_STREAM
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def send(self, send: Send, *, stall_s: float) -> BrainError | None:
        """Send frames until they end; return the error that ended them.

        A reader who takes nothing for `stall_s` seconds is given up.

        Raises:
            BrainError: Nothing has been sent yet.
            TimeoutError: The reader was given up.
        """
        async with aclosing(self.frames) as frames:
            # Errors before the first frame are ordinary error answers: nothing has been said yet.
            first = await anext(frames, b"")
            headers = [
                (b"content-type", self.media_type.encode()),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
                *self.headers,
            ]
            failed: BrainError | None = None
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(stall_s) as patience:
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    await send({"type": "http.response.body", "body": first, "more_body": True})
                    patience.reschedule(None)
                    async for frame in frames:
                        patience.reschedule(loop.time() + stall_s)
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
                        patience.reschedule(None)
            except BrainError as error:
                failed = error
            except TimeoutError:
                if patience.expired():
                    raise
                failed = Internal("Something took too long on our side.")
            except Exception as error:  # noqa: BLE001  the outermost loop of a stream: the status line is out already
                _log.error("stream_crashed", exc_info=error)
                failed = Internal("Something went wrong on our side; the log has the details.")
            last = self.on_error(failed) if failed is not None and self.on_error is not None else b""
            if failed is None or self.on_error is not None:
                async with asyncio.timeout(stall_s):
                    await send({"type": "http.response.body", "body": last, "more_body": False})
            return failed
