"""An embedder behind an HTTP endpoint of OpenAI's embeddings API, as TEI, vLLM, Ollama and others serve it, too."""

import hashlib
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Conflict, InvalidInput, Overloaded, Unavailable
from services.retrieval.ports import Embedding

__all__ = ["EmbeddingEndpoint", "OpenAIEmbedder"]

_FORM: Final = "use openai://HOST[:PORT]/PATH?model=NAME[&dimensions=N], or openais:// for TLS"
# What a text may be refused for; another one may be taken.
_REFUSED: Final = frozenset(
    {httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE, httpx.codes.UNPROCESSABLE_ENTITY}
)
# Reasons go to the log: enough to understand.
_MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class EmbeddingEndpoint:
    """Where an embedding model is served, and how it wants to be asked.

    Attributes:
        url: `https://HOST:PORT/PATH`, to which `/embeddings` is added.
        model: Name that the endpoint knows it by.
        dimensions: Components to ask for, where the model offers several numbers; None for its own.
        key: Bearer token; empty for none.
        ca_file: Authorities (PEM) that its certificate must come from; None for those of the web.
        query_prefix: What begins each query.
        passage_prefix: What begins each passage.
        batch: Texts in one request.
        max_characters: Characters read of a text.
        timeout_s: Seconds that one request may take.
    """

    url: str
    model: str
    dimensions: int | None = None
    key: str = field(default="", repr=False)
    ca_file: Path | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    batch: int = 32
    max_characters: int = 8_000
    timeout_s: float = 30.0

    @classmethod
    def of_url(cls, setting: str, url: str, **about: Any) -> "EmbeddingEndpoint":
        """Return the endpoint that a setting names; `about` are the other attributes.

        Raises:
            InvalidInput: It is no such URL; the message says what is.
        """
        try:
            parts = urlsplit(url)
            options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            (model,) = options.pop("model", [""])
            (dimensions,) = options.pop("dimensions", ["0"])
            asked = int(dimensions)
            # Read for its own sake: it raises where there is none.
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"{setting}: {url!r} is no such address; {_FORM}.") from error
        wrong = parts.scheme not in {"openai", "openais"} or not parts.hostname or port == 0
        if wrong or not model or asked < 0 or parts.username is not None or parts.fragment or options:
            raise InvalidInput(f"{setting}: {url!r} is no such address; {_FORM}.")
        scheme = "https" if parts.scheme == "openais" else "http"
        return cls(f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}", model, asked or None, **about)


class OpenAIEmbedder:
    """Asks a remote model.

    Args:
        endpoint: Where it is.
    """

    def __init__(self, endpoint: EmbeddingEndpoint) -> None:
        self._endpoint = endpoint
        self._dimension = 0
        headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        verify = ssl.create_default_context(cafile=endpoint.ca_file) if endpoint.ca_file else True
        self._client = httpx.AsyncClient(timeout=endpoint.timeout_s, headers=headers, verify=verify)

    async def open(self) -> None:
        """Learn the dimension by embedding one text.

        Raises:
            Unavailable: The endpoint does not answer, or not as the API says.
            Conflict: It answers with another number of components than it was asked for.
        """
        try:
            (vector,) = await self._ask(["dimension"], prefix="")
        except InvalidInput as error:
            raise Unavailable("The embedder refuses every text.", private=error.private) from error
        if self._endpoint.dimensions not in {None, len(vector)}:
            raise Conflict(
                f"The embedder {self.model} answers with {len(vector)} components where "
                f"dimensions={self._endpoint.dimensions} were asked for."
            )
        self._dimension = len(vector)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._endpoint.model

    @property
    def dimension(self) -> int:
        """Components of one vector, known once it is open."""
        return self._dimension

    @property
    def digest(self) -> str:
        """SHA-256 of what was asked for: model, dimension, prefixes, and how much of a text is read.

        The address is no part of it: the same model may move. Neither are vectors: those of one model differ in their last
        digits from one GPU to the next, so that a digest of them would say that the model is another one. Whether the
        endpoint still serves the same model under the name is told by `domain.alike`.
        """
        said = self._endpoint
        parts = ["openai", said.model, self._dimension, said.query_prefix, said.passage_prefix, said.max_characters]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    async def embed(self, texts: Sequence[str], *, queries: bool) -> Embedding:
        """Return one unit vector for each text."""
        prefix = self._endpoint.query_prefix if queries else self._endpoint.passage_prefix
        vectors = np.zeros((len(texts), self._dimension), np.float32)
        counted = 0
        for first in range(0, len(texts), self._endpoint.batch):
            batch = texts[first : first + self._endpoint.batch]
            found, tokens = await self._asked(batch, prefix=prefix)
            if found.shape[1] != self._dimension:
                raise Unavailable(
                    "The embedder answers with vectors of another dimension than it did before.",
                    private=f"{found.shape[1]} where there were {self._dimension}",
                )
            vectors[first : first + len(batch)] = found
            counted += tokens
        return Embedding(vectors, counted)

    async def _ask(self, texts: Sequence[str], *, prefix: str) -> NDArray[np.float32]:
        return (await self._asked(texts, prefix=prefix))[0]

    async def _asked(self, texts: Sequence[str], *, prefix: str) -> tuple[NDArray[np.float32], int]:
        """Return unit vectors and the number of tokens read."""
        body: dict[str, Any] = {
            "model": self._endpoint.model,
            "input": [(prefix + text)[: self._endpoint.max_characters] for text in texts],
            "encoding_format": "float",
        }
        if self._endpoint.dimensions is not None:
            body["dimensions"] = self._endpoint.dimensions
        try:
            answer = await self._client.post(f"{self._endpoint.url}/embeddings", json=body)
        except httpx.HTTPError as error:
            raise _unavailable(repr(error)) from error
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Overloaded("The embedder has no capacity.", retry_after_s=1.0)
        if answer.status_code in _REFUSED:
            raise InvalidInput("The embedder refuses a text.", private=answer.text[:_MAX_REASON])
        if answer.is_error:
            # A wrong key or name, too, is put right by somebody while documents wait.
            raise _unavailable(f"HTTP {answer.status_code}: {answer.text[:_MAX_REASON]}")
        return _read(answer, len(texts))


def _read(answer: httpx.Response, count: int) -> tuple[NDArray[np.float32], int]:
    try:
        said = answer.json()
        rows = {int(row["index"]): row["embedding"] for row in said["data"]}
        vectors = np.asarray([rows[at] for at in range(count)], dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        tokens = int((said.get("usage") or {}).get("prompt_tokens", 0))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unavailable(f"an answer that is not the API's: {error!r}") from error
    if vectors.ndim != 2 or not vectors.shape[1] or not np.isfinite(norms).all() or not (norms > 0).all():
        raise _unavailable("vectors that have no direction")
    return np.asarray(vectors / norms, dtype=np.float32), tokens


def _unavailable(private: str) -> Unavailable:
    return Unavailable("The embedder is not available.", private=private, retry_after_s=1.0)
