"""The prompt of a grounded turn, and the token budget that it must fit.

Order: system and policy, one worked example (both the same for every turn), history, documents in canonical order, the
excerpt that lies nearest to the question, the question. What is stable stands first, so that the engine's prefix cache
serves it. Documents are data between tags that their text cannot forge.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from services.chat.domain.passages import canonical, shortened
from services.chat.domain.turn import Message, Passage, Source


@dataclass(frozen=True, slots=True)
class Example:
    """A grounded turn as it should go."""

    title: str
    text: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A question that points back, and the same one as it stands by itself."""

    asked: str
    answered: str
    question: str
    rewritten: str


@dataclass(frozen=True, slots=True)
class PromptTexts:
    """The texts of `prompts/chat.toml`."""

    version: str
    system: str
    documents: str
    excerpt: str
    question: str
    refusal: str
    quote: str
    removed_link: str
    rewrite_system: str
    last_question: str
    example: Example
    rewrites: tuple[Rewrite, ...]


# Our own tags, and the marks by which chat templates tell turns apart (<|im_start|> and the like).
_FORGERY = re.compile(r"<(?=\s*/?\s*document\b|\|)", re.IGNORECASE)


def escaped(text: str) -> str:
    """Return a text that can neither open nor close a document nor begin a turn of the chat template."""
    return _FORGERY.sub("&lt;", text)


def rendered(passage: Passage, number: int) -> str:
    """Return a passage as the prompt holds it: tags, number, title, text."""
    return _document(number, passage.title, passage.text)


def _document(number: int, title: str, text: str) -> str:
    shown = escaped(title).replace('"', "'").replace("\n", " ")
    return f'<document number="{number}" title="{shown}">\n{escaped(text)}\n</document>'


def rendered_turn(message: Message) -> Message:
    """Return a turn of the history as the prompt holds it; what a tool gave counts as said by the user."""
    if message.role == "tool":
        return Message("user", escaped(f"Tool: {message.content}"))
    return Message(message.role, escaped(message.content))


def system_text(texts: PromptTexts, instructions: str) -> str:
    """Return the system turn: ours, then what the calling application adds."""
    return f"{texts.system.strip()}\n\n{escaped(instructions)}" if instructions else texts.system.strip()


def build(
    texts: PromptTexts,
    *,
    instructions: str,
    sources: Sequence[Source],
    excerpts: Sequence[str],
    history: Sequence[Message],
    question: str,
) -> tuple[Message, ...]:
    """Return the messages of a grounded turn. The same arguments give the same prompt, to the token.

    Args:
        texts: What the room says.
        instructions: What the calling application adds to the system turn.
        sources: The passages.
        excerpts: The stretches of them that lie nearest to the question; small models read those first of all.
        history: Earlier turns, oldest first.
        question: The question as it stands by itself.
    """
    example = texts.example
    shown = _ask(texts, [_document(1, example.title, example.text)], (), example.question)
    asked = _ask(texts, [rendered(source.passage, source.number) for source in sources], excerpts, question)
    turns = (
        Message("user", shown),
        Message("assistant", example.answer),
        *map(rendered_turn, history),
        Message("user", asked),
    )
    return (Message("system", system_text(texts, instructions)), *_alternating(turns))


def _ask(texts: PromptTexts, documents: Sequence[str], excerpts: Sequence[str], question: str) -> str:
    nearest = [texts.excerpt + "\n" + "\n".join(escaped(one) for one in excerpts)] if excerpts else []
    return "\n\n".join([texts.documents, *documents, *nearest, f"{texts.question} {escaped(question)}"])


def _alternating(turns: Sequence[Message]) -> list[Message]:
    """Join neighbouring turns of one role: some chat templates refuse anything but user and assistant by turns."""
    groups = groupby(turns, key=lambda message: message.role)
    return [Message(role, "\n\n".join(message.content for message in same)) for role, same in groups]


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


def numbered(passages: Sequence[Passage]) -> tuple[Source, ...]:
    """Number the passages of the prompt from 1."""
    return tuple(Source(number, passage) for number, passage in enumerate(passages, start=1))
