"""Asking and searching in collections that are there: an unknown one is NotFound, not an empty answer.

Whoever only asks does not need the room that keeps collections: what was there before is taken to be there while ingestion is
away. Rights do not hang on it: passages are found under the reader's own, and what was deleted is withheld.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime

import structlog

from gateway.domain.asking import AnswerEvent, ChatTurn, Conversation, Receipt, Replay
from gateway.domain.finding import Explanation, Passage, Ranking, SearchSpec, Vectors
from gateway.domain.judging import (
    Agreement,
    Comparison,
    ExportCounts,
    FeedbackFilter,
    Judgement,
    Ranks,
    Said,
    Sampled,
    SamplesWanted,
)
from gateway.domain.keeping import Page, Paging
from gateway.ports import Chat, Feedback, Ingestion, Retrieval
from services.chassis.auth import current_caller
from services.chassis.errors import DeadlineExceeded, NotFound, Unavailable

__all__ = ["CheckedChat", "CheckedFeedback", "CheckedRetrieval", "KnownCollections"]

# A collection that was deleted a moment ago answers with nothing, since its documents are withheld at once.
_TRUST_S = 5.0
# How long an answer waits for ingestion to say that a collection is still there.
_PATIENCE_S = 1.0
_MAX_KNOWN = 10_000

_log = structlog.get_logger()


class KnownCollections:
    """Knows for a few seconds which collections a tenant has, and longer while ingestion is away.

    Args:
        ingestion: Keeps collections.
        clock: Seconds that only grow.
    """

    def __init__(self, *, ingestion: Ingestion, clock: Callable[[], float] = time.monotonic) -> None:
        self._ingestion = ingestion
        self._clock = clock
        self._seen: dict[tuple[str, str], float] = {}

    async def check(self, collection_ids: Sequence[str]) -> None:
        """Let pass what names collections of the caller's tenant.

        Raises:
            NotFound: One of them is not there.
            Unavailable: Ingestion is away, and one of them was never seen before.
        """
        tenant = current_caller().tenant
        now = self._clock()
        unsure = [one for one in collection_ids if now - self._seen.get((tenant, one), float("-inf")) > _TRUST_S]
        await asyncio.gather(*(self._find(tenant, one) for one in unsure))
        if len(self._seen) > _MAX_KNOWN:
            self._seen.clear()
        self._seen.update({(tenant, one): now for one in unsure})

    async def _find(self, tenant: str, collection_id: str) -> None:
        is_known = (tenant, collection_id) in self._seen
        try:
            async with asyncio.timeout(_PATIENCE_S if is_known else None):
                await self._ingestion.get_collection(collection_id)
        except NotFound as error:
            self._seen.pop((tenant, collection_id), None)
            raise NotFound(f"collections: {collection_id!r} was not found.", param="collections") from error
        except (TimeoutError, DeadlineExceeded, Unavailable) as error:
            if not is_known:
                raise
            _log.warning("collection_not_checked", collection_id=collection_id, reason=repr(error))


class CheckedChat:
    """The chat room, asked about collections that are there."""

    def __init__(self, *, chat: Chat, collections: KnownCollections) -> None:
        self._chat = chat
        self._collections = collections

    def answer(self, turn: ChatTurn) -> AsyncGenerator[AnswerEvent, None]:
        """Yield what happens while a turn is answered."""
        return self._checked(turn) if turn.retrieval.collection_ids else self._chat.answer(turn)

    async def _checked(self, turn: ChatTurn) -> AsyncGenerator[AnswerEvent, None]:
        await self._collections.check(turn.retrieval.collection_ids)
        async with aclosing(self._chat.answer(turn)) as events:
            async for event in events:
                yield event

    async def list_conversations(self, paging: Paging) -> Page[Conversation]:
        """Return the caller's conversations."""
        return await self._chat.list_conversations(paging)

    async def get_conversation(self, conversation_id: str) -> Conversation:
        """Return a conversation with its turns."""
        return await self._chat.get_conversation(conversation_id)

    async def delete_conversation(self, conversation_id: str) -> tuple[int, int]:
        """Remove a conversation."""
        return await self._chat.delete_conversation(conversation_id)

    async def get_receipt(self, receipt_id: str) -> Receipt:
        """Return a receipt."""
        return await self._chat.get_receipt(receipt_id)

    async def replay(self, receipt_id: str) -> Replay:
        """Ask again as the receipt says."""
        return await self._chat.replay(receipt_id)


