"""Where Weaviate is, how its client is made, and what its errors are called here."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import grpc
import httpx
from pydantic import ConfigDict
from weaviate import WeaviateAsyncClient
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.config import GrpcConfig
from weaviate.connect.base import ConnectionParams, ProtocolParams
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateBaseError

from services.chassis.certificates import CertificateFiles, RenewedContext
from services.chassis.errors import InvalidInput, Unavailable
from services.chassis.rpc.renewed import RenewedChannel

__all__ = ["WeaviateServer", "answered", "refusal_of"]

_FORM: Final = (
    "use weaviate://HOST[:PORT][?grpc=HOST:PORT], or weaviates:// for TLS; PORT is 8080 or 443, grpc is HOST:50051"
)
_HTTP_PORT: Final = 8080
_HTTPS_PORT: Final = 443
_GRPC_PORT: Final = 50051
# A server that came back is found again within this time; gRPC's own pause grows to two minutes.
_CHANNEL_OPTIONS: Final = [("grpc.max_reconnect_backoff_ms", 2_000)]
# Reasons go to the log: enough to understand, not a whole batch.
_MAX_REASON: Final = 500
# What HTTP and gRPC call the same.
_UNKNOWN: Final = (401, grpc.StatusCode.UNAUTHENTICATED.value[0])
_FORBIDDEN: Final = (403, grpc.StatusCode.PERMISSION_DENIED.value[0])
_UNPROCESSABLE: Final = 422


@dataclass(frozen=True, slots=True)
class WeaviateServer:
    """Where Weaviate is and what it is told.

    Attributes:
        http_host: Host of REST.
        http_port: Its port.
        grpc_host: Host of gRPC.
        grpc_port: Its port.
        tls: Whether both speak TLS.
        key: API key; empty for none.
        ca_file: Authorities (PEM) that the certificates must come from; None for those of the web.
        cert_file: Certificate (PEM) that is shown; None for none.
        cert_key_file: Its private key; None where the same file holds it.
        query_timeout_s: Seconds that a search or a count may take.
        write_timeout_s: Seconds that one batch of writes may take.
    """

    http_host: str
    http_port: int
    grpc_host: str
    grpc_port: int
    tls: bool
    key: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    cert_key_file: Path | None = None
    query_timeout_s: float = 10.0
    write_timeout_s: float = 60.0

    @classmethod
    def of_url(cls, url: str, **about: Any) -> Self:
        """Return the server of a URL; `about` are the other attributes.

        Raises:
            InvalidInput: It is no such URL; the message says what is.
        """
        try:
            parts = urlsplit(url)
            options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            (grpc,) = options.pop("grpc", [""])
            tls, port = parts.scheme == "weaviates", parts.port
            grpc_parts = urlsplit(f"//{grpc}")
            grpc_host, grpc_port = grpc_parts.hostname or parts.hostname, grpc_parts.port
        except ValueError as error:
            raise InvalidInput(f"index_url: {url!r} is no such address; {_FORM}.") from error
        strange = parts.username is not None or parts.path not in {"", "/"} or parts.fragment or options
        if parts.scheme not in {"weaviate", "weaviates"} or not parts.hostname or not grpc_host or strange:
            raise InvalidInput(f"index_url: {url!r} is no such address; {_FORM}.")
        http_place = (parts.hostname, port or (_HTTPS_PORT if tls else _HTTP_PORT))
        grpc_place = (grpc_host, grpc_port or _GRPC_PORT)
        if http_place == grpc_place:
            raise InvalidInput(f"index_url: {url!r} names one place for both; Weaviate's gRPC has a port of its own.")
        return cls(
            http_host=http_place[0],
            http_port=http_place[1],
            grpc_host=grpc_place[0],
            grpc_port=grpc_place[1],
            tls=tls,
            **about,
        )

    def client(self) -> WeaviateAsyncClient:
        """Return a client that is not connected yet.

        Raises:
            InvalidInput: The files of the certificates are none.
        """
        # It logs whole objects that were refused: texts of documents. What went wrong is raised anyway.
        logging.getLogger("weaviate-client").disabled = True
        files = self._files()
        client = WeaviateAsyncClient(
            self._places(files),
            auth_client_secret=Auth.api_key(self.key) if self.key else None,
            additional_config=AdditionalConfig(
                timeout=Timeout(query=self.query_timeout_s, insert=self.write_timeout_s, init=self.query_timeout_s),
                grpc_config=GrpcConfig(channel_options=_CHANNEL_OPTIONS),
            ),
            # They ask PyPI for the client's newest release.
            skip_init_checks=True,
        )
        if files is not None:
            transport = httpx.AsyncHTTPTransport(verify=RenewedContext(files))
            # No setting of the client reaches the authorities and the certificate of REST; if this place moves, calls
            # fail, since the web's authorities vouch for nobody of ours.
            client._connection._make_mounts = lambda _colour: {"https://": transport}  # type: ignore[assignment,method-assign]  # noqa: SLF001
        return client

    def _places(self, files: CertificateFiles | None) -> ConnectionParams:
        http = ProtocolParams(host=self.http_host, port=self.http_port, secure=self.tls)
        grpc = ProtocolParams(host=self.grpc_host, port=self.grpc_port, secure=self.tls)
        return ConnectionParams(http=http, grpc=grpc) if files is None else _Renewed(http=http, grpc=grpc, files=files)

    def _files(self) -> CertificateFiles | None:
        if not self.tls or (self.ca_file is None and self.cert_file is None):
            return None
        return CertificateFiles(
            "index",
            authorities=self.ca_file,
            certificate=self.cert_file,
            key=self.cert_key_file or self.cert_file,
        )


class _Renewed(ConnectionParams):
    """Where both are; the client opens its one gRPC channel here, and its own would keep the certificates it began with."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    files: CertificateFiles

    def _grpc_channel(
        self,
        proxies: dict[str, str],
        grpc_msg_size: int | None,
        is_async: bool,
        grpc_config: GrpcConfig | None = None,
    ) -> Any:
        opened = super()._grpc_channel

        def connect(credentials: grpc.ChannelCredentials) -> Any:
            config = GrpcConfig(channel_options=_CHANNEL_OPTIONS, credentials=credentials)
            return opened(proxies, grpc_msg_size, is_async, config)

        return RenewedChannel(self.files, connect=connect)


