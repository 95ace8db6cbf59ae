"""Certificate files for gRPC."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from services.chassis.errors import InvalidInput
from services.chassis.settings import RoomSettings

__all__ = ["TlsFiles", "tls_files"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a room's certificate, its key and the authorities it trusts lie."""

    cert: Path
    key: Path
    authorities: Path

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that present the certificate and ask callers for theirs."""
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_credentials(
            [pair], root_certificates=self.authorities.read_bytes(), require_client_auth=True
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials that check the server's certificate and present ours."""
        return grpc.ssl_channel_credentials(
            root_certificates=self.authorities.read_bytes(),
            private_key=self.key.read_bytes(),
            certificate_chain=self.cert.read_bytes(),
        )


def tls_files(settings: RoomSettings) -> TlsFiles | None:
    """Return the files that the settings name, or None when they name none.

    Raises:
        InvalidInput: Some of the three are named and some are not.
    """
    cert, key, authorities = settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_file
    if cert is None and key is None and authorities is None:
        return None
    if cert is None or key is None or authorities is None:
        raise InvalidInput("tls_cert_file, tls_key_file and tls_ca_file go together: give all three or none.")
    return TlsFiles(cert=cert, key=key, authorities=authorities)
