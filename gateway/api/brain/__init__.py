"""The native API under `/brain/v1`: what the other dialects have no words for."""

from gateway.api.brain.adapters import AdapterRoutes
from gateway.api.brain.administration import AdministrationRoutes
from gateway.api.brain.answers import AnswerRoutes
from gateway.api.brain.collections import CollectionRoutes
from gateway.api.brain.comparisons import ComparisonRoutes
from gateway.api.brain.datasets import DatasetRoutes
from gateway.api.brain.documents import DocumentRoutes
from gateway.api.brain.feedback import FeedbackRoutes
from gateway.api.brain.promotions import PromotionRoutes
from gateway.api.brain.tuning import TuningRoutes
from gateway.api.routing import Route, Services

__all__ = ["routes"]


def routes(services: Services) -> list[Route]:
    """Return the routes of the native API."""
    return [
        *DocumentRoutes(ingestion=services.ingestion, withholding=services.withholding).routes(),
        *CollectionRoutes(ingestion=services.ingestion, withholding=services.withholding).routes(),
        *AnswerRoutes(services).routes(),
        *DatasetRoutes(datasets=services.datasets).routes(),
        *TuningRoutes(jobs=services.jobs, webhooks=services.webhooks).routes(),
        *AdapterRoutes(adapters=services.adapters).routes(),
        *PromotionRoutes(promotions=services.promotions).routes(),
        *FeedbackRoutes(feedback=services.feedback).routes(),
        *ComparisonRoutes(feedback=services.feedback).routes(),
        *AdministrationRoutes(services).routes(),
    ]
