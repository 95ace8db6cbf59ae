"""Certificates of rooms for gRPC."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from services.chassis.certificates import CertificateFiles, Pems
from services.chassis.errors import InvalidInput
from services.chassis.settings import RoomSettings

__all__ = ["Tls", "channel_credentials", "tls_of"]


@dataclass(frozen=True, slots=True)
class Tls:
    """What a room shows to the others, and whom it takes for one of them.

    Attributes:
        files: Its certificate, the key and the authorities; read again when they are replaced.
        server_name: Name that the certificates of the rooms that it calls are for; empty for that of their address.
    """

    files: CertificateFiles
    server_name: str = ""

    @classmethod
    def of_files(cls, *, authorities: Path, certificate: Path, key: Path, server_name: str = "") -> "Tls":
        """Return what three files say.

        Raises:
            InvalidInput: One of them is not what it should be.
        """
        files = CertificateFiles("tls", authorities=authorities, certificate=certificate, key=key)
        return cls(files, server_name)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that show the certificate of the moment and ask callers for theirs."""
        shown = self.files.current()

        def renewed() -> Any:
            # Asked at each connection, by a thread of the library; None is: as before, which its types do not know.
            nonlocal shown
            pems = self.files.current()
            if pems is shown:
                return None
            shown = pems
            return _configuration(pems)

        return grpc.dynamic_ssl_server_credentials(_configuration(shown), renewed, require_client_authentication=True)


def channel_credentials(pems: Pems) -> grpc.ChannelCredentials:
    """Return credentials that check the server's certificate and show ours, if there is one."""
    return grpc.ssl_channel_credentials(
        root_certificates=pems.authorities, private_key=pems.key, certificate_chain=pems.certificate
    )


def tls_of(settings: RoomSettings) -> Tls | None:
    """Return what the settings name, or None when they name no files.

    Raises:
        InvalidInput: Some of the three files are named and some are not, or one is not what it should be.
    """
    authorities, certificate, key = settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file
    if authorities is None and certificate is None and key is None:
        if settings.tls_server_name:
            raise InvalidInput("tls_server_name is for TLS: give tls_cert_file, tls_key_file and tls_ca_file, too.")
        return None
    if authorities is None or certificate is None or key is None:
        raise InvalidInput("tls_cert_file, tls_key_file and tls_ca_file go together: give all three or none.")
    return Tls.of_files(authorities=authorities, certificate=certificate, key=key, server_name=settings.tls_server_name)


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    # A room names all three files.
    assert pems.key is not None
    assert pems.certificate is not None
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], root_certificates=pems.authorities)
