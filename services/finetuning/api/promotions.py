"""PromotionService."""

import json
from dataclasses import asdict
from typing import Final

from brain.finetuning.v1 import promotion_pb2
from services.chassis.auth import current_caller
from services.finetuning.api.wire import moment, page_of
from services.finetuning.domain.promotions import Promotion, PromotionState
from services.finetuning.usecases.promoting import NewPromotion, Promotions

__all__ = ["PromotionServicer"]

_STATES: Final = {
    PromotionState.GATED: promotion_pb2.PROMOTION_STATE_GATED,
    PromotionState.CANARY: promotion_pb2.PROMOTION_STATE_CANARY,
    PromotionState.PROMOTED: promotion_pb2.PROMOTION_STATE_PROMOTED,
    PromotionState.ROLLED_BACK: promotion_pb2.PROMOTION_STATE_ROLLED_BACK,
    PromotionState.REFUSED: promotion_pb2.PROMOTION_STATE_REFUSED,
}


class PromotionServicer:
    """Promotions and aliases over gRPC."""

    def __init__(self, promotions: Promotions) -> None:
        self._promotions = promotions

    async def Promote(self, request: promotion_pb2.PromoteRequest, context: object) -> promotion_pb2.PromoteResponse:
        """Open a promotion."""
        made = await self._promotions.promote(
            current_caller(),
            NewPromotion(
                alias=request.alias,
                candidate=request.candidate,
                canary_weight=request.canary_weight if request.HasField("canary_weight") else None,
                min_judgements=request.min_judgements,
                skip_gate_reason=request.skip_gate_reason,
            ),
        )
        return promotion_pb2.PromoteResponse(promotion=_promotion(made))

    async def GetPromotion(
        self, request: promotion_pb2.GetPromotionRequest, context: object
    ) -> promotion_pb2.GetPromotionResponse:
        """Return a promotion."""
        found = await self._promotions.get(current_caller(), request.promotion_id)
        return promotion_pb2.GetPromotionResponse(promotion=_promotion(found))

    async def ListPromotions(
        self, request: promotion_pb2.ListPromotionsRequest, context: object
    ) -> promotion_pb2.ListPromotionsResponse:
        """Return a page of promotions."""
        found, has_more = await self._promotions.page(current_caller(), page_of(request), alias=request.alias)
        return promotion_pb2.ListPromotionsResponse(promotions=[_promotion(one) for one in found], has_more=has_more)

    async def Rollback(self, request: promotion_pb2.RollbackRequest, context: object) -> promotion_pb2.RollbackResponse:
        """End an open promotion, or move an alias back."""
        done = await self._promotions.rollback(current_caller(), request.alias, request.reason)
        return promotion_pb2.RollbackResponse(promotion=_promotion(done))

    async def ListAliases(
        self, request: promotion_pb2.ListAliasesRequest, context: object
    ) -> promotion_pb2.ListAliasesResponse:
        """Return the tenant's aliases."""
        return promotion_pb2.ListAliasesResponse(
            aliases=[
                promotion_pb2.Alias(
                    alias=one.alias,
                    target=one.target,
                    canary=one.canary,
                    canary_weight=one.canary_weight,
                    moved_at=moment(one.moved_at),
                )
                for one in await self._promotions.aliases(current_caller())
            ]
        )


def _promotion(promotion: Promotion) -> promotion_pb2.Promotion:
    return promotion_pb2.Promotion(
        promotion_id=promotion.promotion_id,
        alias=promotion.alias,
        candidate=promotion.candidate,
        previous=promotion.previous,
        state=_STATES[promotion.state],
        canary_weight=promotion.canary_weight,
        created_at=moment(promotion.created_at),
        finished_at=moment(promotion.finished_at),
        history=[
            promotion_pb2.PromotionStep(at=moment(step.at), state=_STATES[step.state], reason=step.reason, by=step.by)
            for step in promotion.history
        ],
        owner=promotion.owner,
        check_json=json.dumps(
            {
                "candidate": asdict(promotion.of_candidate),
                "current": asdict(promotion.of_current),
                "min_judgements": promotion.min_judgements,
            }
        ),
    )
