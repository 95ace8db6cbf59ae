"""`POST /v2/rerank` and `/v1/rerank`: given texts, in the order of their relevance to a query."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.api.bodies import called
from gateway.api.call import Call
from gateway.api.cohere.requests import RerankV1Body, RerankV2Body
from gateway.api.replies import Reply, json_reply
from gateway.ports import Retrieval
from services.chassis.errors import InvalidInput
from services.chassis.ids import new_id

__all__ = ["RerankRoutes"]

# Cohere counts a search unit for each hundred documents begun.
_DOCUMENTS_A_UNIT: Final = 100
# Names that ask for the room's own choice: Cohere's models are not here.
_ANY_RANKER: Final = ("", "default", "rerank")


class RerankRoutes:
    """Orders documents.

    Args:
        retrieval: The retrieval room.
    """

    def __init__(self, *, retrieval: Retrieval) -> None:
        self._retrieval = retrieval

    async def v2(self, call: Call) -> Reply:
        """Order documents by their relevance."""
        body = await call.parse(RerankV2Body)
        texts = [_text(place, document, ("text",)) for place, document in enumerate(body.documents)]
        return json_reply(await self._ordered(body, texts, version="2"))

    async def v1(self, call: Call) -> Reply:
        """Order documents by their relevance, and hand them back when asked to."""
        body = await call.parse(RerankV1Body)
        fields = tuple(body.rank_fields or ("text",))
        texts = [_text(place, document, fields) for place, document in enumerate(body.documents)]
        answer = await self._ordered(body, texts, version="1")
        if body.return_documents:
            for result in answer["results"]:
                document = body.documents[result["index"]]
                result["document"] = {"text": document} if isinstance(document, str) else document
        return json_reply(answer)

    async def _ordered(self, body: RerankV2Body, texts: Sequence[str], *, version: str) -> dict[str, Any]:
        model = body.model or ""
        ranker = "" if model in _ANY_RANKER or model.startswith("rerank-") else model
        with called("ranker", "model"):
            ranking = await self._retrieval.rerank(body.query, texts, top_n=body.top_n or 0, ranker=ranker)
        return {
            "id": new_id("rerank_"),
            "results": [{"index": result.index, "relevance_score": result.score} for result in ranking.results],
            "meta": {
                "api_version": {"version": version},
                "billed_units": {"search_units": math.ceil(len(texts) / _DOCUMENTS_A_UNIT)},
            },
            "model": ranking.ranker,
        }


def _text(place: int, document: str | Mapping[str, Any], fields: Sequence[str]) -> str:
    """Return what of a document is ranked: the text, or the named fields of a structured one."""
    if isinstance(document, str):
        return document
    parts = [
        value if isinstance(value, str) else orjson.dumps(value).decode()
        for value in (document.get(field) for field in fields)
        if value not in (None, "")
    ]
    if not parts:
        raise InvalidInput(
            f"documents[{place}] holds none of the fields {', '.join(fields)}.", param=f"documents[{place}]"
        )
    return "\n".join(parts)
