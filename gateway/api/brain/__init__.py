"""The native API under `/brain/v1`: what the other dialects have no words for."""

from gateway.api.brain.administration import AdministrationRoutes
from gateway.api.brain.answers import AnswerRoutes
from gateway.api.brain.collections import CollectionRoutes
from gateway.api.brain.comparisons import ComparisonRoutes
from gateway.api.brain.documents import DocumentRoutes
from gateway.api.brain.feedback import FeedbackRoutes
from gateway.api.routing import Route, Services

__all__ = ["routes"]


def routes(services: Services) -> list[Route]:
    """Return the routes of the native API."""
    return [
        *DocumentRoutes(ingestion=services.ingestion).routes(),
        *CollectionRoutes(ingestion=services.ingestion).routes(),
        *AnswerRoutes(services).routes(),
        *FeedbackRoutes(feedback=services.feedback).routes(),
        *ComparisonRoutes(feedback=services.feedback).routes(),
        *AdministrationRoutes(services).routes(),
    ]
