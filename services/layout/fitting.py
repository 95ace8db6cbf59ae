"""What of passages and history goes into a model's window, in tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.layout import prompt
from services.layout.nearest import Neighbourhood
from services.layout.passages import canonical, numbered, shortened
from services.layout.texts import LayoutTexts
from services.layout.turns import Message, Passage, Source

# Two line breaks join the pieces of a turn; a turn of its own takes the marks of the chat template.
_JOINED, _TURN = 2, 8


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens by part of the prompt, for one context window."""

    window: int
    system: int
    history: int
    passages: int
    answer: int


# Shares of a window of 2,048 tokens, scaled with the window. What is left is for the question and the template.
_REFERENCE = 2048
_SYSTEM, _HISTORY, _PASSAGES, _ANSWER = 200, 300, 900, 256
# Pieces are counted apart, so that joined they may take a little more.
_SLACK = 16


def shares(window: int, max_tokens: int) -> Budget:
    """Return the budget of a window; `max_tokens` is what the caller wants for the answer, 0 for the room's share."""
    scale = window / _REFERENCE
    return Budget(
        window=window,
        system=int(_SYSTEM * scale),
        history=int(_HISTORY * scale),
        passages=int(_PASSAGES * scale),
        answer=max_tokens or int(_ANSWER * scale),
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens of each piece: passages best first, history oldest first; `fixed` is the prompt with none of them."""

    passages: tuple[int, ...]
    history: tuple[int, ...]
    system: int
    fixed: int
    excerpts: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the prompt holds after trimming; `answer` is the most tokens left for it."""

    passages: tuple[Passage, ...]
    history: tuple[Message, ...]
    answer: int
    trimmed: tuple[str, ...]


# An answer shorter than this is none.
_LEAST_ANSWER = 16


def fit(budget: Budget, counts: Counts, *, passages: Sequence[Passage], history: Sequence[Message]) -> Fitted | None:
    """Keep the best passages and the newest turns that fit; None when question and instructions alone leave no room.

    Args:
        budget: Tokens by part.
        counts: Tokens of each piece.
        passages: Best first.
        history: Oldest first.
    """
    answer = min(budget.answer, budget.window - counts.fixed - _SLACK)
    if answer < min(_LEAST_ANSWER, budget.answer):
        return None
    trimmed = []
    if answer < budget.answer:
        trimmed.append(f"The answer may take {answer} tokens, not {budget.answer}: the context window ends there.")
    over = max(0, counts.system - budget.system)
    if over:
        trimmed.append(
            f"The instructions take {counts.system} tokens, {over} over their share; documents got less room."
        )
    left = budget.window - counts.fixed - answer - _SLACK
    room = min(budget.history, max(0, left - min(budget.passages, sum(counts.passages) + counts.excerpts)))
    kept_history, used = _newest(history, counts.history, room)
    if len(kept_history) < len(history):
        dropped = len(history) - len(kept_history)
        trimmed.append(f"{dropped} of {len(history)} earlier turns were left out (history: {room} tokens).")
    # The excerpts are words of the passages said once more: they live on the same share.
    room = max(0, min(budget.passages, left - used) - counts.excerpts)
    kept = _best(passages, counts.passages, room)
    if kept and kept[0].end < passages[0].end:
        trimmed.append(f"The best passage was cut to fit {room} tokens.")
    if len(kept) < len(passages):
        dropped = len(passages) - len(kept)
        trimmed.append(f"{dropped} of {len(passages)} passages were left out (documents: {room} tokens).")
    return Fitted(canonical(kept), kept_history, answer, tuple(trimmed))


def _newest(history: Sequence[Message], counts: Sequence[int], room: int) -> tuple[tuple[Message, ...], int]:
    used = kept = 0
    for count in reversed(counts):
        if used + count > room:
            break
        used += count
        kept += 1
    return tuple(history[len(history) - kept :]), used


def _best(passages: Sequence[Passage], counts: Sequence[int], room: int) -> list[Passage]:
    kept: list[Passage] = []
    used = 0
    for passage, count in zip(passages, counts, strict=True):
        if used + count <= room:
            kept.append(passage)
            used += count
        elif not kept and room:
            # The best passage alone is too long: its beginning is better than nothing. A tenth is kept for its tags.
            kept.append(shortened(passage, int(len(passage.text) * room / count * 0.9)))
            used = room
    return kept


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """What goes to the model, and what had to go."""

    messages: tuple[Message, ...]
    sources: tuple[Source, ...]
    excerpts: tuple[Neighbourhood, ...]
    history: tuple[Message, ...]
    answer_tokens: int
    trimmed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A grounded turn before it is fitted: `pieces` and `bare` are what must be counted.

    Args:
        texts: What the layout says.
        instructions: What the calling application adds to the system turn.
        passages: What was found, best first.
        excerpts: The stretches that lie nearest to the question.
        history: Earlier turns, oldest first.
        question: The question as it stands by itself.
    """

    texts: LayoutTexts
    instructions: str
    passages: tuple[Passage, ...]
    excerpts: tuple[Neighbourhood, ...]
    history: tuple[Message, ...]
    question: str

    @property
    def ordered(self) -> tuple[Passage, ...]:
        """The passages, those first that hold the nearest stretches: they must not be what the budget leaves out."""
        nearest = [place.passage for place in self.excerpts]
        return (*dict.fromkeys(nearest), *(one for one in self.passages if one not in nearest))

    @property
    def pieces(self) -> tuple[str, ...]:
        """The texts whose tokens are counted one by one: system turn, excerpts, passages, history."""
        shown = "\n".join([self.texts.excerpt, *(place.text for place in self.excerpts)])
        passages = [prompt.rendered(passage, number) for number, passage in enumerate(self.ordered, start=1)]
        turns = [prompt.rendered_turn(message).content for message in self.history]
        return (prompt.system_text(self.texts, self.instructions), shown, *passages, *turns)

    @property
    def bare(self) -> tuple[Message, ...]:
        """The prompt with neither passages nor history, whose tokens are counted with the chat template."""
        return self._build((), (), ())

    def fitted(self, counted: Sequence[int], *, bare: int, window: int, max_tokens: int) -> FittedPrompt | None:
        """Return the prompt that fits; None when question and instructions alone leave no room.

        Args:
            counted: Tokens of each of `pieces`.
            bare: Tokens of `bare` with the chat template.
            window: Tokens that prompt and answer may have together.
            max_tokens: Tokens that the caller wants for the answer, 0 for the usual share.
        """
        ordered = self.ordered
        of_passages, of_history = counted[2 : 2 + len(ordered)], counted[2 + len(ordered) :]
        counts = Counts(
            passages=tuple(count + _JOINED for count in of_passages),
            history=tuple(count + _TURN for count in of_history),
            system=counted[0],
            fixed=bare,
            excerpts=counted[1] + _JOINED if self.excerpts else 0,
        )
        found = fit(shares(window, max_tokens), counts, passages=ordered, history=self.history)
        if found is None:
            return None
        sources = numbered(found.passages)
        kept = tuple(place for place in self.excerpts if place.source(sources) is not None)
        messages = self._build(sources, [place.text for place in kept], found.history)
        return FittedPrompt(messages, sources, kept, found.history, found.answer, found.trimmed)

    def _build(
        self, sources: Sequence[Source], excerpts: Sequence[str], history: Sequence[Message]
    ) -> tuple[Message, ...]:
        return prompt.build(
            self.texts,
            instructions=self.instructions,
            sources=sources,
            excerpts=excerpts,
            history=history,
            question=self.question,
        )
