"""What can go wrong for a caller of the gateway, and the exit status that says so to a script."""

from typing import Final

__all__ = ["EXIT_STATUS", "GatewayError", "NotFoundError", "RefusedError", "UnreachableError", "UsageError"]


class GatewayError(Exception):
    """The gateway answered with an error."""


class UsageError(GatewayError):
    """The command was given something that it cannot use."""


class NotFoundError(GatewayError):
    """There is no such thing, or none that the key's owner may know of."""


class RefusedError(GatewayError):
    """The key is missing, wrong, or may not do this."""


class UnreachableError(GatewayError):
    """The gateway, or a room behind it, does not answer."""


# 1 is any other failure; 3 is `brain ask` saying that the documents do not answer.
EXIT_STATUS: Final = {GatewayError: 1, UsageError: 2, NotFoundError: 4, UnreachableError: 5, RefusedError: 6}
NOT_ANSWERED: Final = 3
