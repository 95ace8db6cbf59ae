"""A reranker behind an HTTP `/rerank` endpoint of the shape that Cohere, Jina, vLLM and others share."""

from collections.abc import Sequence
from typing import Any, Final

import httpx

from services.chassis.errors import Internal, InvalidInput, Overloaded, Unavailable

__all__ = ["HttpReranker"]

# A reranker on a GPU answers in a tenth of this; a search must not hang on it.
_TIMEOUT_S: Final = 10.0


class HttpReranker:
    """Asks a remote model.

    Args:
        url: The endpoint.
        model: Model to ask for; empty to leave it to the endpoint.
        key: Bearer token; empty for none.

    Raises:
        InvalidInput: The address is none of the web's.
    """

    name = "http"

    def __init__(self, url: str, *, model: str = "", key: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"reranker_url: {url!r} is not an address that begins with http:// or https://.")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._url = url
        self._model = model
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers)

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the endpoint's relevance scores, held within 0 and 1.

        Raises:
            Overloaded: It has no capacity.
            Unavailable: It is away or too slow.
            Internal: It refused the request or answered in another shape.
        """
        if not texts:
            return []
        body: dict[str, Any] = {"query": query, "documents": list(texts), "top_n": len(texts)}
        if self._model:
            body["model"] = self._model
        try:
            answer = await self._client.post(self._url, json=body)
        except httpx.HTTPError as error:
            raise Unavailable("The reranker is not available.", private=repr(error), retry_after_s=1.0) from error
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Overloaded("The reranker has no capacity.", retry_after_s=1.0)
        if answer.is_server_error:
            raise Unavailable("The reranker is not available.", private=f"HTTP {answer.status_code}", retry_after_s=1.0)
        try:
            answer.raise_for_status()
            scores = {int(row["index"]): float(row["relevance_score"]) for row in answer.json()["results"]}
            return [min(1.0, max(0.0, scores[at])) for at in range(len(texts))]
        except (httpx.HTTPStatusError, KeyError, TypeError, ValueError) as error:
            raise Internal("The reranker's answer is not understood.", private=repr(error)) from error

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()
