"""One request as a handler sees it."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from starlette.datastructures import FormData, Headers, QueryParams, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gateway.api.bodies import parse, validated
from gateway.api.errors import HttpFault
from gateway.api.replies import Receive
from gateway.domain.asking import TokenUsage
from services.chassis.auth import Caller
from services.chassis.errors import Cancelled, InvalidInput, TooLarge, Unauthenticated

__all__ = ["Call", "Intake"]

Model = TypeVar("Model", bound=BaseModel)
# Fields of a form are short; its files are what is large.
_MAX_FORM_FIELDS: Final = 64
_READ_BYTES: Final = 512 * 1024
# Who sends less than this for longer than the patience lasts is not sending but holding a place.
_SLOWEST_BYTES_PER_S: Final = 1024


class Intake:
    """Takes a body in: counts its bytes, gives up on slow senders, and remembers its digest.

    Args:
        receive: ASGI's.
        headers: The request's.
        max_bytes: More is refused, before it is read where the sender says how much comes.
        patience_s: How long the next piece may take, and how far a slow sender may fall behind in all.
    """

    def __init__(self, receive: Receive, headers: Headers, *, max_bytes: int, patience_s: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._patience_s = patience_s
        self._digest = hashlib.sha256()
        self.is_done = False
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > max_bytes:
            raise self._too_large()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than the {self._max_bytes:,} bytes that this route takes.")

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes.

        Raises:
            TooLarge: More came than is allowed.
            HttpFault: 408, the sender was too slow.
            Cancelled: The sender left.
        """
        size, waited_s = 0, 0.0
        while not self.is_done:
            began = time.monotonic()
            credit_s = size / _SLOWEST_BYTES_PER_S - waited_s
            try:
                async with asyncio.timeout(self._patience_s + min(credit_s, 0.0)):
                    message = await self._receive()
            except TimeoutError as error:
                raise HttpFault(
                    408, f"The body stood still, or nearly, for {self._patience_s:g} s.", code="request_timeout"
                ) from error
            waited_s += time.monotonic() - began
            if message["type"] == "http.disconnect":
                raise Cancelled("The client left before the body was complete.")
            self.is_done = not message.get("more_body", False)
            if data := message.get("body", b""):
                size += len(data)
                if size > self._max_bytes:
                    raise self._too_large()
                self._digest.update(data)
                yield data

    @property
    def digest(self) -> str:
        """SHA-256 of what has been read."""
        return self._digest.hexdigest()


class Call:
    """A request whose caller is known and allowed.

    Attributes:
        request_id: Its id, ours or the caller's.
        path: Parameters of the path.
        headers: Headers, by name in any case.
        object_id: What it touched, for the audit log.
    """

    __slots__ = (
        "_body",
        "_caller",
        "_form",
        "_intake",
        "_query",
        "headers",
        "object_id",
        "path",
        "request_id",
        "spent",
    )

    def __init__(
        self,
        *,
        request_id: str,
        path: Mapping[str, str],
        query_string: bytes,
        headers: Headers,
        caller: Caller | None,
        intake: Intake,
    ) -> None:
        self.request_id = request_id
        self.path = path
        self.headers = headers
        self.object_id = next(iter(path.values()), "")
        self.spent: list[tuple[str, TokenUsage]] = []
        self._caller = caller
        self._intake = intake
        self._query = query_string
        self._body: bytes | None = None
        self._form: FormData | None = None

    @property
    def caller(self) -> Caller:
        """Who asks.

        Raises:
            Unauthenticated: Nobody does, on an open route.
        """
        if self._caller is None:
            raise Unauthenticated("This needs an API key.")
        return self._caller

    @property
    def is_administrator(self) -> bool:
        """Whether an administrator asks; False where nobody is known, on an open route."""
        return self._caller is not None and self._caller.is_administrator

    def header(self, name: str) -> str:
        """Return a header; empty when it did not come."""
        return self.headers.get(name, "")

    def query(self, model: type[Model]) -> Model:
        """Return the query string as a model; a key that comes twice, or as `key[]`, becomes a list.

        Raises:
            InvalidInput: A field is wrong.
        """
        values: dict[str, Any] = {}
        params = QueryParams(self._query)
        for key in params:
            found = params.getlist(key)
            values[key.removesuffix("[]")] = found if key.endswith("[]") or len(found) > 1 else found[0]
        return validated(model, values)

    async def body(self) -> bytes:
        """Return the body, read once."""
        if self._body is None:
            self._body = b"".join([chunk async for chunk in self._intake.chunks()])
        return self._body

    async def parse(self, model: type[Model]) -> Model:
        """Return the JSON body as a model.

        Raises:
            InvalidInput: Not JSON, or a field is wrong.
        """
        return parse(model, await self.body())

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw body as it comes."""
        return self._intake.chunks()

    async def form(self) -> FormData:
        """Return a multipart form; its files lie on disk when they are larger than a mebibyte.

        Raises:
            InvalidInput: Not a multipart form.
        """
        if self._form is None:
            if not self.header("content-type").lower().startswith("multipart/form-data"):
                raise InvalidInput("The body must be multipart/form-data.", param="Content-Type")
            parser = MultiPartParser(self.headers, self._intake.chunks(), max_files=1, max_fields=_MAX_FORM_FIELDS)
            try:
                self._form = await parser.parse()
            except (MultiPartException, KeyError) as error:
                raise InvalidInput(f"The form cannot be read: {str(error).rstrip('.')}.") from error
        return self._form

    async def digest(self) -> str:
        """Return what tells this request from others with the same `Idempotency-Key`.

        Of a form its fields and files count: the boundary differs from one try to the next.
        """
        if self._form is None:
            async for _ in self._intake.chunks():
                pass
            return hashlib.sha256(self._query + b"\n" + self._intake.digest.encode()).hexdigest()
        digest = hashlib.sha256(self._query)
        for name, value in self._form.multi_items():
            digest.update(f"\n{name}\n".encode())
            if isinstance(value, UploadFile):
                await value.seek(0)
                digest.update(f"{value.filename}\n".encode())
                while piece := await value.read(_READ_BYTES):
                    digest.update(piece)
                await value.seek(0)
            else:
                digest.update(value.encode())
        return digest.hexdigest()

    async def close(self) -> None:
        """Let go of what the form holds."""
        if self._form is not None:
            await self._form.close()

    def touched(self, object_id: str) -> None:
        """Name the object for the audit log."""
        self.object_id = object_id

    def spend(self, model: str, usage: TokenUsage) -> None:
        """Meter tokens."""
        self.spent.append((model, usage))
