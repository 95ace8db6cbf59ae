"""`/v1/embeddings`."""

import base64
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.api.bodies import called
from gateway.api.call import Call
from gateway.api.openai.requests import EmbeddingBody
from gateway.api.replies import Reply
from gateway.api.routing import Body, Route
from gateway.domain.asking import TokenUsage
from gateway.ports import Generation, Retrieval
from services.chassis.errors import InvalidInput

__all__ = ["EmbeddingRoutes"]

_MAX_INPUTS = 2048


class EmbeddingRoutes:
    """Turns text into vectors.

    Args:
        retrieval: Embeds.
        generation: Turns token ids back into text, for clients that send those.
    """

    def __init__(self, *, retrieval: Retrieval, generation: Generation) -> None:
        self._retrieval = retrieval
        self._generation = generation

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                "POST",
                "/v1/embeddings",
                self.create,
                "Embed texts",
                body=Body.JSON,
                request=EmbeddingBody,
                makes_tokens=True,
            )
        ]

    async def create(self, call: Call) -> Reply:
        """Embed one text or several."""
        body = await call.parse(EmbeddingBody)
        texts = await self._texts(body)
        made = await self._retrieval.embed(texts)
        if body.dimensions not in (None, made.dimension):
            raise InvalidInput(
                f"dimensions: {body.dimensions} is not offered; vectors of {made.model} have {made.dimension}.",
                param="dimensions",
            )
        as_text = body.encoding_format == "base64"
        vectors: Sequence[Any] = (
            [base64.b64encode(made.row(index)).decode() for index in range(len(texts))] if as_text else made.rows()
        )
        call.spend(made.model, TokenUsage(prompt_tokens=made.token_count))
        answer = {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(vectors)],
            "model": made.model,
            "usage": {"prompt_tokens": made.token_count, "total_tokens": made.token_count},
        }
        return Reply(orjson.dumps(answer))

    async def _texts(self, body: EmbeddingBody) -> list[str]:
        given: list[Any] = [body.input] if isinstance(body.input, str) else body.input
        if given and isinstance(given[0], int):
            given = [given]
        if not 1 <= len(given) <= _MAX_INPUTS:
            raise InvalidInput(f"input: {len(given)} items; give 1 to {_MAX_INPUTS:,}.", param="input")
        texts = []
        for index, item in enumerate(given):
            if not item:
                raise InvalidInput(f"input[{index}] is empty; there is nothing to embed.", param=f"input[{index}]")
            with called("token_ids", f"input[{index}]"):
                texts.append(item if isinstance(item, str) else await self._generation.detokenize("", item))
        return texts
