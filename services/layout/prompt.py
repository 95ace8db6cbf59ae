"""The prompt of a grounded turn.

Order: system and policy, one worked example (both the same for every turn), history, documents in canonical order, the
excerpt that lies nearest to the question, the question. What is stable stands first, so that the engine's prefix cache
serves it. Documents are data between tags that their text cannot forge.
"""

import re
from collections.abc import Sequence
from itertools import groupby

from services.layout.texts import LayoutTexts
from services.layout.turns import Message, Passage, Source

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


def system_text(texts: LayoutTexts, instructions: str) -> str:
    """Return the system turn: ours, then what the calling application adds."""
    return f"{texts.system.strip()}\n\n{escaped(instructions)}" if instructions else texts.system.strip()


def build(
    texts: LayoutTexts,
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


def _ask(texts: LayoutTexts, documents: Sequence[str], excerpts: Sequence[str], question: str) -> str:
    nearest = [texts.excerpt + "\n" + "\n".join(escaped(one) for one in excerpts)] if excerpts else []
    return "\n\n".join([texts.documents, *documents, *nearest, f"{texts.question} {escaped(question)}"])


def _alternating(turns: Sequence[Message]) -> list[Message]:
    """Join neighbouring turns of one role: some chat templates refuse anything but user and assistant by turns."""
    groups = groupby(turns, key=lambda message: message.role)
    return [Message(role, "\n\n".join(message.content for message in same)) for role, same in groups]
