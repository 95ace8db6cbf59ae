"""The prompt of a grounded turn, fitted to the model's window."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.errors import TooLarge
from services.chat.domain import prompt
from services.chat.domain.turn import Message, Passage, Source
from services.chat.ports import Engine


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """What goes to the model, and what had to go."""

    messages: tuple[Message, ...]
    sources: tuple[Source, ...]
    history: tuple[Message, ...]
    answer_tokens: int
    trimmed: tuple[str, ...]


class FitPrompt:
    """Builds the prompt; all pieces are counted in one call to the engine.

    Args:
        engine: Whose tokens count.
        texts: The prompt texts.
    """

    def __init__(self, *, engine: Engine, texts: prompt.PromptTexts) -> None:
        self._engine = engine
        self._texts = texts

    async def __call__(
        self,
        *,
        model: str,
        instructions: str,
        passages: Sequence[Passage],
        history: Sequence[Message],
        question: str,
        max_tokens: int,
    ) -> FittedPrompt:
        """Return the fitted prompt.

        Raises:
            TooLarge: Question and instructions alone fill the window.
        """
        bare = prompt.build(self._texts, instructions=instructions, sources=(), history=(), question=question)
        rendered = [prompt.rendered(passage, number) for number, passage in enumerate(passages, start=1)]
        turns = [prompt.rendered_turn(message) for message in history]
        system = prompt.system_text(self._texts, instructions)
        measured = await self._engine.measure([system, *rendered, *turns], bare, model=model)
        counts = prompt.Counts(
            # Two line breaks join the pieces.
            passages=tuple(count + 2 for count in measured.texts[1 : 1 + len(rendered)]),
            history=tuple(count + 2 for count in measured.texts[1 + len(rendered) :]),
            system=measured.texts[0],
            fixed=measured.conversation,
        )
        budget = prompt.shares(measured.window, max_tokens)
        fitted = prompt.fit(budget, counts, passages=passages, history=history)
        if fitted is None:
            raise TooLarge(
                f"messages: the question and the instructions take {counts.fixed} tokens; the model reads "
                f"{measured.window} in all.",
                param="messages",
            )
        sources = prompt.numbered(fitted.passages)
        messages = prompt.build(
            self._texts, instructions=instructions, sources=sources, history=fitted.history, question=question
        )
        return FittedPrompt(messages, sources, fitted.history, fitted.answer, fitted.trimmed)
