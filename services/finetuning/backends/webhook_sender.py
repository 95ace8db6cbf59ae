"""Calls webhook addresses over HTTP; what a name leads to is checked first, and the checked address is called."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import httpx

from services.chassis.errors import InvalidInput
from services.finetuning.domain.reach import Reach, Target
from services.finetuning.domain.webhooks import Answer

__all__ = ["HttpWebhookSender", "resolve"]

# Addresses of one name that are tried: enough for one of each kind, and not a scan.
_MOST_ADDRESSES: Final = 4

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, as this machine sees them.

    Raises:
        OSError: It has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class HttpWebhookSender:
    """A `WebhookSender` over httpx.

    It follows no redirect, uses no proxy of the environment (which would resolve the name once more), keeps no
    connection or cookie, and reads nothing of the answer but its status.

    Args:
        reach: What may be called.
        timeout_s: Longest wait for an answer, resolving included.
        resolve: Turns a name into addresses.
        tls: Who is trusted; None for the authorities of this machine.
    """

    def __init__(
        self, reach: Reach, *, timeout_s: float = 10.0, resolve: Resolve = resolve, tls: ssl.SSLContext | None = None
    ) -> None:
        self._reach = reach
        self._timeout_s = timeout_s
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()

    async def check(self, url: str) -> None:
        """Look whether `url` could be called now.

        Raises:
            InvalidInput: It is no address, or leads where nothing may be called.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._addresses(self._reach.target(url))
        except TimeoutError as error:
            raise InvalidInput(f"url: the name of {url[:200]!r} cannot be looked up in time.", param="url") from error

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post `body` once and return what came of it; a failure is an answer too."""
        try:
            async with asyncio.timeout(self._timeout_s):
                target = self._reach.target(url)
                addresses = await self._addresses(target)
                return await self._post(target, addresses, headers, body)
        except TimeoutError:
            return Answer(0, f"no answer within {self._timeout_s:g} s")
        except InvalidInput as error:
            return Answer(0, error.message)
        except httpx.HTTPError as error:
            return Answer(0, f"the call failed ({type(error).__name__}: {str(error)[:200]})")

    async def _addresses(self, target: Target) -> Sequence[IPv4Address | IPv6Address]:
        """Return what may be called of what the host leads to.

        Raises:
            InvalidInput: It leads nowhere, or somewhere that may not be called.
        """
        try:
            found = [ip_address(address) for address in await self._resolve(target.host, target.port)]
        except (OSError, UnicodeError):
            # Said as what is there and may not be called: the answers must not map a network for whoever asks.
            found = []
        # One address that may not be called is enough: an honest name has none.
        if not found or not all(self._reach.allows(address, scheme=target.scheme) for address in found):
            raise InvalidInput(f"url: {target.host!r} leads to no address that may be called.", param="url")
        return list(dict.fromkeys(found))[:_MOST_ADDRESSES]

    async def _post(
        self,
        target: Target,
        addresses: Sequence[IPv4Address | IPv6Address],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        failed: httpx.HTTPError | None = None
        # An address that is silent leaves time for the next one.
        timeout = httpx.Timeout(self._timeout_s, connect=self._timeout_s / 3)
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=timeout) as client:
            for address in addresses:
                try:
                    return await _posted(client, target, address, headers, body)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    failed = error
        assert failed is not None
        raise failed


async def _posted(
    client: httpx.AsyncClient,
    target: Target,
    address: IPv4Address | IPv6Address,
    headers: Mapping[str, str],
    body: bytes,
) -> Answer:
    url = httpx.URL(scheme=target.scheme, host=str(address), port=target.port, raw_path=target.path.encode())
    call = client.stream(
        "POST",
        url,
        content=body,
        headers={**headers, "host": target.authority},
        # The certificate must be that of the name, not of the address.
        extensions={"sni_hostname": target.host},
        follow_redirects=False,
    )
    async with call as response:
        status = response.status_code
    if response.is_redirect:
        return Answer(status, f"it answered {status}, and redirects are not followed")
    return Answer(status, f"it answered {status}")