@asynccontextmanager
async def answered(timeout_s: float) -> AsyncIterator[None]:
    """Wait no longer than `timeout_s` for what is asked inside, and call its errors by our names.

    Raises:
        Unavailable: No answer in time, or one that is an error.
    """
    try:
        # The client repeats what found nobody for a minute; the deadline is of all tries together.
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise _unavailable(f"no answer within {timeout_s:g} s") from error
    except (WeaviateBaseError, httpx.HTTPError, grpc.RpcError, OSError) as error:
        raise _unavailable(_reason_of(error)) from error


def refusal_of(error: BaseException | None) -> str:
    """Return which setting the server refused and how, or nothing where the error is of another kind."""
    status = error.status_code if isinstance(error, UnexpectedStatusCodeError) else None
    if status in _UNKNOWN:
        return "index_key_file: the key is not known"
    if status in _FORBIDDEN:
        return "index_key_file: the key may not make or read the collection"
    if status == _UNPROCESSABLE:
        return "index_collection, index_replicas: there can be no such collection"
    return ""


def _reason_of(error: BaseException) -> str:
    reason = f"{type(error).__name__}: {error}"[:_MAX_REASON]
    # The client says that it could not connect; what it wraps says why.
    while error.__cause__ is not None:
        error = error.__cause__
        reason += f" ({error!r})"[:_MAX_REASON]
    return reason


def _unavailable(reason: str) -> Unavailable:
    return Unavailable("The index is not available.", private=reason, retry_after_s=1.0)
