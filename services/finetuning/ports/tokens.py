"""The tokens of the model that is tuned."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from services.finetuning.domain.encoding import Encoded
from services.finetuning.domain.rows import Turn
from services.layout.turns import Message


class Tokens(Protocol):
    """Counts and encodes as the model that is tuned does. Pure and blocking: call it in a thread."""

    @property
    def template_hash(self) -> str:
        """SHA-256 of the chat template, hexadecimal; empty where there is none."""

    @property
    def special_tokens(self) -> frozenset[str]:
        """Texts that stand for one token with a meaning of its own, and must not stand inside a row's text."""

    @property
    def end_of_turn(self) -> frozenset[int]:
        """Tokens with which an assistant's turn ends."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, without special ones."""

    def count_conversation(self, messages: Sequence[Message]) -> int:
        """Return the tokens of a conversation in the chat template, the opening of the answer included: as served.

        Raises:
            InvalidInput: The chat template does not take it.
        """

    def encode_conversation(self, messages: Sequence[Turn], tools: Sequence[Mapping[str, Any]] = ()) -> Encoded:
        """Return a conversation in the chat template; labels are the assistant's turns that are learnt, with their end.

        Raises:
            InvalidInput: The chat template does not take it.
        """

    def encode_text(self, text: str) -> Encoded:
        """Return raw text with the token that ends a text; all of it is learnt."""
