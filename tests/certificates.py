"""An authority of a test's own, the certificates it signs, and folders in which they are replaced."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "MountedSecret", "serial_of"]

_PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates for servers on this machine and for clients.

    Attributes:
        file: Its own certificate (PEM).

    Args:
        folder: Where the files are written.
        name: Its name.
    """

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder / name.replace(" ", "-")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = self._folder / "authority.pem"
        self.file.write_bytes(made.public_bytes(_PEM))

    def sign(self, name: str, *, expired: bool = False, elsewhere: bool = False) -> tuple[Path, Path]:
        """Return certificate and key files for `name`, good on localhost and 127.0.0.1.

        Args:
            name: Whose certificate.
            expired: It was good until yesterday.
            elsewhere: It is for `name` alone, not for this machine.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        addresses: list[x509.GeneralName] = [x509.DNSName(name), *([] if elsewhere else here)]
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now - timedelta(days=1) if expired else now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate, secret = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(made.public_bytes(_PEM))
        secret.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return certificate, secret


def serial_of(certificate: Path) -> int:
    """Return the serial number of the certificate in a file."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


class MountedSecret:
    """A folder as Kubernetes mounts a secret: each file is a link, and all of them are replaced at once.

    Attributes:
        ca: Authorities.
        cert: Certificate.
        key: Its key.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._number = 0
        self.ca, self.cert, self.key = (folder / name for name in ("ca.crt", "tls.crt", "tls.key"))
        for link in (self.ca, self.cert, self.key):
            link.symlink_to(Path("..data") / link.name)

    def put(self, pair: tuple[Path, Path], *authorities: Authority) -> None:
        """Replace what is there by a certificate with its key, and authorities."""
        self.put_bytes(
            b"".join(authority.file.read_bytes() for authority in authorities), *(path.read_bytes() for path in pair)
        )

    def put_bytes(self, *contents: bytes) -> None:
        """Replace what is there: authorities, certificate, key."""
        self._number += 1
        new = self._folder / f"..{self._number}"
        new.mkdir()
        for link, content in zip(self._links, contents, strict=True):
            (new / link.name).write_bytes(content)
        draft = self._folder / "..data_tmp"
        draft.symlink_to(new.name)
        draft.replace(self._folder / "..data")

    @property
    def contents(self) -> tuple[bytes, ...]:
        """What is there: authorities, certificate, key."""
        return tuple(link.read_bytes() for link in self._links)

    @property
    def _links(self) -> Sequence[Path]:
        return self.ca, self.cert, self.key
