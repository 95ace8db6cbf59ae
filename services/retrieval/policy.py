"""Who may call which RPC; what is not listed is refused."""

from typing import Final

from services.chassis.auth import Delegates, Policy, Role, at_least

__all__ = ["DELEGATES", "POLICY"]

POLICY: Final[Policy] = {
    "/brain.retrieval.v1.EmbeddingService/Embed": at_least(Role.VIEWER),
    "/brain.retrieval.v1.RerankService/Rerank": at_least(Role.VIEWER),
    "/brain.retrieval.v1.SearchService/Search": at_least(Role.VIEWER),
    "/brain.retrieval.v1.SearchService/Explain": at_least(Role.VIEWER),
    "/brain.retrieval.v1.SearchService/ResolveSpans": at_least(Role.VIEWER),
    # Called by ingestion with the token of whoever deletes or restricts; ingestion has checked whose document it is.
    "/brain.retrieval.v1.WithholdService/WithholdDocument": at_least(Role.CONTRIBUTOR),
    "/brain.retrieval.v1.WithholdService/RestrictDocument": at_least(Role.CONTRIBUTOR),
}

# What a worker room may ask for, with the rights of the caller whose work it does.
DELEGATES: Final[Delegates] = {
    # Distractors by the retriever that will serve them, reranked as they will be, and vectors for graders.
    "finetuning": frozenset(
        {
            "/brain.retrieval.v1.EmbeddingService/Embed",
            "/brain.retrieval.v1.RerankService/Rerank",
            "/brain.retrieval.v1.SearchService/Search",
        }
    ),
}
