"""Certificate files (PEM) that are read again when somebody replaces them: what a room shows, and whom it trusts.

Connections that are made afterwards use the new files; those that stand go on. New files that are none (half written, a key
of another certificate) leave the old ones in use, and the log says why.
"""

import os
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic_settings import BaseSettings

from services.chassis.errors import InvalidInput

__all__ = ["CertificateEnds", "CertificateFiles", "Pems", "RenewedContext"]

_log = structlog.get_logger()

# How often the files are looked at while connections are made: looking is three calls of the system, renewal takes days.
_LOOK_S: Final = 1.0
_PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, eq=False)
class Pems:
    """What the files hold; one object for each time that they were taken.

    Attributes:
        authorities: Whom the other side's certificate must come from; None for those of the web.
        certificate: What is shown, with the certificates that lead to its authority; None for nothing.
        key: Its private key.
    """

    authorities: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)

    def client_context(self) -> ssl.SSLContext:
        """Return a context that checks the server's certificate and name, and shows ours.

        Raises:
            ssl.SSLError: The library takes none of it (a key that is too short, for one).
        """
        context = ssl.create_default_context(cadata=self.authorities.decode() if self.authorities else None)
        if self.certificate and self.key:
            # The library takes the pair as files only; from these files another pair might come meanwhile.
            with _memory_file(self.certificate + b"\n" + self.key) as path:
                context.load_cert_chain(path)
        return context


