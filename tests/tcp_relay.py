"""Something between a client and a server that may speak TLS to the client, fall silent, and go away."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path, name: str) -> Path:
    """Write a certificate for `name` that signs itself, with its key; return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


class TcpRelay:
    """Hands bytes on to `host:port`.

    Attributes:
        port: Where it listens on 127.0.0.1.
        flowing: Cleared, nothing passes; what arrived waits.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.port = 0

    async def listen(self, context: ssl.SSLContext | None = None) -> None:
        """Begin, or begin again, on one port."""
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def leave(self) -> None:
        """Listen no more, and cut whatever is open."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self.flowing.set()
        await asyncio.sleep(0)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._hand_on(reader, onward), self._hand_on(there, writer))

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError):
            while block := await reader.read(65_536):
                await self.flowing.wait()
                writer.write(block)
                await writer.drain()
        self._writers.discard(writer)
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def relays(*targets: str, context: ssl.SSLContext | None = None) -> AsyncIterator[list[TcpRelay]]:
    """Open a relay to each `host:port`."""
    opened = [TcpRelay(target) for target in targets]
    try:
        for relay in opened:
            await relay.listen(context)
        yield opened
    finally:
        for relay in opened:
            await relay.leave()
