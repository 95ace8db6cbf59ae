"""How clients reach Redis: the address with its password, and TLS, from a room's settings."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import FilePath

from services.chassis.errors import InvalidInput
from services.chassis.settings import RoomSettings

__all__ = ["RedisAccess", "RedisSettings"]


class RedisSettings(RoomSettings):
    """What a room that uses Redis can be told besides.

    Attributes:
        redis_password_file: File with the password of Redis; the user, if there is one, stands in the address.
        redis_ca_file: Authorities (PEM) that the certificates of Redis must come from; none for those of the web.
        redis_cert_file: Certificate (PEM) that is shown to Redis, where it asks for one.
        redis_cert_key_file: Private key of that certificate.
    """

    redis_password_file: FilePath | None = None
    redis_ca_file: FilePath | None = None
    redis_cert_file: FilePath | None = None
    redis_cert_key_file: FilePath | None = None


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """An address with everything that is needed to come in.

    Attributes:
        url: `redis://[USER[:PASSWORD]@]HOST:PORT/N`, or `rediss://…` for TLS.
        authorities: Whom the server's certificate must come from; None for those of the web.
        certificate: What is shown to the server.
        key: Its private key.
    """

    url: str
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, url: str, settings: RedisSettings) -> "RedisAccess":
        """Return the access that a room's settings describe.

        Raises:
            InvalidInput: Settings that go together are not all given.
        """
        if bool(settings.redis_cert_file) != bool(settings.redis_cert_key_file):
            raise InvalidInput("redis_cert_file and redis_cert_key_file go together: give both or none.")
        if not url.startswith("rediss://") and (settings.redis_ca_file or settings.redis_cert_file):
            raise InvalidInput("redis_ca_file and redis_cert_file are for TLS: use rediss://… as the address.")
        if settings.redis_password_file:
            parts = urlsplit(url)
            user, _, host = parts.netloc.rpartition("@")
            password = quote(settings.redis_password_file.read_text().strip(), safe="")
            url = urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{password}@{host}"))
        return cls(url, settings.redis_ca_file, settings.redis_cert_file, settings.redis_cert_key_file)

    @property
    def tls(self) -> dict[str, Any]:
        """What the client library is told of TLS, by its names; nothing without TLS."""
        if not self.url.startswith("rediss://"):
            return {}
        given: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        if self.authorities:
            given["ssl_ca_certs"] = str(self.authorities)
        if self.certificate and self.key:
            given |= {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        return given
