"""Held-out rows: parted by cluster, so that what grades a model says nothing that the model was trained on.

Never on both sides: near duplicates, rows of one named cluster (all phrasings of a fact, all of a document), rows of one
question, rows of one judgement, and rows of one rater: nobody's feedback trains and grades the same adapter.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.finetuning.domain.near_duplicates import Partition, fingerprint, question_of
from services.finetuning.domain.rows import FeedbackSource, Row, as_line

# A cluster may overshoot what is wanted by this share of it.
_OVERSHOOT: Final = 0.5
# Below this share of what is wanted, a split by raters and questions at once is tried.
_TOO_LITTLE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Split:
    """Rows by number: to train on, to grade with, and those that can be on neither side.

    `left_out` is empty unless raters and questions are so entwined that no other split exists.
    """

    training: tuple[int, ...]
    held_out: tuple[int, ...]
    left_out: tuple[int, ...] = ()


def split(rows: Sequence[Row], *, near: Sequence[int], share: float, seed: int, mark: str) -> Split:
    """Return a split; the same rows in any order, share and seed give the same one.

    Args:
        rows: All of a dataset.
        near: Cluster of near duplicates of each (`near_duplicates.clusters`).
        share: Share of the rows to hold out, 0 to below 1.
        seed: Of the draw.
        mark: What stands before the question in a turn with passages.
    """
    if share <= 0 or not rows:
        return Split(tuple(range(len(rows))), ())
    keys = _Keys(rows, near, mark)
    wanted = share * len(rows)
    whole = keys.groups(raters=True)
    names = [hashlib.sha256(as_line(row)).hexdigest() for row in rows]
    drawn = drawn_groups(whole, names, wanted=wanted, seed=seed)
    raters = {row.origin.rater for row in rows if row.origin.rater}
    if len(drawn) >= wanted * _TOO_LITTLE or len(raters) < 2:
        return Split(tuple(at for at in range(len(rows)) if at not in drawn), tuple(sorted(drawn)))
    return _crossed(rows, names, keys, share=share, seed=seed)


class _Keys:
    """What rows have in common."""

    def __init__(self, rows: Sequence[Row], near: Sequence[int], mark: str) -> None:
        self._rows = rows
        self._near = near
        self._questions = [fingerprint(question) if (question := question_of(row, mark)) else "" for row in rows]

    def groups(self, *, raters: bool) -> tuple[tuple[int, ...], ...]:
        """Return the groups that must not be parted, with or without those of one rater."""
        same = Partition(len(self._rows))
        for at, row in enumerate(self._rows):
            same.join_by(at, ("near", self._near[at]))
            for name, value in (
                ("cluster", row.origin.cluster),
                ("question", self._questions[at]),
                ("rater", row.origin.rater if raters else ""),
                *(("feedback", source.feedback) for source in row.origin.sources if isinstance(source, FeedbackSource)),
            ):
                if value:
                    same.join_by(at, (name, value))
        return same.groups()


def drawn_groups(groups: Sequence[Sequence[int]], names: Sequence[str], *, wanted: float, seed: int) -> frozenset[int]:
    """Return the members of groups that are drawn until they are as many as wanted; never of all groups.

    Args:
        groups: What must not be parted, by number.
        names: Of each number a name that does not depend on its place.
        wanted: How many.
        seed: Of the draw.
    """
    named = sorted((min(names[at] for at in group), tuple(group)) for group in groups)
    # Which rows grade a model is drawn from a seed that is written down: nothing secret hangs on it.
    random.Random(seed).shuffle(named)  # noqa: S311
    drawn: set[int] = set()
    for _, group in named[1:]:
        fits = len(drawn) + len(group) <= math.ceil(wanted)
        if fits or (not drawn and len(group) <= wanted * (1 + _OVERSHOOT)):
            drawn.update(group)
    return frozenset(drawn)


def _crossed(rows: Sequence[Row], names: Sequence[str], keys: _Keys, *, share: float, seed: int) -> Split:
    """Hold out some raters and some questions: what is of both grades, what is of neither trains, the rest does nothing."""
    ordered = sorted({row.origin.rater for row in rows if row.origin.rater})
    random.Random(seed).shuffle(ordered)  # noqa: S311  as above
    # Equal shares of both lose the fewest rows.
    side = math.sqrt(share)
    count = min(max(1, round(side * len(ordered))), len(ordered) - 1)
    held_raters = set(ordered[:count])
    held = drawn_groups(keys.groups(raters=False), names, wanted=side * len(rows), seed=seed)
    training, held_out, left_out = [], [], []
    for at, row in enumerate(rows):
        rater = row.origin.rater
        if at in held and (not rater or rater in held_raters):
            held_out.append(at)
        elif at not in held and rater not in held_raters:
            training.append(at)
        else:
            left_out.append(at)
    if not held_out or not training:
        return Split(tuple(range(len(rows))), ())
    return Split(tuple(training), tuple(held_out), tuple(left_out))


def straddling(training: Sequence[int], held_out: Sequence[int], near: Sequence[int]) -> frozenset[int]:
    """Return the held-out rows that are near a row to train on, by number.

    Args:
        training: Rows to train on.
        held_out: Rows held out.
        near: Cluster of near duplicates of every row.
    """
    learnt = {near[at] for at in training}
    return frozenset(at for at in held_out if near[at] in learnt)
