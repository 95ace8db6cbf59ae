"""Turns texts into token ids and back, and measures conversations."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.generation.domain import Conversation
from services.generation.ports import Engine
from services.generation.usecases.adapters import Adapters

__all__ = ["CountTokens", "Counted"]


@dataclass(frozen=True, slots=True)
class Counted:
    """Token ids of texts, the length of a conversation with its template, and the window they must fit."""

    sequences: list[tuple[int, ...]]
    conversation_tokens: int
    context_window: int


class CountTokens:
    """Tokenises for callers that budget their prompts. Adapters share the base model's tokeniser.

    Args:
        engine: Knows the tokeniser.
        adapters: Finds out whether the model exists.
    """

    def __init__(self, *, engine: Engine, adapters: Adapters) -> None:
        self._engine = engine
        self._adapters = adapters

    async def tokenize(
        self, *, tenant: str, model: str, texts: Sequence[str], conversation: Conversation | None
    ) -> Counted:
        """Return the token ids of `texts`, and how long `conversation` is.

        Raises:
            NotFound: The tenant has no such model.
            InvalidInput: The template refuses the conversation.
        """
        self._adapters.find(tenant, model)
        sequences = await self._engine.tokenize(texts) if texts else []
        length = len((await self._engine.encode(conversation)).ids) if conversation else 0
        return Counted(sequences, length, self._engine.base.context_window)

    async def detokenize(self, *, tenant: str, model: str, ids: Sequence[int]) -> str:
        """Return the text of token ids.

        Raises:
            NotFound: The tenant has no such model.
            InvalidInput: An id is outside the vocabulary.
        """
        self._adapters.find(tenant, model)
        return await self._engine.detokenize(ids)
