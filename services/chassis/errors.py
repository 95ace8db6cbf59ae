"""The closed family of errors that rooms raise, and their only mappings to gRPC and HTTP.

BrainError
├── InvalidInput        the request is wrong; `param` names the field
├── Unauthenticated     who is asking is not known
├── PermissionDenied    who is asking is known and may not
├── NotFound            no such thing, or none that the caller may know of
├── Conflict            the thing is in a state that does not allow it
├── TooLarge            the request is bigger than allowed
├── RateLimited         the caller asks too often
├── Overloaded          the room has no capacity left at the moment
├── Unavailable         something the room needs is away; try again
├── DeadlineExceeded    it took longer than the caller waits
├── Cancelled           the caller left
├── Unsupported         known, and not offered
└── Internal            our fault; the details are in the log

`str(error)` is public: it names the field, the value and what is allowed. `private` goes to the log only.
"""

from typing import Final

import grpc

__all__ = [
    "FAMILY",
    "BrainError",
    "Cancelled",
    "Conflict",
    "DeadlineExceeded",
    "Internal",
    "InvalidInput",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "RateLimited",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "from_grpc",
    "grpc_status",
    "http_status",
]


class BrainError(Exception):
    """An error with a public reason.

    Args:
        message: Public sentence.
        param: Field of the request that is at fault, in the caller's words.
        private: Details for the log only.
        retry_after_s: Seconds after which another try may succeed.
    """

    code: str = "internal"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        private: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.private = private
        self.retry_after_s = retry_after_s


class InvalidInput(BrainError):
    """The request is wrong; `param` names the field."""

    code = "invalid_input"


class Unauthenticated(BrainError):
    """Who is asking is not known."""

    code = "unauthenticated"


class PermissionDenied(BrainError):
    """Who is asking is known and may not."""

    code = "permission_denied"


class NotFound(BrainError):
    """No such thing, or none that the caller may know of."""

    code = "not_found"


class Conflict(BrainError):
    """The thing is in a state that does not allow it."""

    code = "conflict"


class TooLarge(BrainError):
    """The request is bigger than allowed."""

    code = "too_large"


class RateLimited(BrainError):
    """The caller asks too often."""

    code = "rate_limited"


class Overloaded(BrainError):
    """The room has no capacity left at the moment."""

    code = "overloaded"


class Unavailable(BrainError):
    """Something the room needs is away; try again."""

    code = "unavailable"


class DeadlineExceeded(BrainError):
    """It took longer than the caller waits."""

    code = "deadline_exceeded"


class Cancelled(BrainError):
    """The caller left."""

    code = "cancelled"


class Unsupported(BrainError):
    """Known, and not offered."""

    code = "unsupported"


class Internal(BrainError):
    """Our fault; the details are in the log."""

    code = "internal"


# One row for each member: gRPC status and HTTP status. 499 is the usual log entry for a client that left.
_STATUS: Final[dict[type[BrainError], tuple[grpc.StatusCode, int]]] = {
    InvalidInput: (grpc.StatusCode.INVALID_ARGUMENT, 400),
    Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, 401),
    PermissionDenied: (grpc.StatusCode.PERMISSION_DENIED, 403),
    NotFound: (grpc.StatusCode.NOT_FOUND, 404),
    Conflict: (grpc.StatusCode.FAILED_PRECONDITION, 409),
    TooLarge: (grpc.StatusCode.OUT_OF_RANGE, 413),
    RateLimited: (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    Unavailable: (grpc.StatusCode.UNAVAILABLE, 503),
    DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    Cancelled: (grpc.StatusCode.CANCELLED, 499),
    Unsupported: (grpc.StatusCode.UNIMPLEMENTED, 501),
    Internal: (grpc.StatusCode.INTERNAL, 500),
}

FAMILY: Final = tuple(_STATUS)
_BY_CODE: Final[dict[str, type[BrainError]]] = {member.code: member for member in FAMILY}
_BY_GRPC: Final[dict[grpc.StatusCode, type[BrainError]]] = {
    **{status: member for member, (status, _) in _STATUS.items()},
    # What a server or a proxy of another make may answer.
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.UNKNOWN: Internal,
    grpc.StatusCode.DATA_LOSS: Internal,
}


def grpc_status(error: BrainError) -> grpc.StatusCode:
    """Return the gRPC status of a member of the family."""
    return _STATUS[type(error)][0]


def http_status(error: BrainError) -> int:
    """Return the HTTP status of a member of the family."""
    return _STATUS[type(error)][1]


def from_grpc(
    status: grpc.StatusCode,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    retry_after_s: float | None = None,
) -> BrainError:
    """Return the member that a remote room raised; `code` decides where it is known, else the gRPC status."""
    member = _BY_CODE.get(code or "") or _BY_GRPC.get(status, Internal)
    return member(message, param=param, retry_after_s=retry_after_s)
