"""What the chat room needs from the world."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.chat.domain.receipts import Conversation, Receipt, ResolvedSpan, Span, StoredTurn
from services.chat.domain.turn import Message, Passage, RetrievalOptions, Sampling, Step


@dataclass(frozen=True, slots=True)
class Measured:
    """Token counts: of each text, of the conversation with its template, and the model's context window."""

    texts: tuple[int, ...]
    conversation: int
    window: int


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
        tenant: str,
        owner: str,
    ) -> None:
        """Keep a receipt and append turns to a conversation (made when it is new), all or nothing."""

    async def conversation(self, conversation_id: str, *, tenant: str, owner: str) -> Conversation | None:
        """Return a conversation of its owner with its turns; None when there is none."""

    async def conversations(self, *, tenant: str, owner: str, limit: int, after: str) -> list[Conversation]:
        """Return up to `limit` conversations of an owner without turns, newest first, behind `after`."""

    async def delete_conversation(self, conversation_id: str, *, tenant: str, owner: str) -> tuple[int, int] | None:
        """Remove a conversation; return the numbers of turns and receipts removed, None when there is none."""

    async def receipt(self, receipt_id: str, *, tenant: str) -> Receipt | None:
        """Return a receipt of the tenant; None when there is none."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the current time in UTC."""

    def elapsed(self) -> float:
        """Return seconds since some fixed moment; never runs backwards."""
