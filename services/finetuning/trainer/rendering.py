"""Conversations as tokens, through the model's own chat template only, and which of the tokens are learnt.

Nothing is written around a turn by hand: the text is what the template makes of the conversation, and where an
assistant's turn begins and ends is seen by rendering the conversation up to it.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2.exceptions import TemplateError

__all__ = ["IGNORED", "Pair", "Renderer", "Tokens", "UnusableRow"]

# The label of a token that is only read.
IGNORED: Final = -100

Turns = Sequence[Mapping[str, Any]]


class UnusableRow(Exception):
    """A row cannot be turned into tokens; the text says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids with their labels, or a prompt's ids with an answer's."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class Renderer:
    """Turns conversations into tokens.

    Args:
        tokenizer: The base model's tokenizer; a fast one, which knows where its tokens stand in the text.
        end_ids: Ids that end an answer.
    """

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids) | end_ids
        self.end_ids = end_ids

    def text(self, turns: Turns, *, tools: Any = None, answering: bool = False) -> str:
        """Return what the template makes of turns; `answering` adds what stands before an answer."""
        plain = [{key: value for key, value in turn.items() if key != "weight"} for turn in turns]
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                plain, tools=tools or None, tokenize=False, add_generation_prompt=answering
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise UnusableRow(f"the model's chat template refuses it ({type(error).__name__})") from error
        return rendered

    def prompt(self, turns: Turns) -> list[int]:
        """Return the ids that the model reads before it answers."""
        return self._encode(self.text(turns, answering=True))[0]

    def whole(self, turns: Turns) -> list[int]:
        """Return the ids of a conversation as it stands."""
        return self._encode(self.text(turns))[0]

    def document(self, text: str) -> list[int]:
        """Return the ids of a raw text, with the token that ends it."""
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return [*ids, self._tokenizer.eos_token_id]

    def conversation(self, turns: Turns, *, tools: Any = None) -> Tokens:
        """Return a conversation's tokens; labels are what the assistant wrote, unless its `weight` is 0."""
        text = self.text(turns, tools=tools)
        ids, starts = self._encode(text)
        labels = [IGNORED] * len(ids)
        for number, turn in enumerate(turns):
            if turn["role"] != "assistant" or turn.get("weight") == 0 or number == 0:
                # An answer in first place has nothing before it that the model could answer.
                continue
            before = self.text(turns[:number], tools=tools, answering=True)
            until = self.text(turns[: number + 1], tools=tools)
            if not (text.startswith(before) and text.startswith(until)):
                raise UnusableRow("the model's chat template writes earlier turns differently when later ones follow")
            first, last = bisect_left(starts, len(before)), bisect_left(starts, len(until))
            last = self._turn_end(ids, first, last)
            labels[first:last] = ids[first:last]
        return Tokens(ids, labels)

    def answer(self, turns: Turns, answer: Turns) -> Tokens:
        """Return a conversation's tokens; labels are the given answer's."""
        before = self.text(turns, answering=True)
        text = self.text([*turns, *answer])
        if not text.startswith(before):
            raise UnusableRow("the model's chat template writes a prompt differently when an answer follows")
        ids, starts = self._encode(text)
        first = bisect_left(starts, len(before))
        ids = ids[: self._turn_end(ids, first, len(ids))]
        return Tokens(ids, [IGNORED] * first + ids[first:])

    def pair(self, turns: Turns, chosen: Turns, rejected: Turns) -> Pair:
        """Return two answers to one prompt."""
        better, worse = self.answer(turns, chosen), self.answer(turns, rejected)
        first = min(_first_label(better), _first_label(worse))
        return Pair(better.ids[:first], better.ids[first:], worse.ids[first:])

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        """Return a text's ids, and where each begins in it."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(found["input_ids"]), [start for start, _ in found["offset_mapping"]]

    def _turn_end(self, ids: Sequence[int], first: int, last: int) -> int:
        """Return where learning a turn ends: behind its last special token, so that a line break after it is not learnt.

        Generation stops at that token; what the template writes behind it, the model never does.
        """
        for place in range(last - 1, first - 1, -1):
            if ids[place] in self._special:
                return place + 1
        return last


def _first_label(tokens: Tokens) -> int:
    return next((place for place, label in enumerate(tokens.labels) if label != IGNORED), len(tokens.labels))
