"""Celery's way to Redis with a TLS context of ours; its own reads files by name, and takes the web's authorities, too."""

import ssl
from typing import Any

from kombu.transport import redis as kombu_redis
from redis import SSLConnection

__all__ = ["Transport"]


class _Secured(SSLConnection):
    """A connection over a context that is given."""

    def __init__(self, *, context: ssl.SSLContext, **about: Any) -> None:
        super().__init__(**about)
        self._context = context

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        return self._context.wrap_socket(sock, server_hostname=self.host)


class _Channel(kombu_redis.Channel):  # type: ignore[misc]  # kombu ships no types
    connection_class_ssl = _Secured


class Transport(kombu_redis.Transport):  # type: ignore[misc]  # kombu ships no types
    """The library's, but for what it opens where `broker_use_ssl` says `{"context": …}`."""

    Channel = _Channel
