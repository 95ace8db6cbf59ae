"""Who may see and change what. Tenants are kept apart before these rules are asked: every look-up names the tenant."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from services.chassis.auth import Caller, Role
from services.chassis.errors import InvalidInput

__all__ = ["checked_principals", "is_narrower", "manages_all", "may_manage", "may_read", "readers"]

_KINDS: Final = ("user:", "group:")
_MAX_PRINCIPALS: Final = 500
_MAX_LENGTH: Final = 256


def checked_principals(principals: Iterable[str], *, param: str = "principals") -> tuple[str, ...]:
    """Return the principals without repetition, in the order given.

    Raises:
        InvalidInput: One of them is not `user:NAME` or `group:NAME`, or there are too many.
    """
    unique = tuple(dict.fromkeys(principals))
    if len(unique) > _MAX_PRINCIPALS:
        raise InvalidInput(f"{param}: {len(unique)} principals are more than {_MAX_PRINCIPALS}.", param=param)
    for principal in unique:
        kind = next((kind for kind in _KINDS if principal.startswith(kind)), None)
        if kind is None or principal == kind:
            raise InvalidInput(f"{param}: {principal!r} is not user:NAME or group:NAME.", param=param)
        if len(principal) > _MAX_LENGTH:
            raise InvalidInput(f"{param}: a principal is longer than {_MAX_LENGTH} characters.", param=param)
        if any(unicodedata.category(letter) == "Cc" for letter in principal):
            raise InvalidInput(f"{param}: {principal!r} holds control characters.", param=param)
    return unique


def readers(owner: str, principals: Sequence[str]) -> tuple[str, ...]:
    """Return everyone whom the index is to let through: the owner and the list."""
    return tuple(dict.fromkeys((f"user:{owner}", *principals)))


def is_narrower(owner: str, *, old: Sequence[str], new: Sequence[str]) -> bool:
    """Return whether somebody on the old list may no longer read under the new one."""
    return not set(readers(owner, old)) <= set(readers(owner, new))


def manages_all(caller: Caller) -> bool:
    """Return whether the caller looks after every document and collection of the tenant."""
    return not caller.roles.isdisjoint({Role.CURATOR, Role.ADMINISTRATOR})


def may_manage(caller: Caller, *, owner: str) -> bool:
    """Return whether the caller may change or delete what `owner` owns."""
    return caller.subject == owner or manages_all(caller)


def may_read(caller: Caller, *, owner: str, principals: Sequence[str]) -> bool:
    """Return whether the caller may know of a document with this owner and access list."""
    return may_manage(caller, owner=owner) or not set(caller.principals).isdisjoint(principals)
