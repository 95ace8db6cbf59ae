"""What grading needs from the world."""

from collections.abc import Sequence
from typing import Protocol

from services.finetuning.domain.grader_judging import Judgement, Question

__all__ = ["Embedder", "Judge"]


class Judge(Protocol):
    """A model that is asked for a judgement, with the rights of the caller."""

    async def judge(self, question: Question) -> Judgement:
        """Return the answer.

        Raises:
            NotFound: There is no such model that the caller may ask.
            Unavailable: The engine cannot answer now, or did not in time.
        """
        ...


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return one vector for each text.

        Raises:
            Unavailable: They cannot be made now.
        """
        ...
