"""How clients reach Redis: the address with its password, and TLS, from a room's settings."""

import ssl
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import FilePath

from services.chassis.certificates import CertificateFiles, RenewedContext
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
        context: Certificates of TLS; None without it. New connections use the files of their moment.
    """

    url: str
    context: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str, settings: RedisSettings) -> "RedisAccess":
        """Return the access that a room's settings describe.

        Raises:
            InvalidInput: Settings that go together are not all given, or a file is not what it should be.
        """
        files = CertificateFiles.of(settings, "redis")
        tls = url.startswith("rediss://")
        if files and not tls:
            raise InvalidInput("redis_ca_file and redis_cert_file are for TLS: use rediss://… as the address.")
        if settings.redis_password_file:
            parts = urlsplit(url)
            user, _, host = parts.netloc.rpartition("@")
            password = quote(settings.redis_password_file.read_text().strip(), safe="")
            url = urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{password}@{host}"))
        if not tls:
            return cls(url)
        return cls(url, RenewedContext(files) if files else ssl.create_default_context())
