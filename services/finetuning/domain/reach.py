"""Which addresses the room may be told to call: a server that calls what its users write is a door into its network.

What a name leads to is checked when it is called, and the checked address is the one that is called.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from services.chassis.errors import InvalidInput

__all__ = ["Reach", "Target", "reach_of"]

_LONGEST_URL: Final = 2_048
_PORTS: Final = {"https": 443, "http": 80}
# A name as the DNS has it; other alphabets in their ASCII form (punycode).
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*\Z")
_PRINTABLE: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+\Z")
# What all of the public IPv6 internet is in.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
# Both translate to IPv4: the address inside decides.
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOW_32_BITS: Final = 0xFFFF_FFFF
# Where a cloud's machines learn about themselves, where that is not link-local: Azure's wire server, and a range for
# protocols that has Oracle's.
_METADATA: Final = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where to call.

    Attributes:
        scheme: https or http.
        host: Name or address, in lower case and without brackets.
        port: Port.
        path: Path and query.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the header `host` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be called.

    Attributes:
        http_loopback: Whether this machine may be called, also without TLS; for tests and demonstrations.
        networks: Private networks that may be called, over TLS.
    """

    http_loopback: bool = False
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def target(self, url: str, *, param: str = "url") -> Target:
        """Return the parts of `url`.

        Raises:
            InvalidInput: It is no address, or none that may be called.
        """
        parts = _split(url, param)
        if parts.scheme not in _PORTS or (parts.scheme == "http" and not self.http_loopback):
            raise _refused(url, param, "only https is called")
        host = (parts.hostname or "").lower()
        literal = _literal(host)
        if literal is None and (_NAME.match(host) is None or ":" in host):
            raise _refused(url, param, "it names no host; write a name in its ASCII form, or an IP address")
        if literal is not None and not self.allows(literal, scheme=parts.scheme):
            raise _refused(url, param, "the address is not on the public internet")
        port = _port(parts)
        if not port:
            raise _refused(url, param, "the port is not 1 to 65535")
        path = parts.path or "/"
        return Target(parts.scheme, host, port, f"{path}?{parts.query}" if parts.query else path)

    def allows(self, address: IPv4Address | IPv6Address, *, scheme: str) -> bool:
        """Return whether a host of this address may be called with `scheme`."""
        place = _within(address)
        if place.is_loopback:
            return self.http_loopback or (scheme == "https" and self._listed(place))
        if scheme != "https" or any(place in network for network in _METADATA):
            return False
        # Neither is anywhere beyond this machine's own link, whatever a setting says.
        if place.is_link_local or place.is_multicast or place.is_unspecified:
            return False
        if isinstance(place, IPv6Address) and place not in _GLOBAL_UNICAST:
            return self._listed(place)
        return place.is_global or self._listed(place)

    def _listed(self, place: IPv4Address | IPv6Address) -> bool:
        return any(place in network for network in self.networks)


def reach_of(networks: Sequence[str], *, http_loopback: bool) -> Reach:
    """Return the reach that settings describe.

    Raises:
        InvalidInput: A network is none.
    """
    found: list[IPv4Network | IPv6Network] = []
    for network in networks:
        try:
            found.append(ip_network(network))
        except ValueError as error:
            raise InvalidInput(
                f"webhook_networks: {network!r} is not a network; use a form like 10.20.0.0/16.",
                param="webhook_networks",
            ) from error
    return Reach(http_loopback, tuple(found))


def _split(url: str, param: str) -> SplitResult:
    if len(url) > _LONGEST_URL:
        raise InvalidInput(f"{param}: {len(url)} characters are more than {_LONGEST_URL}.", param=param)
    if _PRINTABLE.match(url) is None:
        raise _refused(url, param, "it is not an address of printable ASCII characters")
    try:
        parts = urlsplit(url)
        hostname = parts.hostname
    except ValueError as error:
        raise _refused(url, param, "it is no address") from error
    if not hostname:
        raise _refused(url, param, "it names no host")
    if "@" in parts.netloc:
        raise _refused("(hidden)", param, "it holds a name or a password; the signature says who calls")
    if parts.fragment:
        raise _refused(url, param, "it has a fragment, which is never sent")
    return parts


def _port(parts: SplitResult) -> int:
    """Return the port; 0 for one that is none."""
    try:
        return _PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        return 0


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        # An address with a zone (fe80::1%eth0) means something on one machine only.
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def _within(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & _LOW_32_BITS)
    return address


def _refused(url: str, param: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{param}: {url[:200]!r} cannot be called: {reason}; use https://HOST/PATH.", param=param)
