"""The HTTP server: uvicorn, with the process's signals left to the life cycle and no patience for half a request."""

import asyncio
import socket
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


class Server(uvicorn.Server):
    """uvicorn, with the process's signals left to the life cycle."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: the life cycle stops everything in order."""
        yield


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds for the time and size of a request's head, of which it has none.

    The time for a body is the application's to bound (`Intake`), that between requests uvicorn's. What still comes of a
    body whose request has been answered is nobody's, and is waited for as for a head.
    """

    patience_s: ClassVar[float] = 30.0

    _giving_up: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

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
