"""What the chat room needs from the world."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.chat.domain.agreement import Rating
from services.chat.domain.announcements import AnswerGiven
from services.chat.domain.comparisons import Comparison
from services.chat.domain.feedback import Feedback, FeedbackFilter, Judged
from services.chat.domain.receipts import Conversation, Receipt, ResolvedSpan, Span, StoredTurn
from services.chat.domain.turn import Message, Passage, RetrievalOptions, Sampling, Step


@dataclass(frozen=True, slots=True)
class Measured:
    """Token counts: of each text, of the conversation with its template, the model's context window, and its name.

    An alias has the name of the model that it leads to for this caller.
    """

    texts: tuple[int, ...]
    conversation: int
    window: int
    model: str


class Engine(Protocol):
    """Tokens from a model."""

    def generate(self, messages: Sequence[Message], *, model: str, sampling: Sampling) -> AsyncGenerator[Step, None]:
        """Stream the answer to a conversation; closing the iterator ends the work.

        Raises:
            NotFound: No such model.
            Overloaded: No capacity at the moment.
            Unavailable: The engine is away.
        """

    async def measure(self, texts: Sequence[str], conversation: Sequence[Message], *, model: str) -> Measured:
        """Count the tokens of texts and of a conversation in one call."""

    async def base_model(self) -> str:
        """Return the name of the base model."""


class Library(Protocol):
    """Passages under the caller's rights."""

    async def search(self, queries: Sequence[str], options: RetrievalOptions) -> list[Passage]:
        """Return the best passages for the queries, best first.

        Raises:
            Unavailable: The index is away; there is no answer without it.
        """

    async def embed(self, texts: Sequence[str], *, queries: bool = False) -> NDArray[np.float32]:
        """Return one unit vector for each text, in order."""

    async def least_met(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return, for each text in order, how well it meets the words of the question that it meets least, 0 to 1."""

    async def resolve(self, spans: Sequence[Span]) -> list[ResolvedSpan]:
        """Return the stored text of spans, in order, as far as the caller may read it."""


class Records(Protocol):
    """Conversations and receipts."""

    async def save(
        self,
        receipt: Receipt | None,
        *,
        conversation: Conversation | None,
        turns: Sequence[StoredTurn],
        given: AnswerGiven,
        tenant: str,
        owner: str,
    ) -> None:
        """Keep a receipt, append turns to a conversation (made when it is new) and tell of it, all or nothing."""

    async def tell(self, given: AnswerGiven, *, tenant: str) -> None:
        """Tell other rooms of a turn that left nothing."""

    async def conversation(self, conversation_id: str, *, tenant: str, owner: str) -> Conversation | None:
        """Return a conversation of its owner with its turns; None when there is none."""

    async def conversations(self, *, tenant: str, owner: str, limit: int, after: str) -> list[Conversation]:
        """Return up to `limit` conversations of an owner without turns, newest first, behind `after`."""

    async def delete_conversation(self, conversation_id: str, *, tenant: str, owner: str) -> tuple[int, int] | None:
        """Remove a conversation and what was said of its answers; return the numbers of turns and receipts removed.

        None when there is none. Blobs of judgements that went are loose from then on.
        """

    async def receipt(self, receipt_id: str, *, tenant: str) -> Receipt | None:
        """Return a receipt of the tenant; None when there is none."""

    async def receipts(self, receipt_ids: Sequence[str], *, tenant: str) -> Mapping[str, Receipt]:
        """Return those of the receipts that are there, by id."""


class Judgements(Protocol):
    """What people said of answers, and the comparisons that they rank.

    The blob of a judgement is written apart from its record. So that none is left behind, a key is noted as loose before
    the blob is written and again in the transaction that removes the record; what is loose is removed.
    """

    async def reserve(self, blob_key: str, at: datetime) -> None:
        """Note a blob that is about to be written and belongs to nothing yet."""

    async def give(self, feedback: Feedback) -> str:
        """Keep a judgement, which its blob belongs to from now on, and tell of it; return whose place it took.

        Raises:
            NotFound: The receipt or comparison was removed meanwhile.
            Conflict: The same rater judged the same thing in the same moment.
        """

    async def get(self, feedback_id: str, *, tenant: str) -> Feedback | None:
        """Return a judgement; None when there is none."""

    async def page(self, wanted: FeedbackFilter, *, tenant: str, limit: int, after: str) -> list[Feedback]:
        """Return up to `limit` judgements, newest first, behind `after`."""

    async def ratings(self, wanted: FeedbackFilter, *, tenant: str) -> list[Rating]:
        """Return what raters gave, oldest first: 1 or 0 for thumbs, ranks of answers for rankings, nothing for edits."""

    async def withdraw(self, feedback_id: str, *, tenant: str) -> bool:
        """Forget a judgement and tell of it; its blob is loose from then on. Return whether it was there."""

    async def add_comparison(self, comparison: Comparison) -> None:
        """Keep a comparison."""

    async def comparison(self, comparison_id: str, *, tenant: str) -> Comparison | None:
        """Return a comparison; None when there is none."""

    async def comparisons(self, comparison_ids: Sequence[str], *, tenant: str) -> Mapping[str, Comparison]:
        """Return those of the comparisons that are there, by id."""

    async def unranked(
        self, rater: str, *, tenant: str, collection_id: str, limit: int, after: str
    ) -> list[Comparison]:
        """Return up to `limit` comparisons that a rater has not ranked, newest first, behind `after`."""

    async def delete_comparison(self, comparison_id: str, *, tenant: str) -> int | None:
        """Forget a comparison with its rankings, and tell of these; return how many, None when there is none."""

    async def ranking(self, comparison_id: str, rater: str, *, tenant: str) -> str:
        """Return the id of a rater's ranking; empty when there is none."""

    async def loose(self, before: datetime) -> list[str]:
        """Return the keys of blobs that belong to nothing since `before`."""

    async def settled(self, blob_keys: Iterable[str]) -> None:
        """Forget loose blobs that are gone."""


class Blobs(Protocol):
    """Bytes by key."""

    async def put(self, key: str, data: bytes) -> None:
        """Keep bytes.

        Raises:
            Unavailable: The store is away.
        """

    async def delete(self, keys: Iterable[str]) -> int:
        """Remove bytes; return how many were there.

        Raises:
            Unavailable: The store is away.
        """


class ContentForm(Protocol):
    """How other rooms read a judgement."""

    def content(self, judged: Judged) -> bytes:
        """Return a judgement with its texts as the blob that is told of."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the current time in UTC."""

    def elapsed(self) -> float:
        """Return seconds since some fixed moment; never runs backwards."""
