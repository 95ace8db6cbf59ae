"""Answers to one prompt that cannot all be meant."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

from rapidfuzz import fuzz

from services.finetuning.domain.near_duplicates import fingerprint, normalised
from services.finetuning.domain.rows import ChatRow, KtoRow, PreferenceRow, Row, answers_of, prompt_of

_NUMBERS: Final = re.compile(r"\d+(?:[.,]\d+)*")
# Two answers that share fewer words than this (0 to 100) say different things; more, and one may word the other.
_SAME_WORDS: Final = 60.0
# Of one prompt so many answers are compared with each other.
_MOST_COMPARED: Final = 50


def contradictions(rows: Sequence[Row]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield what is contradicted with the numbers of its rows, one entry for each way of contradicting.

    Chat: one prompt, answers with other numbers or hardly a word in common. Judged: one answer, good and bad.
    Preferences: one pair, preferred both ways.
    """
    chat: dict[str, list[int]] = defaultdict(list)
    judged: dict[tuple[str, str], dict[bool, list[int]]] = defaultdict(lambda: defaultdict(list))
    pairs: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        prompt = _prompt(row)
        match row:
            case ChatRow():
                chat[prompt].append(at)
            case KtoRow():
                judged[prompt, fingerprint(answers_of(row)[0])][row.label].append(at)
            case PreferenceRow():
                preferred, rejected = answers_of(row)
                pairs[prompt, fingerprint(preferred), fingerprint(rejected)].append(at)
            case _:
                pass
    told = sorted({at for group in chat.values() for at in _differing(group, rows)})
    if told:
        yield f"{len(told)} rows answer a prompt otherwise than another row does; keep the right answer.", tuple(told)
    both = sorted(at for labels in judged.values() if len(labels) > 1 for group in labels.values() for at in group)
    if both:
        yield f"{len(both)} rows call an answer good that others call bad, or the other way round.", tuple(both)
    turned = sorted(
        at for (prompt, one, other), group in pairs.items() if (prompt, other, one) in pairs for at in group
    )
    if turned:
        yield f"{len(turned)} rows prefer of two answers the one that others reject.", tuple(turned)


def _prompt(row: Row) -> str:
    return fingerprint("\n".join(f"{turn.role} {turn.content}" for turn in prompt_of(row)))


def _differing(group: Sequence[int], rows: Sequence[Row]) -> set[int]:
    found: set[int] = set()
    for one, other in combinations(group[:_MOST_COMPARED], 2):
        answers = answers_of(rows[one])[0], answers_of(rows[other])[0]
        if _differ(*answers):
            found |= {one, other}
    return found


def _differ(one: str, other: str) -> bool:
    mine, theirs = normalised(one), normalised(other)
    if mine == theirs:
        return False
    numbers, others = set(_NUMBERS.findall(one)), set(_NUMBERS.findall(other))
    # What only one of them mentions contradicts nothing.
    return not (numbers <= others or others <= numbers) or fuzz.token_set_ratio(mine, theirs) < _SAME_WORDS
