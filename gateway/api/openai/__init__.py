"""OpenAI's HTTP API: one module per resource. Where the SDKs keep unknown fields, our evidence travels in them."""

from gateway.api.openai.chat import ChatRoutes
from gateway.api.openai.completions import CompletionRoutes
from gateway.api.openai.embeddings import EmbeddingRoutes
from gateway.api.openai.files import FileRoutes
from gateway.api.openai.fine_tuning import FineTuningRoutes
from gateway.api.openai.models import ModelRoutes
from gateway.api.openai.store_files import StoreFileRoutes
from gateway.api.openai.stores import StoreRoutes
from gateway.api.routing import Route, Services

__all__ = ["routes"]


def routes(services: Services) -> list[Route]:
    """Return the routes of OpenAI's dialect."""
    return [
        *ModelRoutes(generation=services.generation, adapters=services.adapters).routes(),
        *ChatRoutes(chat=services.chat).routes(),
        *CompletionRoutes(generation=services.generation).routes(),
        *EmbeddingRoutes(retrieval=services.retrieval, generation=services.generation).routes(),
        *FileRoutes(ingestion=services.ingestion, withholding=services.withholding).routes(),
        *StoreRoutes(
            ingestion=services.ingestion, retrieval=services.retrieval, withholding=services.withholding
        ).routes(),
        *StoreFileRoutes(ingestion=services.ingestion, withholding=services.withholding).routes(),
        *FineTuningRoutes(jobs=services.jobs, graders=services.graders).routes(),
    ]
