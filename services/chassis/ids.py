"""Prefixed, sortable ids."""

import uuid_utils

__all__ = ["new_id"]


def new_id(prefix: str) -> str:
    """Return `prefix` followed by the 32 hexadecimal digits of a UUIDv7 (RFC 9562), which sorts by time.

    >>> new_id("doc_").startswith("doc_")
    True
    """
    return prefix + uuid_utils.uuid7().hex
