"""The HTTP server: uvicorn, with the process's signals left to the life cycle and no patience for half a request or half a reader."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.api.errors import HttpFault, error_body
from services.chassis.ids import new_id

__all__ = ["PatientProtocol", "Server", "listen"]

# Twice what browsers and proxies send at most.
_MAX_HEAD_BYTES: Final = 64 * 1024
# SO_LINGER: forget what was not taken.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class Server(uvicorn.Server):
    """uvicorn, with the process's signals left to the life cycle."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: the life cycle stops everything in order."""
        yield


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds for the time and size of a request's head, and for readers, of which it has none.

    The time for a body is the application's to bound (`Intake`), that between requests uvicorn's. What still comes of a
    body whose request has been answered is nobody's, and is waited for as for a head.

    A reader who takes nothing of what waits for it is cut. So is one whose answer was given up (`Stream.send`), whatever it
    takes: uvicorn would close the connection only after the last byte has been taken.
    """

    patience_s: ClassVar[float] = 30.0
    stall_s: ClassVar[float] = 31.0

    _giving_up: asyncio.TimerHandle | None = None
    _cutting: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        self._stop_cutting()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch the reader: more waits for it than it takes."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Watch the reader no more."""
        super().resume_writing()
        self._stop_cutting()

    def data_received(self, data: bytes) -> None:
        """Take in a piece; give up on a head without end."""
        if self._giving_up is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        was_in_body = self._in_body
        super().data_received(data)
        if self._giving_up is None or was_in_body or self._in_body:
            return
        self._head_bytes += len(data)
        if self._head_bytes > _MAX_HEAD_BYTES:
            fault = HttpFault(431, f"The head is larger than {_MAX_HEAD_BYTES:,} bytes.", code="head_too_large")
            self._refuse(fault)

    def on_headers_complete(self) -> None:
        """Serve a request whose head is complete."""
        self._stop_waiting()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take what comes next for a head."""
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP as everything else is refused."""
        self._refuse(HttpFault(400, msg, code="bad_request"))

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._giving_up = self.loop.call_later(self.patience_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _watch_reader(self) -> None:
        self._stop_cutting()
        waiting = self.transport.get_write_buffer_size()
        self._cutting = self.loop.call_later(self.stall_s, self._cut_unless_less_than, waiting)

    def _stop_cutting(self) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
            self._cutting = None

    def _cut_unless_less_than(self, waiting: int) -> None:
        if not self.transport.is_closing() and self.transport.get_write_buffer_size() < waiting:
            self._watch_reader()
            return
        line = self.transport.get_extra_info("socket")
        if line is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _give_up(self) -> None:
        if self._head_bytes and not self._in_body:
            self._refuse(HttpFault(408, f"No request came within {self.patience_s:g} s.", code="request_timeout"))
        else:
            # Nothing was asked, so that there is nothing to answer.
            self.transport.close()

    def _refuse(self, fault: HttpFault) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        request_id = new_id("req_")
        body = error_body(fault, request_id)
        head = (
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[fault.status] + head.encode() + body)
        self.transport.close()


def listen(address: str) -> socket.socket:
    """Return a socket bound to `host:port`."""
    host, _, port = address.rpartition(":")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host.strip("[]"), int(port)))
    listener.set_inheritable(False)
    return listener
