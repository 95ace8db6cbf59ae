"""How clients sign in to Kafka: settings of the library from a room's settings."""

import ssl
from typing import Any

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
    _check(settings, tls=tls)
    given: dict[str, Any] = {}
    if tls:
        given["ssl_context"] = _context(settings)
    if settings.events_user and settings.events_password_file:
        given |= {
            "sasl_mechanism": settings.events_mechanism,
            "sasl_plain_username": settings.events_user,
            "sasl_plain_password": settings.events_password_file.read_text().strip(),
        }
    protocol = f"SASL_{'SSL' if tls else 'PLAINTEXT'}" if settings.events_user else ("SSL" if tls else "PLAINTEXT")
    return given | {"security_protocol": protocol}


def _check(settings: EventSettings, *, tls: bool) -> None:
    if bool(settings.events_user) != bool(settings.events_password_file):
        raise InvalidInput("events_user and events_password_file go together: give both or none.")
    if bool(settings.events_cert_file) != bool(settings.events_cert_key_file):
        raise InvalidInput("events_cert_file and events_cert_key_file go together: give both or none.")
    if not tls and (settings.events_ca_file or settings.events_cert_file):
        raise InvalidInput("events_ca_file and events_cert_file are for TLS: use kafkas://… as events_url.")


def _context(settings: EventSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.events_ca_file)
        if settings.events_cert_file:
            context.load_cert_chain(settings.events_cert_file, settings.events_cert_key_file)
    except ssl.SSLError as error:
        raise InvalidInput(
            "events_ca_file, events_cert_file or events_cert_key_file is no PEM of its kind.", private=repr(error)
        ) from error
    return context
