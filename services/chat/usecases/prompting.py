"""The prompt of a grounded turn, fitted to the model's window."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.errors import TooLarge
from services.chat.domain import prompt
from services.chat.domain.support import Neighbourhood
from services.chat.domain.turn import Message, Passage, Source
from services.chat.ports import Engine

# Two line breaks join the pieces of a turn; a turn of its own takes the marks of the chat template.
_JOINED, _TURN = 2, 8


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """What goes to the model, and what had to go."""

    messages: tuple[Message, ...]
    sources: tuple[Source, ...]
    excerpts: tuple[Neighbourhood, ...]
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
        excerpts: Sequence[Neighbourhood],
        history: Sequence[Message],
        question: str,
        max_tokens: int,
    ) -> FittedPrompt:
        """Return the fitted prompt.

        Raises:
            TooLarge: Question and instructions alone fill the window.
        """
        bare = self._build(instructions, (), (), (), question)
        # What holds the nearest stretch must not be what the budget leaves out.
        nearest = [place.passage for place in excerpts]
        ordered = [*dict.fromkeys(nearest), *(one for one in passages if one not in nearest)]
        rendered = [prompt.rendered(passage, number) for number, passage in enumerate(ordered, start=1)]
        turns = [prompt.rendered_turn(message).content for message in history]
        system = prompt.system_text(self._texts, instructions)
        shown = "\n".join([self._texts.excerpt, *(place.text for place in excerpts)])
        measured = await self._engine.measure([system, shown, *rendered, *turns], bare, model=model)
        of_passages, of_history = measured.texts[2 : 2 + len(rendered)], measured.texts[2 + len(rendered) :]
        counts = prompt.Counts(
            passages=tuple(count + _JOINED for count in of_passages),
            history=tuple(count + _TURN for count in of_history),
            system=measured.texts[0],
            fixed=measured.conversation,
            excerpts=measured.texts[1] + _JOINED if excerpts else 0,
        )
        budget = prompt.shares(measured.window, max_tokens)
        fitted = prompt.fit(budget, counts, passages=ordered, history=history)
        if fitted is None:
            raise TooLarge(
                f"messages: the question and the instructions take {counts.fixed} tokens; the model reads "
                f"{measured.window} in all.",
                param="messages",
            )
        sources = prompt.numbered(fitted.passages)
        kept = tuple(place for place in excerpts if place.source(sources) is not None)
        messages = self._build(instructions, sources, [place.text for place in kept], fitted.history, question)
        return FittedPrompt(messages, sources, kept, fitted.history, fitted.answer, fitted.trimmed)

    def _build(
        self,
        instructions: str,
        sources: Sequence[Source],
        excerpts: Sequence[str],
        history: Sequence[Message],
        question: str,
    ) -> tuple[Message, ...]:
        return prompt.build(
            self._texts,
            instructions=instructions,
            sources=sources,
            excerpts=excerpts,
            history=history,
            question=question,
        )