class CheckedRetrieval:
    """The retrieval room, asked about collections that are there."""

    def __init__(self, *, retrieval: Retrieval, collections: KnownCollections) -> None:
        self._retrieval = retrieval
        self._collections = collections

    async def search(self, spec: SearchSpec, *, explain: bool = False) -> Sequence[Passage]:
        """Return the best passages."""
        await self._collections.check(spec.collection_ids)
        return await self._retrieval.search(spec, explain=explain)

    async def explain(self, spec: SearchSpec, document_id: str) -> Explanation:
        """Say what becomes of one document in a search."""
        await self._collections.check(spec.collection_ids)
        return await self._retrieval.explain(spec, document_id)

    async def rerank(self, query: str, texts: Sequence[str], *, top_n: int = 0, ranker: str = "") -> Ranking:
        """Order texts by relevance to a query."""
        return await self._retrieval.rerank(query, texts, top_n=top_n, ranker=ranker)

    async def embed(self, texts: Sequence[str], *, queries: bool = False) -> Vectors:
        """Turn texts into unit vectors."""
        return await self._retrieval.embed(texts, queries=queries)


class CheckedFeedback:
    """What people think of answers, sampled from collections that are there."""

    def __init__(self, *, feedback: Feedback, collections: KnownCollections) -> None:
        self._feedback = feedback
        self._collections = collections

    async def give(self, receipt_id: str, said: Said) -> tuple[Judgement, str]:
        """Keep a thumb or a better answer."""
        return await self._feedback.give(receipt_id, said)

    async def get(self, feedback_id: str) -> Judgement:
        """Return a judgement."""
        return await self._feedback.get(feedback_id)

    async def list_all(self, wanted: FeedbackFilter, paging: Paging) -> Page[Judgement]:
        """Return judgements."""
        return await self._feedback.list_all(wanted, paging)

    async def withdraw(self, feedback_id: str) -> None:
        """Take a judgement back."""
        await self._feedback.withdraw(feedback_id)

    def export(self, wanted: FeedbackFilter) -> AsyncGenerator[ExportCounts | str, None]:
        """Yield training rows."""
        return self._feedback.export(wanted)

    async def agreement(
        self, collection_id: str, since: datetime | None, until: datetime | None
    ) -> tuple[Agreement, Agreement]:
        """Return how far raters agree."""
        return await self._feedback.agreement(collection_id, since, until)

    async def sample(self, wanted: SamplesWanted) -> Sampled:
        """Draw different answers to one question."""
        await self._collections.check(wanted.retrieval.collection_ids)
        return await self._feedback.sample(wanted)

    async def list_comparisons(self, collection_id: str, paging: Paging) -> Page[Comparison]:
        """Return what the caller may rank."""
        return await self._feedback.list_comparisons(collection_id, paging)

    async def get_comparison(self, comparison_id: str) -> Comparison:
        """Return a comparison."""
        return await self._feedback.get_comparison(comparison_id)

    async def rank(self, comparison_id: str, ranks: Ranks, comment: str) -> tuple[Judgement, str]:
        """Keep a ranking."""
        return await self._feedback.rank(comparison_id, ranks, comment)

    async def delete_comparison(self, comparison_id: str) -> int:
        """Remove a comparison."""
        return await self._feedback.delete_comparison(comparison_id)
