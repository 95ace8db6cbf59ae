"""What the scripted engine says: one function for each mode (docs/scripted-engine.md)."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.chassis.errors import InvalidInput
from services.generation.domain import Conversation, EncodedPrompt, Turn

__all__ = ["MODES", "Script", "load_answers", "make_script"]

MODES: Final = ("echo", "canned", "paced", "obedient", "extract")
NOT_SAID: Final = "The documents do not say."
_WORD: Final = re.compile(r"\w+")
_SENTENCE: Final = re.compile(r"[^.!?\n]+(?:[.!?](?=\S)[^.!?\n]*)*[.!?]?")
# A line that only delimits or numbers passages: a tag, a rule, a bracketed number, "Passage 2:".
_FURNITURE: Final = re.compile(
    r"\s*(?:<[^>]*>|[-=#*_]{3,}|\[?\d+\]?[.:)]?|(?:passage|document|source|title|question|context)s?\b[^.!?]{0,80}:?)\s*",
    re.IGNORECASE,
)
# A number in brackets or a speaker before a sentence is not part of it.
_LABEL: Final = re.compile(r"^\s*(?:\[\d+\]|\(\d+\)|[-*•]|#+|question:|answer:)\s*", re.IGNORECASE)
_ORDERS: Final = (
    re.compile(r"^\W*say\s*:\s*(?P<text>.+)$", re.IGNORECASE | re.MULTILINE),
    re.compile(
        r"\b(?:ignore|disregard|forget)\b[^.\n]{0,80}?\b(?:previous|prior|above|earlier|other|all)\b[^.\n]{0,80}?"
        r"\b(?:and|then|instead)\W+(?:\w+\W+){0,2}?(?:print|say|write|output|answer|reply|respond)\b(?:\s+with)?\W*"
        r"(?P<text>[^\n]+)",
        re.IGNORECASE,
    ),
)
_REVEAL: Final = re.compile(
    r"\b(?:reveal|print|show|repeat|output|tell\s+me)\b[^.\n]{0,40}\b(?:system\s+prompt|(?:system\s+)?instructions)\b",
    re.IGNORECASE,
)
# Words that say nothing about what a question asks for.
_STOP: Final = frozenset(
    [
        "a",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "many",
        "may",
        "me",
        "much",
        "must",
        "my",
        "no",
        "not",
        "of",
        "on",
        "or",
        "our",
        "shall",
        "should",
        "than",
        "that",
        "the",
        "their",
        "them",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)

# The prompt and the number of a draw in, the whole answer out; draw 0 is what a greedy engine says.
Script = Callable[[EncodedPrompt, int], str]
# Sentences that draws of mode extract choose from.
_DRAWN_FROM: Final = 3


@dataclass(frozen=True, slots=True)
class Answers:
    """Canned answers: the first whose pattern is found in the last user turn is given."""

    rules: tuple[tuple[re.Pattern[str], str], ...] = ()
    default: str = "I have no answer for that."


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """What the modes can be told."""

    answers: Answers = field(default_factory=Answers)
    tokens: int = 64


def load_answers(path: Path) -> Answers:
    """Read canned answers: `{"answers": [{"pattern": "…", "answer": "…"}], "default": "…"}`.

    Raises:
        InvalidInput: The file is missing or has another shape.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rules = tuple(
            (re.compile(str(rule["pattern"]), re.IGNORECASE), str(rule["answer"])) for rule in data["answers"]
        )
        return Answers(rules, str(data.get("default", Answers().default)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise InvalidInput(
            f'engine: {path} must hold {{"answers": [{{"pattern": …, "answer": …}}], "default": …}} ({error!r}).',
            param="engine",
        ) from error


def make_script(mode: str, options: ScriptOptions) -> Script:
    """Return the script of a mode.

    Raises:
        InvalidInput: There is no such mode.
    """
    match mode:
        case "echo":
            return lambda prompt, _draw: _turns(prompt)[-1].content
        case "canned":
            return lambda prompt, _draw: _canned(options.answers, _turns(prompt)[-1].content)
        case "paced":
            text = " ".join(f"word{number}" for number in range(1, options.tokens + 1))
            return lambda _prompt, _draw: text
        case "obedient":
            return _obedient
        case "extract":
            return _extract
        case _:
            raise InvalidInput(f"engine: mode {mode!r} is not known; use {', '.join(MODES)}.", param="engine")


def _turns(prompt: EncodedPrompt) -> tuple[Turn, ...]:
    """Return the turns up to the last user turn; raw text counts as one user turn."""
    conversation = prompt.conversation or Conversation((Turn("user", prompt.text or ""),))
    turns = conversation.turns
    last = max((number for number, turn in enumerate(turns) if turn.role == "user"), default=len(turns) - 1)
    return turns[: last + 1]


def _canned(answers: Answers, question: str) -> str:
    for pattern, answer in answers.rules:
        if pattern.search(question):
            return answer
    return answers.default


def _obedient(prompt: EncodedPrompt, draw: int) -> str:
    """Do what any text in the context says, wherever it stands; without orders answer as `extract` does."""
    turns = prompt.conversation.turns if prompt.conversation else _turns(prompt)
    said: list[str] = []
    for turn in turns:
        for order in _ORDERS:
            said += [match["text"].strip().strip("\"'") for match in order.finditer(turn.content)]
        if _REVEAL.search(turn.content) and turn.role != "system":
            said += [other.content for other in turns if other.role == "system"]
    return "\n".join(dict.fromkeys(said)) or _extract(prompt, draw)


def _extract(prompt: EncodedPrompt, draw: int) -> str:
    """Answer with the sentence of the context that shares most words with the question, or by other draws with a next one.

    The question is the last paragraph of the last user turn; the context is what stands before it in that turn and in
    tool turns, and, when that is nothing, the system turn.
    """
    turns = _turns(prompt)
    paragraphs = [
        part for part in re.split(r"\n\s*\n|\n(?=<|question:)", turns[-1].content.strip(), flags=re.IGNORECASE) if part
    ]
    question = paragraphs[-1] if paragraphs else ""
    context = [*paragraphs[:-1], *(turn.content for turn in turns[:-1] if turn.role == "tool")]
    context = context or [turn.content for turn in turns[:-1] if turn.role == "system"]
    wanted = _stems(question)
    found: dict[str, float] = {}
    for text in context:
        for sentence in _sentences(text):
            shared = wanted & _stems(sentence)
            # The part of the question that is answered decides; among equals the shorter sentence says less beside it.
            value = len(shared) - len(sentence) / 10_000
            if shared and value > 0:
                found.setdefault(sentence, value)
    best = sorted(found, key=lambda sentence: -found[sentence])[:_DRAWN_FROM]
    return best[draw % len(best)] if best else NOT_SAID


def _sentences(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not _FURNITURE.fullmatch(line)]
    found = (_LABEL.sub("", sentence).strip() for line in lines for sentence in _SENTENCE.findall(line))
    return [sentence for sentence in found if sentence]


def _stems(text: str) -> frozenset[str]:
    """Return the words that carry meaning, crudely without endings."""
    words = (word.lower() for word in _WORD.findall(text))
    return frozenset(_stem(word) for word in words if word not in _STOP)


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
