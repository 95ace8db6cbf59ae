"""Cohere's HTTP API: a skin over the same verbs as the other dialects.

Its SDKs add `/v2/…` or `/v1/…` to the base address; many a program's base address ends in `/v1` already, so each path
is served a second time below `/v1`.
"""

from gateway.api.cohere.chat import ChatRoutes
from gateway.api.cohere.embed import EmbedRoutes
from gateway.api.cohere.requests import (
    ChatBody,
    DetokenizeBody,
    EmbedV1Body,
    EmbedV2Body,
    RerankV1Body,
    RerankV2Body,
    TokenizeBody,
)
from gateway.api.cohere.rerank import RerankRoutes
from gateway.api.cohere.tokens import TokenRoutes
from gateway.api.routing import Body, Route, Services

__all__ = ["routes"]


def routes(services: Services) -> list[Route]:
    """Return the routes of Cohere's dialect."""
    chat = ChatRoutes(chat=services.chat)
    rerank = RerankRoutes(retrieval=services.retrieval)
    embed = EmbedRoutes(retrieval=services.retrieval)
    tokens = TokenRoutes(generation=services.generation)
    return [
        route
        for prefix in ("", "/v1")
        for route in (
            Route(
                "POST",
                f"{prefix}/v2/chat",
                chat.chat,
                "Answer one turn, from documents and collections where they are given",
                body=Body.JSON,
                request=ChatBody,
                makes_tokens=True,
            ),
            Route(
                "POST",
                f"{prefix}/v2/rerank",
                rerank.v2,
                "Order texts by their relevance to a query",
                body=Body.JSON,
                request=RerankV2Body,
                makes_tokens=True,
            ),
            Route(
                "POST",
                f"{prefix}/v1/rerank",
                rerank.v1,
                "Order texts by their relevance to a query (first version)",
                body=Body.JSON,
                request=RerankV1Body,
                makes_tokens=True,
            ),
            Route(
                "POST",
                f"{prefix}/v2/embed",
                embed.v2,
                "Embed texts",
                body=Body.JSON,
                request=EmbedV2Body,
                makes_tokens=True,
            ),
            Route(
                "POST",
                f"{prefix}/v1/embed",
                embed.v1,
                "Embed texts (first version)",
                body=Body.JSON,
                request=EmbedV1Body,
                makes_tokens=True,
            ),
            Route(
                "POST",
                f"{prefix}/v1/tokenize",
                tokens.tokenize,
                "Return the tokens of a text",
                body=Body.JSON,
                request=TokenizeBody,
                makes_tokens=True,
            ),
            Route(
                "POST",
                f"{prefix}/v1/detokenize",
                tokens.detokenize,
                "Return the text of tokens",
                body=Body.JSON,
                request=DetokenizeBody,
                makes_tokens=True,
            ),
            Route(
                "POST", f"{prefix}/v1/check-api-key", tokens.check_api_key, "Say whose API key this is", only_reads=True
            ),
        )
    ]
