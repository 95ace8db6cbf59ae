"""The prompt of a grounded turn, fitted to the model's window."""

from collections.abc import Sequence

from services.chassis.errors import TooLarge
from services.chat.domain.turn import Message, Passage
from services.chat.ports import Engine
from services.layout.fitting import Draft, FittedPrompt
from services.layout.nearest import Neighbourhood
from services.layout.texts import LayoutTexts


class FitPrompt:
    """Builds the prompt; all pieces are counted in one call to the engine.

    Args:
        engine: Whose tokens count.
        texts: The prompt texts.
    """

    def __init__(self, *, engine: Engine, texts: LayoutTexts) -> None:
        self._engine = engine
        self._texts = texts

    async def __call__(
        self,
        *,
        model: str,
        instructions: str,
        passages: Sequence[Passage],
        excerpts: Sequence[Neighbourhood],
        history: Sequence[Message],
        question: str,
        max_tokens: int,
    ) -> tuple[FittedPrompt, str]:
        """Return the fitted prompt, and the name of the model that will read it.

        Raises:
            TooLarge: Question and instructions alone fill the window.
        """
        draft = Draft(self._texts, instructions, tuple(passages), tuple(excerpts), tuple(history), question)
        measured = await self._engine.measure(draft.pieces, draft.bare, model=model)
        fitted = draft.fitted(measured.texts, bare=measured.conversation, window=measured.window, max_tokens=max_tokens)
        if fitted is None:
            raise TooLarge(
                f"messages: the question and the instructions take {measured.conversation} tokens; the model reads "
                f"{measured.window} in all.",
                param="messages",
            )
        return fitted, measured.model
