"""Certificate files that are replaced while connections come and go."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.chassis.certificates import CertificateEnds, CertificateFiles, RenewedContext
from services.chassis.errors import InvalidInput
from services.chassis.settings import EventSettings
from tests.certificates import Authority, MountedSecret, serial_of


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "own")


@pytest.fixture
def secret(tmp_path: Path, authority: Authority) -> MountedSecret:
    made = MountedSecret(tmp_path / "mounted")
    made.put(authority.sign("room"), authority)
    return made


@pytest.fixture
def server(authority: Authority) -> ssl.SSLContext:
    """What takes whom the authority vouches for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(*authority.sign("server"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def files(secret: MountedSecret, use: str = "events") -> CertificateFiles:
    return CertificateFiles(use, authorities=secret.ca, certificate=secret.cert, key=secret.key)


def come(server: ssl.SSLContext, client: ssl.SSLContext) -> int:
    """Shake hands; return the serial number of the certificate that the server saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    calling = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    for side in (calling, serving, calling, serving):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    peer: Any = serving.getpeercert()
    return int(peer["serialNumber"], 16)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.05)


async def test_connections_show_the_certificate_of_their_moment(
    server: ssl.SSLContext, authority: Authority, secret: MountedSecret
) -> None:
    taken = files(secret)
    context = RenewedContext(taken)
    before = taken.current()
    assert come(server, context) == serial_of(secret.cert)
    assert taken.current() is before
    renewed = authority.sign("renewed")
    secret.put(renewed, authority)
    await until(lambda: taken.current() is not before)
    assert come(server, context) == serial_of(renewed[0])


async def test_an_authority_that_is_gone_vouches_for_nobody(
    server: ssl.SSLContext, authority: Authority, secret: MountedSecret, tmp_path: Path
) -> None:
    taken, other = files(secret), Authority(tmp_path, "other")
    context, before = RenewedContext(taken), taken.current()
    come(server, context)
    # Both for a while: that is how a fleet moves to another authority.
    secret.put(authority.sign("room"), authority, other)
    await until(lambda: taken.current() is not before)
    come(server, context)
    before = taken.current()
    secret.put(other.sign("room"), other)
    await until(lambda: taken.current() is not before)
    with pytest.raises(ssl.SSLCertVerificationError):
        come(server, context)


@pytest.mark.parametrize("what", ["half", "nothing", "half of the authorities", "another key", "no file"])
async def test_files_that_are_none_leave_the_old_ones_in_use_and_are_told(
    server: ssl.SSLContext, authority: Authority, secret: MountedSecret, what: str
) -> None:
    taken = files(secret)
    context, before = RenewedContext(taken), taken.current()
    ca, cert, key = secret.contents
    shown = serial_of(secret.cert)
    with capture_logs() as logs:
        match what:
            case "half":
                secret.put_bytes(ca, cert[: len(cert) // 2], key)
            case "nothing":
                secret.put_bytes(ca, b"", key)
            case "half of the authorities":
                secret.put_bytes(ca + ca[: len(ca) // 2], cert, key)
            case "another key":
                secret.put_bytes(ca, cert, authority.sign("other")[1].read_bytes())
            case _:
                secret.key.unlink()

        def told() -> list[Any]:
            taken.current()
            return [line for line in logs if line["event"] == "certificates_not_taken"]

        await until(lambda: bool(told()))
        assert taken.current() is before
        assert come(server, context) == shown
        # Looked at once more: it is said once.
        await asyncio.sleep(1.1)
        assert len(told()) == 1
    [line] = told()
    assert line["use"] == "events"
    assert line["log_level"] == "error"
    name = {"half of the authorities": "events_ca_file", "another key": "events_cert_key_file", "no file": "key"}
    assert name.get(what, "events_cert_file") in line["reason"]
    # What mends it is taken.
    if what == "no file":
        secret.key.symlink_to(Path("..data") / secret.key.name)
    secret.put_bytes(ca, cert, key)
    await until(lambda: taken.current() is not before)
    assert come(server, context) == shown


@pytest.mark.parametrize("broken", ["ca", "cert", "key"])
def test_a_start_with_files_that_are_none_names_the_setting(secret: MountedSecret, broken: str) -> None:
    contents = dict(zip(("ca", "cert", "key"), secret.contents, strict=True)) | {broken: b"nothing"}
    secret.put_bytes(*contents.values())
    name = {"ca": "redis_ca_file", "cert": "redis_cert_file", "key": "redis_cert_key_file"}[broken]
    with pytest.raises(InvalidInput, match=f"{name}: .*PEM"):
        files(secret, "redis")


def test_a_key_with_a_password_is_refused_at_the_start(secret: MountedSecret) -> None:
    from cryptography.hazmat.primitives import serialization

    ca, cert, key = secret.contents
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    secret.put_bytes(ca, cert, locked)
    with pytest.raises(InvalidInput, match=r"tls_key_file: .*without a password"):
        files(secret, "tls")


def test_a_certificate_that_has_ended_is_told(authority: Authority, secret: MountedSecret) -> None:
    secret.put(authority.sign("late", expired=True), authority)
    with capture_logs() as logs:
        files(secret)
    assert [(line["event"], line["setting"]) for line in logs] == [("certificate_ended", "events_cert_file")]


def test_when_certificates_end_can_be_watched(authority: Authority, secret: MountedSecret, tmp_path: Path) -> None:
    settings = EventSettings(
        tls_cert_file=authority.sign("late", expired=True)[0], events_ca_file=secret.ca, events_cert_file=secret.cert
    )
    registry = CollectorRegistry()
    registry.register(CertificateEnds(settings))

    def end(setting: str) -> float | None:
        return registry.get_sample_value("brain_certificate_end_timestamp_seconds", {"setting": setting})

    now = datetime.now(UTC).timestamp()
    assert now - 2 * 86_400 < (end("tls_cert_file") or 0) < now
    assert now < (end("events_cert_file") or 0) < now + 2 * 86_400
    assert now < (end("events_ca_file") or 0) < now + 2 * 86_400
    assert end("tls_ca_file") is None
    secret.put_bytes(b"nothing", *secret.contents[1:])
    assert end("events_ca_file") == 0
