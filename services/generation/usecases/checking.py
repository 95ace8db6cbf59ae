"""Looks into an adapter that may be published later."""

import asyncio
from typing import Final

from services.generation.domain import AdapterFiles, check_blob_key
from services.generation.ports import AdapterShelf

__all__ = ["CheckAdapter"]

# Each reads a whole adapter: more at once would only share the disk.
_AT_ONCE: Final = 2


class CheckAdapter:
    """Says whether two blobs are an adapter that could be served.

    Args:
        shelf: Fetches and inspects.
    """

    def __init__(self, *, shelf: AdapterShelf) -> None:
        self._shelf = shelf
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, tenant: str, config_key: str, weights_key: str) -> AdapterFiles:
        """Return what the blobs hold; nothing is served or kept.

        Raises:
            InvalidInput: A key is not the tenant's, or they are nothing the engine can serve safely.
            TooLarge: They exceed the limit.
            NotFound: There is no such blob.
            Unavailable: They cannot be had at the moment.
        """
        check_blob_key(config_key, tenant, "config_blob_key")
        check_blob_key(weights_key, tenant, "weights_blob_key")
        async with self._gate:
            return await self._shelf.look(config_key, weights_key)
