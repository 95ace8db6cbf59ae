"""How clients sign in to Kafka: settings of the library from a room's settings."""

import ssl
from typing import Any

from services.chassis.certificates import CertificateFiles, RenewedContext
from services.chassis.errors import InvalidInput
from services.chassis.settings import EventSettings

__all__ = ["kafka_access"]


def kafka_access(settings: EventSettings | None, *, tls: bool) -> dict[str, Any]:
    """Return what every client of the library is told.

    Args:
        settings: Who signs in, and the files.
        tls: Whether the brokers speak TLS.

    Raises:
        InvalidInput: Settings that go together are not all given, or a file cannot be read as what it should be.
    """
    if settings is None:
        return {"security_protocol": "SSL", "ssl_context": ssl.create_default_context()} if tls else {}
    if bool(settings.events_user) != bool(settings.events_password_file):
        raise InvalidInput("events_user and events_password_file go together: give both or none.")
    given: dict[str, Any] = {}
    files = CertificateFiles.of(settings, "events")
    if tls:
        given["ssl_context"] = RenewedContext(files) if files else ssl.create_default_context()
    elif files:
        raise InvalidInput("events_ca_file and events_cert_file are for TLS: use kafkas://… as events_url.")
    if settings.events_user and settings.events_password_file:
        given |= {
            "sasl_mechanism": settings.events_mechanism,
            "sasl_plain_username": settings.events_user,
            "sasl_plain_password": settings.events_password_file.read_text().strip(),
        }
    protocol = f"SASL_{'SSL' if tls else 'PLAINTEXT'}" if settings.events_user else ("SSL" if tls else "PLAINTEXT")
    return given | {"security_protocol": protocol}
