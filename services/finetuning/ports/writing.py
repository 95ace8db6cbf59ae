"""Models of the generation room: one that writes, one that answers several times, one that weighs."""

from collections.abc import Sequence
from typing import Protocol

from services.layout.turns import Message


class Writer(Protocol):
    """A model that writes questions, and answers them to see whether they can be answered."""

    async def write(
        self, messages: Sequence[Message], *, model: str, max_tokens: int, seed: int, json_schema: str = ""
    ) -> str:
        """Return the most likely answer to a conversation.

        Args:
            messages: The conversation, the question last.
            model: Who writes; empty for the base model.
            max_tokens: Most tokens of the answer.
            seed: Of whatever is drawn.
            json_schema: What the answer must satisfy; empty for free text.

        Raises:
            NotFound: No such model.
            Unavailable: The engine is away.
        """


class Sampler(Protocol):
    """A model that answers a prompt in several ways."""

    async def sample(
        self, messages: Sequence[Message], *, model: str, count: int, temperature: float, max_tokens: int, seed: int
    ) -> list[str]:
        """Return `count` answers, drawn independently.

        Raises:
            NotFound: No such model.
            Unavailable: The engine is away.
        """


class Judge(Protocol):
    """A model that says how likely it would go on in each of several ways."""

    async def logprobs(self, messages: Sequence[Message], continuations: Sequence[str], *, model: str) -> list[float]:
        """Return the log probability of each continuation, natural logarithm, in order.

        Raises:
            NotFound: No such model.
            Unavailable: The engine is away.
        """
