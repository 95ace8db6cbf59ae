"""`POST /v2/embed` and `/v1/embed`: texts into vectors, in the number types asked for."""

from typing import Any

from gateway.api.call import Call
from gateway.api.cohere.requests import EmbedV1Body, EmbedV2Body
from gateway.api.cohere.vectors import as_types
from gateway.api.replies import Reply, json_reply
from gateway.domain.asking import TokenUsage
from gateway.domain.finding import Vectors
from gateway.ports import Retrieval
from services.chassis.errors import InvalidInput
from services.chassis.ids import new_id

__all__ = ["EmbedRoutes"]


class EmbedRoutes:
    """Embeds texts.

    Args:
        retrieval: The retrieval room.
    """

    def __init__(self, *, retrieval: Retrieval) -> None:
        self._retrieval = retrieval

    async def v2(self, call: Call) -> Reply:
        """Return vectors by type."""
        body = await call.parse(EmbedV2Body)
        texts = [*body.texts, *(_text_of(place, item) for place, item in enumerate(body.inputs))]
        vectors = await self._embed(call, body, texts)
        if body.output_dimension not in (None, vectors.dimension):
            raise InvalidInput(
                f"output_dimension: {body.output_dimension} is not offered; the model {vectors.model} gives "
                f"{vectors.dimension}.",
                param="output_dimension",
            )
        return json_reply(_by_type(vectors, texts, body.embedding_types or ["float"], version="2"))

    async def v1(self, call: Call) -> Reply:
        """Return vectors as plain numbers, or by type where types are asked for."""
        body = await call.parse(EmbedV1Body)
        vectors = await self._embed(call, body, body.texts)
        if body.embedding_types:
            return json_reply(_by_type(vectors, body.texts, body.embedding_types, version="1"))
        answer = _by_type(vectors, body.texts, ["float"], version="1")
        return json_reply(answer | {"response_type": "embeddings_floats", "embeddings": answer["embeddings"]["float"]})

    async def _embed(self, call: Call, body: EmbedV1Body | EmbedV2Body, texts: list[str]) -> Vectors:
        if body.images:
            raise InvalidInput("images are not offered: the model embeds texts.", param="images")
        if not texts:
            raise InvalidInput("texts: give at least one text.", param="texts")
        if body.truncate == "START":
            raise InvalidInput(
                "truncate: START is not offered; long texts are cut at their end (END).", param="truncate"
            )
        vectors = await self._retrieval.embed(texts, queries=body.input_type == "search_query")
        call.spend(vectors.model, TokenUsage(prompt_tokens=vectors.token_count))
        return vectors


def _text_of(place: int, item: dict[str, Any]) -> str:
    """Return the text of one of v2's `inputs`: parts that are all text."""
    parts = item.get("content")
    param = f"inputs[{place}].content"
    if not isinstance(parts, list):
        raise InvalidInput(f"{param} must be a list of parts.", param=param)
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidInput(f"{param}: the parts that are offered are of type text.", param=param)
    return "\n".join(part["text"] for part in parts)


def _by_type(vectors: Vectors, texts: list[str], types: list[Any], *, version: str) -> dict[str, Any]:
    return {
        "id": new_id("embed_"),
        "response_type": "embeddings_by_type",
        "embeddings": as_types(vectors.rows(), types),
        "texts": texts,
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"input_tokens": vectors.token_count},
        },
    }
