"""Turns texts into token ids and back, and measures conversations."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.auth import Caller
from services.generation.domain import Conversation
from services.generation.ports import Engine
from services.generation.usecases.models import Models

__all__ = ["CountTokens", "Counted"]


@dataclass(frozen=True, slots=True)
class Counted:
    """Token ids of texts, the length of a conversation with its template, the window they must fit, and whose they are."""

    model: str
    sequences: list[tuple[int, ...]]
    conversation_tokens: int
    context_window: int


class CountTokens:
    """Tokenises for callers that budget their prompts. Adapters share the base model's tokeniser.

    Args:
        engine: Knows the tokeniser.
        models: Finds the model that a name stands for.
    """

    def __init__(self, *, engine: Engine, models: Models) -> None:
        self._engine = engine
        self._models = models

    async def tokenize(
        self, *, caller: Caller, model: str, texts: Sequence[str], conversation: Conversation | None
    ) -> Counted:
        """Return the token ids of `texts`, and how long `conversation` is.

        Raises:
            NotFound: The caller may ask no such model.
            PermissionDenied: It is blocked or withheld.
            Conflict: This room refuses it.
            InvalidInput: The template refuses the conversation.
        """
        name = self._models.find(caller, model)
        sequences = await self._engine.tokenize(texts) if texts else []
        length = len((await self._engine.encode(conversation)).ids) if conversation else 0
        return Counted(name, sequences, length, self._engine.base.context_window)

    async def detokenize(self, *, caller: Caller, model: str, ids: Sequence[int]) -> str:
        """Return the text of token ids.

        Raises:
            NotFound: The caller may ask no such model.
            PermissionDenied: It is blocked or withheld.
            Conflict: This room refuses it.
            InvalidInput: An id is outside the vocabulary.
        """
        self._models.find(caller, model)
        return await self._engine.detokenize(ids)
