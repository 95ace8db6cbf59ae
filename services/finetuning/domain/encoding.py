"""Rows in tokens: how long they are, what of them is learnt, what a limit cuts off."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text in tokens.

    Attributes:
        ids: Token ids.
        labels: For each token whether the model learns to say it.
    """

    ids: tuple[int, ...]
    labels: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class RowTokens:
    """What a row costs and teaches, cut to the most tokens that a row may have.

    Attributes:
        tokens: Tokens, both answers of a preference counted with their prompts.
        cut: Tokens beyond the limit.
        labels: Tokens that are learnt; of a preference the fewer of both answers.
        ends: Whether the end of a turn is among what is learnt, of each answer.
        longest: Tokens of the longest sequence before it is cut.
        refused: Why the chat template does not take the row; empty when it does.
    """

    tokens: int = 0
    cut: int = 0
    labels: int = 0
    ends: bool = False
    longest: int = 0
    refused: str = ""


def measured(sequences: Sequence[Encoded], *, max_length: int, end_of_turn: Collection[int]) -> RowTokens:
    """Return what a row costs and teaches.

    Args:
        sequences: The row in tokens: one sequence, or two of a preference.
        max_length: Most tokens of a sequence; what follows is cut off.
        end_of_turn: Tokens that end a turn.
    """
    kept = [Encoded(one.ids[:max_length], one.labels[:max_length]) for one in sequences]
    return RowTokens(
        tokens=sum(len(one.ids) for one in kept),
        cut=sum(len(one.ids) for one in sequences) - sum(len(one.ids) for one in kept),
        labels=min((sum(one.labels) for one in kept), default=0),
        ends=bool(kept) and all(_ends(one, end_of_turn) for one in kept),
        longest=max((len(one.ids) for one in sequences), default=0),
    )


def _ends(encoded: Encoded, end_of_turn: Collection[int]) -> bool:
    return any(label and token in end_of_turn for token, label in zip(encoded.ids, encoded.labels, strict=True))
