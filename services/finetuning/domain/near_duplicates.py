"""Rows that say nearly the same: exact duplicates, clusters of near ones, and overlap with another set.

MinHash signatures with locality-sensitive hashing (Broder 1997; Indyk and Motwani 1998) over stretches of five characters,
so that a comma more, another case or a typing error leave two texts near. The same seed gives the same clusters.
"""

import hashlib
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from services.finetuning.domain.rows import Row, prompt_of, texts_of

if TYPE_CHECKING:
    from datasketch import MinHash, MinHashLSH

NEAR: Final = 0.8
"""Share of the stretches of two texts that both have, from which they are near duplicates (Jaccard)."""

_BETWEEN: Final = re.compile(r"[\W_]+")
_STRETCH: Final = 5
# The standard error of an estimate is then below .045.
_PERMUTATIONS: Final = 128
_LEEWAY: Final = 0.2
# More of a text than this adds time and no other verdict.
_LONGEST: Final = 20_000
# A turn that stands in more than this share of the rows (a system turn, a worked example) tells nothing of two of them.
_BOILERPLATE: Final = 0.5
_FEW_ROWS: Final = 4


class Partition:
    """Puts things together that share something, step by step (union-find).

    Args:
        size: Number of things.
    """

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))
        self._first: dict[Hashable, int] = {}

    def join(self, one: int, other: int) -> None:
        """Put two things together, with all that each is together with."""
        roots = sorted((self.root(one), self.root(other)))
        self._parent[roots[1]] = roots[0]

    def join_by(self, thing: int, key: Hashable) -> None:
        """Put a thing together with all that were given the same key."""
        self.join(thing, self._first.setdefault(key, thing))

    def root(self, thing: int) -> int:
        """Return the first of the things that this one is together with."""
        while self._parent[thing] != thing:
            self._parent[thing] = self._parent[self._parent[thing]]
            thing = self._parent[thing]
        return thing

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Return the groups in the order of their first members."""
        found: dict[int, list[int]] = defaultdict(list)
        for thing in range(len(self._parent)):
            found[self.root(thing)].append(thing)
        return tuple(tuple(group) for group in found.values())


@dataclass(frozen=True, slots=True)
class Match:
    """A text that is near one of another set."""

    index: int
    other: int
    similarity: float


def normalised(text: str) -> str:
    """Return a text as it is compared: its words in compatibility form and without case, parted by single spaces."""
    return _BETWEEN.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def fingerprint(text: str) -> str:
    """Return what texts have in common that differ in case, spacing and punctuation only."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()


def question_in(turn: str, mark: str) -> str:
    """Return the question of a turn that was laid out with passages; a turn without any is the question.

    Args:
        turn: What the user says.
        mark: What stands before the question (`LayoutTexts.question`).
    """
    return turn.rpartition(f"\n\n{mark} ")[2] if mark else turn


def question_of(row: Row, mark: str) -> str:
    """Return what a row asks last; empty for text."""
    asked = [turn.content for turn in prompt_of(row) if turn.role == "user"]
    return question_in(asked[-1], mark) if asked else ""


def comparable(rows: Sequence[Row], mark: str) -> tuple[str, ...]:
    """Return of each row the text by which it is compared: questions and answers, without passages and boilerplate."""
    said = [tuple(question_in(text, mark) for text in texts_of(row)) for row in rows]
    counts = Counter(text for turns in said for text in set(turns))
    most = len(rows) * _BOILERPLATE if len(rows) >= _FEW_ROWS else len(rows)
    return tuple("\n".join([text for text in turns if counts[text] <= most] or turns) for turns in said)


def exact_groups(texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return the groups of at least two texts that differ in case, spacing and punctuation only."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(texts):
        found[fingerprint(text)].append(index)
    return tuple(tuple(group) for group in found.values() if len(group) > 1)


def clusters(texts: Sequence[str], *, seed: int, near: float = NEAR) -> tuple[int, ...]:
    """Return for each text the first of the texts that it is near to, also over others.

    Args:
        texts: What is compared.
        seed: Of the hash functions.
        near: Similarity from which two are near.
    """
    same = Partition(len(texts))
    index = _index(near)
    signatures: dict[int, MinHash] = {}
    known: dict[str, int] = {}
    for at, text in enumerate(texts):
        mark = normalised(text)
        if mark in known:
            same.join(at, known[mark])
            continue
        known[mark] = at
        signature = signatures[at] = _signature(mark, seed)
        for other in sorted(index.query(signature)):
            if same.root(other) != same.root(at) and signature.jaccard(signatures[other]) >= near:
                same.join(at, other)
        index.insert(at, signature)
    return tuple(same.root(at) for at in range(len(texts)))


def overlap(texts: Sequence[str], others: Sequence[str], *, seed: int, near: float = NEAR) -> tuple[Match, ...]:
    """Return the texts that are near one of another set, each with the nearest, in order."""
    index = _index(near)
    signatures = [_signature(normalised(other), seed) for other in others]
    for at, signature in enumerate(signatures):
        index.insert(at, signature)
    found = []
    for at, text in enumerate(texts):
        mine = _signature(normalised(text), seed)
        near_ones = [(mine.jaccard(signatures[other]), -other) for other in index.query(mine)]
        similarity, other = max(near_ones, default=(0.0, 0))
        if similarity >= near:
            found.append(Match(at, -other, round(float(similarity), 4)))
    return tuple(found)


@cache
def _bands(near: float) -> tuple[int, int]:
    """Return bands and rows that fit a similarity best; finding them takes longer than most searches."""
    from datasketch import MinHashLSH  # noqa: PLC0415  loads half of SciPy, a second of each start

    # What is near and not a candidate is lost; what is a candidate and not near is only compared once more.
    found = MinHashLSH(threshold=near - _LEEWAY, num_perm=_PERMUTATIONS)
    return found.b, found.r


def _index(near: float) -> "MinHashLSH":
    from datasketch import MinHashLSH  # noqa: PLC0415  the same

    return MinHashLSH(num_perm=_PERMUTATIONS, params=_bands(near))


def _signature(text: str, seed: int) -> "MinHash":
    shown = f" {text[:_LONGEST]} "
    stretches = {shown[at : at + _STRETCH] for at in range(max(1, len(shown) - _STRETCH + 1))}
    # Every signature of a seed shares its hash functions; drawing them takes longer than using them.
    signature = _empty(seed % (1 << 32)).copy()
    signature.update_batch([stretch.encode() for stretch in stretches])
    return signature


@lru_cache(maxsize=8)
def _empty(seed: int) -> "MinHash":
    from datasketch import MinHash  # noqa: PLC0415  the same

    return MinHash(num_perm=_PERMUTATIONS, seed=seed, hashfunc=zlib.crc32)
