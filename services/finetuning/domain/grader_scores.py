"""How texts are compared: string checks and text similarity, each from 0 to 1.

Words are runs of letters and digits of any alphabet, in lower case; signs by themselves count for BLEU and GLEU only, as
usual there. The libraries are loaded when they are first needed: nltk alone takes seconds.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import rapidfuzz

__all__ = ["Metric", "StringOperation", "cosine_of", "similarity", "string_check"]

_WORD: Final = re.compile(r"\w+")
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")


class StringOperation(StrEnum):
    """How a string check compares."""

    EQ = "eq"
    NE = "ne"
    LIKE = "like"
    ILIKE = "ilike"


class Metric(StrEnum):
    """How similarity is measured; METEOR, which OpenAI has too, needs the WordNet data and is not offered."""

    COSINE = "cosine"
    FUZZY_MATCH = "fuzzy_match"
    BLEU = "bleu"
    GLEU = "gleu"
    ROUGE_1 = "rouge_1"
    ROUGE_2 = "rouge_2"
    ROUGE_3 = "rouge_3"
    ROUGE_4 = "rouge_4"
    ROUGE_5 = "rouge_5"
    ROUGE_L = "rouge_l"


def string_check(operation: StringOperation, text: str, reference: str) -> float:
    """Return 1 where the check holds: equal, not equal, contains, contains in whatever case; else 0."""
    match operation:
        case StringOperation.EQ:
            holds = text == reference
        case StringOperation.NE:
            holds = text != reference
        case StringOperation.LIKE:
            holds = reference in text
        case StringOperation.ILIKE:
            holds = reference.casefold() in text.casefold()
    return float(holds)


def similarity(metric: Metric, text: str, reference: str) -> float:
    """Return how similar `text` is to `reference`; `Metric.COSINE` needs vectors (`cosine_of`).

    Raises:
        ValueError: The metric is cosine.
    """
    match metric:
        case Metric.COSINE:
            raise ValueError("cosine compares vectors")
        case Metric.FUZZY_MATCH:
            return rapidfuzz.fuzz.ratio(text, reference) / 100
        case Metric.BLEU:
            return _bleu(_TOKEN.findall(text), _TOKEN.findall(reference))
        case Metric.GLEU:
            return _gleu(_TOKEN.findall(text), _TOKEN.findall(reference))
        case Metric.ROUGE_L:
            return _rouge_l(_words(text), _words(reference))
        case _:
            return _rouge_n(int(metric.value.removeprefix("rouge_")), text, reference)


def cosine_of(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the cosine of two unit vectors, from 0 to 1: what points apart is not similar."""
    return min(1.0, max(0.0, sum(a * b for a, b in zip(left, right, strict=True))))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _bleu(tokens: list[str], reference: list[str]) -> float:
    """Return BLEU-4 of a sentence (Papineni et al. 2002), smoothed by a small count (Chen and Cherry 2014, method 1)."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu  # noqa: PLC0415  seconds

    if not tokens or not reference:
        return float(tokens == reference)
    # A sentence of fewer than four tokens has no 4-grams: the shorter ones share their weight.
    smoothed = SmoothingFunction().method1
    return float(sentence_bleu([reference], tokens, smoothing_function=smoothed, auto_reweigh=True))


def _gleu(tokens: list[str], reference: list[str]) -> float:
    """Return GLEU of a sentence (Wu et al. 2016, arXiv:1609.08144)."""
    from nltk.translate.gleu_score import sentence_gleu  # noqa: PLC0415  seconds

    if not tokens or not reference:
        return float(tokens == reference)
    return float(sentence_gleu([reference], tokens))


class _Words:
    """The tokenizer that rouge-score is given: its own knows only the letters a to z."""

    def tokenize(self, text: str) -> list[str]:
        return _words(text)


def _rouge_n(n: int, text: str, reference: str) -> float:
    """Return the F1 of ROUGE-N (Lin 2004)."""
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415  loads nltk

    score = RougeScorer([f"rouge{n}"], tokenizer=_Words()).score(reference, text)
    return float(score[f"rouge{n}"].fmeasure)


def _rouge_l(words: list[str], reference: list[str]) -> float:
    """Return the F1 of ROUGE-L (Lin 2004).

    As rouge-score has it, whose table in Python takes the product of both lengths: minutes for the longest texts.
    """
    if not words or not reference:
        return 0.0
    common = rapidfuzz.distance.LCSseq.similarity(words, reference)
    return 2 * common / (len(words) + len(reference))
