"""Errors as HTTP: the one place where the error family becomes a status, headers and a body that both SDKs read.

The body carries OpenAI's `error` object and Cohere's `message` and `id` side by side.
"""

import math
from typing import Final

import orjson

from services.chassis.errors import (
    BrainError,
    Conflict,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
    http_status,
)

__all__ = ["HttpFault", "error_body", "error_headers", "error_object", "status_of"]

# OpenAI's `type` of an error, by family member; everything else is a server error.
_TYPES: Final[dict[type[BrainError], str]] = {
    InvalidInput: "invalid_request_error",
    Unsupported: "invalid_request_error",
    TooLarge: "invalid_request_error",
    NotFound: "invalid_request_error",
    Conflict: "conflict_error",
    Unauthenticated: "authentication_error",
    PermissionDenied: "permission_error",
    RateLimited: "rate_limit_error",
    Overloaded: "rate_limit_error",
}
_CODES: Final[dict[type[BrainError], str]] = {
    Unauthenticated: "invalid_api_key",
    RateLimited: "rate_limit_exceeded",
    Overloaded: "server_overloaded",
}
# What passes by itself has mostly passed by then.
_RETRY_AFTER_S: Final = 1.0


class HttpFault(BrainError):
    """A fault that only HTTP knows: no such path, no such method, a body that does not come.

    Args:
        status: HTTP status.
        message: Public sentence.
        code: Public static reason.
        headers: Headers that go with the status.
    """

    def __init__(self, status: int, message: str, *, code: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


def status_of(error: BrainError) -> int:
    """Return the HTTP status of an error."""
    return error.status if isinstance(error, HttpFault) else http_status(error)


def error_object(error: BrainError) -> dict[str, str | None]:
    """Return OpenAI's error object."""
    kind = "invalid_request_error" if isinstance(error, HttpFault) else _TYPES.get(type(error), "server_error")
    return {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": _CODES.get(type(error), error.code),
    }


def error_body(error: BrainError, request_id: str) -> bytes:
    """Return the body of an error answer."""
    return orjson.dumps({"error": error_object(error), "message": error.message, "id": request_id})


def error_headers(error: BrainError) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with an error."""
    headers: list[tuple[bytes, bytes]] = list(error.headers) if isinstance(error, HttpFault) else []
    retry_after_s = error.retry_after_s
    if retry_after_s is None and isinstance(error, RateLimited | Overloaded | Unavailable):
        retry_after_s = _RETRY_AFTER_S
    if retry_after_s is not None:
        # Whole seconds are what the standard allows; the exact figure is for clients that know it.
        headers.append((b"retry-after", str(max(1, math.ceil(retry_after_s))).encode()))
        headers.append((b"retry-after-ms", str(max(1, math.ceil(retry_after_s * 1000))).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
