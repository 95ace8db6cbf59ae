"""Comparisons: answers sampled to one question, and ranked by people who do not know who gave them."""

import orjson

from gateway.api.brain import feedback_views, views
from gateway.api.brain.feedback_requests import ComparisonBody, ComparisonsQuery, RankBody
from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.asking import Grounding, Message, RetrievalOptions, Sampling
from gateway.domain.judging import SamplesWanted
from gateway.domain.keeping import Paging
from gateway.ports import Feedback
from services.chassis.errors import InvalidInput

__all__ = ["ComparisonRoutes"]

_PATH = "/brain/v1/comparisons"
_GROUNDING = {None: Grounding.DEFAULT, "strict": Grounding.STRICT, "open": Grounding.OPEN}


class ComparisonRoutes:
    """Answers for comparisons.

    Args:
        feedback: Where they are kept.
    """

    def __init__(self, *, feedback: Feedback) -> None:
        self._feedback = feedback

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{_PATH}/{{comparison_id}}"
        return [
            Route(
                "POST",
                _PATH,
                self.sample,
                "Sample two to four different answers to one question, to be ranked",
                body=Body.JSON,
                request=ComparisonBody,
                makes_tokens=True,
            ),
            Route("GET", _PATH, self.list_all, "List what the caller may rank and has not", query=ComparisonsQuery),
            Route("GET", one, self.get, "Return a comparison that the caller may rank"),
            Route("POST", f"{one}/rank", self.rank, "Rank the answers", body=Body.JSON, request=RankBody),
            Route("DELETE", one, self.delete, "Delete a comparison with its rankings"),
        ]

    async def sample(self, call: Call) -> Reply:
        """Sample answers; which of the models gave which is not told."""
        made = await self._feedback.sample(_wanted(await call.parse(ComparisonBody)))
        for model, usage in made.spent:
            call.spend(model, usage)
        call.touched(made.comparison.id)
        return json_reply(feedback_views.comparison(made.comparison), 201)

    async def list_all(self, call: Call) -> Reply:
        """List what waits for the caller's ranking."""
        asked = call.query(ComparisonsQuery)
        paging = Paging(limit=asked.limit, after=asked.after)
        found = await self._feedback.list_comparisons(asked.collection, paging)
        return json_reply(views.page(found, feedback_views.comparison, lambda one: one.id))

    async def get(self, call: Call) -> Reply:
        """Return a comparison."""
        return json_reply(feedback_views.comparison(await self._feedback.get_comparison(call.path["comparison_id"])))

    async def rank(self, call: Call) -> Reply:
        """Keep a ranking."""
        asked = await call.parse(RankBody)
        ranks = [(one.answer_id, one.rank) for one in asked.ranks]
        kept, replaced = await self._feedback.rank(call.path["comparison_id"], ranks, asked.comment)
        return json_reply(feedback_views.judgement(kept) | {"replaced": replaced or None}, 201)

    async def delete(self, call: Call) -> Reply:
        """Remove a comparison."""
        identity = call.path["comparison_id"]
        rankings = await self._feedback.delete_comparison(identity)
        return json_reply({"id": identity, "deleted": True, "rankings": rankings})


def _wanted(asked: ComparisonBody) -> SamplesWanted:
    if bool(asked.question.strip()) == bool(asked.messages):
        raise InvalidInput("question: give question or messages, one of the two.", param="question")
    messages = tuple(Message(turn.role, turn.content) for turn in asked.messages)
    return SamplesWanted(
        messages=messages or (Message("user", asked.question),),
        retrieval=RetrievalOptions(
            collection_ids=tuple(asked.collections),
            filter_json="" if asked.filters is None else orjson.dumps(asked.filters).decode(),
            top_k=asked.top_k or 0,
        ),
        grounding=_GROUNDING[asked.grounding],
        models=tuple(asked.models),
        answers=asked.answers,
        sampling=Sampling(
            temperature=asked.temperature, top_p=asked.top_p, max_tokens=asked.max_tokens or 0, seed=asked.seed
        ),
        raters=tuple(asked.raters),
    )
