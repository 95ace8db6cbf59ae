"""What answers leave behind, and why something was not found: conversations, receipts, replay, search, explain."""

from typing import Any

import orjson

from gateway.api.brain import views
from gateway.api.brain.requests import ExplainBody, ListQuery, SearchBody
from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route, Services
from gateway.domain.explaining import Why, WhyQuestion
from gateway.domain.finding import Explanation, SearchSpec
from gateway.domain.keeping import Paging
from gateway.usecases.explain import ExplainMissing

__all__ = ["AnswerRoutes"]


class AnswerRoutes:
    """Answers for conversations, receipts, searches and explanations.

    Args:
        services: The rooms.
    """

    def __init__(self, services: Services) -> None:
        self._chat = services.chat
        self._retrieval = services.retrieval
        self._explain = ExplainMissing(ingestion=services.ingestion, retrieval=services.retrieval, chat=services.chat)

    def routes(self) -> list[Route]:
        """Return the routes."""
        conversation = "/brain/v1/conversations/{conversation_id}"
        receipt = "/brain/v1/receipts/{receipt_id}"
        return [
            Route("GET", "/brain/v1/conversations", self.conversations, "List own conversations", query=ListQuery),
            Route("GET", conversation, self.conversation, "Return a conversation with its turns"),
            Route("DELETE", conversation, self.delete_conversation, "Delete a conversation and its receipts"),
            Route("GET", receipt, self.receipt, "Return how an answer came about, under the reader's rights of today"),
            Route("POST", f"{receipt}/replay", self.replay, "Ask again as the receipt says", makes_tokens=True),
            Route(
                "POST",
                "/brain/v1/search",
                self.search,
                "Find passages",
                body=Body.JSON,
                request=SearchBody,
                makes_tokens=True,
            ),
            Route(
                "POST",
                "/brain/v1/explain",
                self.explain,
                "Say why a document did not reach an answer",
                body=Body.JSON,
                request=ExplainBody,
                makes_tokens=True,
            ),
        ]

    async def conversations(self, call: Call) -> Reply:
        """List the caller's conversations."""
        asked = call.query(ListQuery)
        found = await self._chat.list_conversations(Paging(limit=asked.limit, after=asked.after))
        return json_reply(views.page(found, views.conversation, lambda one: one.id))

    async def conversation(self, call: Call) -> Reply:
        """Return a conversation."""
        return json_reply(views.conversation(await self._chat.get_conversation(call.path["conversation_id"])))

    async def delete_conversation(self, call: Call) -> Reply:
        """Delete a conversation."""
        identity = call.path["conversation_id"]
        turns, receipts = await self._chat.delete_conversation(identity)
        return json_reply({"id": identity, "deleted": True, "turns": turns, "receipts": receipts})

    async def receipt(self, call: Call) -> Reply:
        """Return a receipt."""
        return json_reply(views.receipt(await self._chat.get_receipt(call.path["receipt_id"])))

    async def replay(self, call: Call) -> Reply:
        """Ask again as the receipt says."""
        again = await self._chat.replay(call.path["receipt_id"])
        return json_reply(
            {
                "answer": again.answer,
                "prompt_hash": again.prompt_hash,
                "same_prompt": again.same_prompt,
                "same_answer": again.same_answer,
                "difference": again.difference or None,
            }
        )

    async def search(self, call: Call) -> Reply:
        """Find passages."""
        asked = await call.parse(SearchBody)
        spec = SearchSpec(
            queries=asked.queries,
            collection_ids=tuple(asked.collections),
            filter_json=_json(asked.filters),
            top_k=asked.top_k,
            alpha=asked.alpha,
            fusion=asked.fusion,
            ranker=asked.ranker,
            score_threshold=asked.score_threshold,
            mmr_lambda=asked.mmr_lambda,
        )
        found = await self._retrieval.search(spec, explain=asked.explain)
        return json_reply({"queries": list(asked.queries), "data": views.passages(found)})

    async def explain(self, call: Call) -> Reply:
        """Say where a document's way to an answer ended."""
        asked = await call.parse(ExplainBody)
        why = await self._explain(
            call.caller,
            WhyQuestion(
                document=asked.document,
                question=asked.question,
                collection_ids=tuple(asked.collections),
                receipt_id=asked.receipt_id,
                filter_json=_json(asked.filters),
                top_k=asked.top_k or 0,
                principals=tuple(asked.principals),
            ),
        )
        return json_reply(_why(why))


def _json(filters: dict[str, Any] | None) -> str:
    return "" if filters is None else orjson.dumps(filters).decode()


def _why(why: Why) -> dict[str, Any]:
    return {
        "verdict": why.verdict.value,
        "explanation": why.sentence,
        "document": None if why.document is None else views.document(why.document),
        "search": None if why.explanation is None else _search(why.explanation),
        "receipt_source": None if why.in_receipt is None else views.receipt_source(why.in_receipt),
        "queries": list(why.queries),
        "other_matches": [
            {"id": one.id, "collection": one.collection_id, "filename": one.filename, "title": one.title}
            for one in why.other_matches
        ],
    }


def _search(found: Explanation) -> dict[str, Any]:
    return {
        "outcome": found.outcome,
        "rank": found.rank or None,
        "best": None if found.best is None else views.passage(found.best),
        "cutoff_score": found.cutoff_score,
        "missing_terms": list(found.missing_terms),
        "active_version": found.active_version or None,
    }