class CertificateFiles:
    """The files of one use, as they are at the moment.

    Args:
        use: What settings about them begin with; for errors and logs.
        authorities: Whom the other side's certificate must come from; None for those of the web.
        certificate: What is shown; None for nothing.
        key: Its private key; may be the same file.

    Raises:
        InvalidInput: A file is not what it should be, or the key is not that of the certificate.
    """

    def __init__(self, use: str, *, authorities: Path | None, certificate: Path | None, key: Path | None) -> None:
        self._use = use
        self._paths: Mapping[str, Path | None] = dict(
            zip(_settings_of(use), (authorities, certificate, key), strict=True)
        )
        self._lock = threading.Lock()
        self._look_at = time.monotonic() + _LOOK_S
        self._stamp = self._stamped()
        try:
            self._pems = self._read()
        except _NotTakenError as error:
            raise InvalidInput(str(error)) from error

    @classmethod
    def of(cls, settings: BaseSettings, use: str) -> Self | None:
        """Return the files that the settings of a use (`<use>_ca_file` …) name, or None when they name none.

        Raises:
            InvalidInput: A certificate is named without its key, or a key without its certificate, or as above.
        """
        names = _settings_of(use)
        authorities, certificate, key = (getattr(settings, name) for name in names)
        if bool(certificate) != bool(key):
            raise InvalidInput(f"{names[1]} and {names[2]} go together: give both or none.")
        if not authorities and not certificate:
            return None
        return cls(use, authorities=authorities, certificate=certificate, key=key)

    def current(self) -> Pems:
        """Return what is to be used by a connection that is made now; any thread may ask."""
        with self._lock:
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + _LOOK_S
                self._look()
            return self._pems

    def _look(self) -> None:
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        try:
            found = self._read()
        except _NotTakenError as error:
            if stamp == self._stamped():
                self._stamp = stamp
                _log.error("certificates_not_taken", use=self._use, reason=str(error))
            return
        # What was replaced while it was read is read again at the next look: it may be one half of each.
        if stamp == self._stamped():
            self._stamp, self._pems = stamp, found
            _log.info("certificates_taken", use=self._use)

    def _stamped(self) -> Sequence[tuple[int, ...] | None]:
        """Return what changes when the files do, also when a link on the way to them leads elsewhere."""
        found: list[tuple[int, ...] | None] = []
        for path in self._paths.values():
            try:
                about = path.stat() if path else None
            except OSError:
                about = None
            found.append(about and (about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size))
        return found

    def _read(self) -> Pems:
        ca_name, cert_name, key_name = self._paths
        contents = [self._content(name) for name in (ca_name, cert_name, key_name)]
        authorities = _certificates(ca_name, contents[0])
        chain = _certificates(cert_name, contents[1])
        key = _key(key_name, contents[2])
        if chain and key and chain[0].public_key() != key.public_key():
            raise _NotTakenError(f"{key_name}: the key is not that of the certificate in {cert_name}.")
        pems = Pems(
            _joined(authorities),
            _joined(chain),
            key and key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        try:
            pems.client_context()
        except (ssl.SSLError, ValueError) as error:
            raise _NotTakenError(f"{ca_name}, {cert_name}, {key_name}: {error}") from error
        if chain and chain[0].not_valid_after_utc < datetime.now(UTC):
            ended = chain[0].not_valid_after_utc.isoformat()
            _log.error("certificate_ended", use=self._use, setting=cert_name, ended=ended)
        return pems

    def _content(self, name: str) -> bytes | None:
        path = self._paths[name]
        try:
            return path.read_bytes() if path else None
        except OSError as error:
            raise _NotTakenError(f"{name}: {str(path)!r} cannot be read ({error.strerror}).") from error


class RenewedContext(ssl.SSLContext):
    """A client's context for libraries that take one for all their connections: each new one uses the files of its moment.

    Args:
        files: Whom to trust and what to show.
    """

    def __new__(cls, files: CertificateFiles) -> Self:  # noqa: ARG004  as __init__
        """Return a context that checks certificates and names, also where a library asks what it does."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._protocols: Sequence[str] = ()
        self._made: tuple[Pems, ssl.SSLContext] | None = None

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        """Return a TLS socket over a plain one."""
        return self._current().wrap_socket(*arguments, **named)

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """Return a TLS connection over two buffers."""
        return self._current().wrap_bio(*arguments, **named)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer these protocols on new connections."""
        self._protocols = tuple(alpn_protocols)
        self._made = None

    def _current(self) -> ssl.SSLContext:
        pems, made = self._files.current(), self._made
        if made is None or made[0] is not pems:
            context = pems.client_context()
            if self._protocols:
                context.set_alpn_protocols(list(self._protocols))
            made = self._made = (pems, context)
        return made[1]


class CertificateEnds(Collector):
    """Tells Prometheus until when the certificates in a room's files are good, by the setting that names them.

    Of authorities it is the last that ends: an old one may stay in the file while certificates move to another. A file that
    holds no certificate is said to have ended at 0.

    Args:
        settings: The room's.
    """

    def __init__(self, settings: BaseSettings) -> None:
        self._paths: dict[str, Path] = {
            name: path for name, path in settings if name.endswith(("_ca_file", "_cert_file")) and path is not None
        }

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the one metric."""
        family = GaugeMetricFamily(
            "brain_certificate_end_timestamp_seconds",
            "When the certificate in the file of a setting ends (Unix time).",
            labels=["setting"],
        )
        for name, path in self._paths.items():
            family.add_metric([name], _end(name, path))
        yield family


class _NotTakenError(Exception):
    """A file is not what it should be; the message names the setting."""


def _settings_of(use: str) -> tuple[str, str, str]:
    """Return the names of the settings: authorities, certificate, key."""
    # What a room shows to everybody is called shorter.
    return f"{use}_ca_file", f"{use}_cert_file", "tls_key_file" if use == "tls" else f"{use}_cert_key_file"


def _certificates(name: str, content: bytes | None) -> list[x509.Certificate]:
    if content is None:
        return []
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise _NotTakenError(f"{name}: there is no certificate (PEM) in it, or not a whole one.") from error
    # The library passes over the last of several of which a part is missing.
    if len(found) < content.count(b"-----BEGIN CERTIFICATE"):
        raise _NotTakenError(f"{name}: the last certificate (PEM) in it is not a whole one.")
    return found


def _key(name: str, content: bytes | None) -> Any:
    if content is None:
        return None
    try:
        return serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _NotTakenError(f"{name}: there is no private key (PEM, without a password) in it.") from error


def _joined(certificates: Sequence[x509.Certificate]) -> bytes | None:
    return b"".join(one.public_bytes(_PEM) for one in certificates) or None


def _end(name: str, path: Path) -> float:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return 0.0
    ends = [one.not_valid_after_utc.timestamp() for one in found]
    return max(ends) if name.endswith("_ca_file") else ends[0]


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file that lies on no disk."""
    handle = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(handle, content)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)
