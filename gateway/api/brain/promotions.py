"""Aliases, and the promotions that move them."""

from gateway.api.brain import tuning_views as views
from gateway.api.brain.tuning_requests import PromotionBody, PromotionsQuery, ReasonOrNone
from gateway.api.brain.views import page
from gateway.api.call import Call
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.adapters import NewPromotion
from gateway.domain.keeping import Paging
from gateway.ports import Promotions

__all__ = ["PromotionRoutes"]

_PATH = "/brain/v1/promotions"


class PromotionRoutes:
    """Answers for promotions and aliases.

    Args:
        promotions: The finetuning room's.
    """

    def __init__(self, *, promotions: Promotions) -> None:
        self._promotions = promotions

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                "POST",
                _PATH,
                self.promote,
                "Move an alias to an adapter: gate, trial, check, then all at once or back",
                body=Body.JSON,
                request=PromotionBody,
                creates=True,
            ),
            Route("GET", _PATH, self.list_all, "List promotions, newest first", query=PromotionsQuery),
            Route("GET", f"{_PATH}/{{promotion_id}}", self.get, "Return a promotion with its history"),
            Route("GET", "/brain/v1/aliases", self.aliases, "List the aliases and where they lead"),
            Route(
                "POST",
                "/brain/v1/aliases/{alias}/rollback",
                self.rollback,
                "End an alias's open promotion, or move it back to where it led before",
                body=Body.JSON,
                request=ReasonOrNone,
            ),
        ]

    async def promote(self, call: Call) -> Reply:
        """Open a promotion."""
        asked = await call.parse(PromotionBody)
        opened = await self._promotions.promote(
            NewPromotion(
                alias=asked.alias,
                candidate=asked.candidate,
                canary_weight=asked.canary_weight,
                min_judgements=asked.min_judgements or 0,
                skip_gate_reason=asked.skip_gate_reason,
            )
        )
        call.touched(opened.id)
        return json_reply(views.promotion(opened), 201)

    async def list_all(self, call: Call) -> Reply:
        """List promotions."""
        asked = call.query(PromotionsQuery)
        found = await self._promotions.list(Paging(asked.limit, asked.after), alias=asked.alias)
        return json_reply(page(found, views.promotion, lambda one: one.id))

    async def get(self, call: Call) -> Reply:
        """Return a promotion."""
        return json_reply(views.promotion(await self._promotions.get(call.path["promotion_id"])))

    async def aliases(self, call: Call) -> Reply:
        """List the aliases."""
        return json_reply({"data": [views.alias(one) for one in await self._promotions.aliases()]})

    async def rollback(self, call: Call) -> Reply:
        """Move an alias back."""
        asked = await call.parse(ReasonOrNone)
        return json_reply(views.promotion(await self._promotions.rollback(call.path["alias"], asked.reason)))
