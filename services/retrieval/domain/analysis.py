"""The analyser: one normalised form of text, so that every index splits on white space and finds the same words."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

import Stemmer

# A word, or an identifier whose parts are held together: POL-12, v1.2, 401(k), r&d, a/b.
_WORD: Final = re.compile(r"\w+(?:(?:[-./&'_]\w+)|(?:\(\w{1,3}\)))*")
_PARTS: Final = re.compile(r"[^\W_]+")
# Accents of Latin letters; the marks of other scripts carry meaning and stay.
_ACCENTS: Final = re.compile("[\u0300-\u036f]")
# Longer tokens are no words but encoded data.
_MAX_TOKEN: Final = 64
# Function words and the words that questions are made of.
_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\S+",
        """
    a about am an and any are aren't as at be because been being but by can can't cannot could couldn't did didn't
    do does doesn't doing don't for from had hadn't has hasn't have haven't having he her here hers him his how i
    i'd i'll i'm i've if in into is isn't it it's its itself just let's may me might mine must my myself of on or
    our ours ourselves please shall she should shouldn't so some such tell than that that's the their theirs them
    themselves then there there's these they they're this those to too until us very was wasn't we we'll we're we've
    were weren't what what's when where where's which while who who's whom whose why will with won't would wouldn't
    you you'd you'll you're you've your yours yourself
""",
    )
)


class Analyser:
    """Normalises (NFKC, lower case, no Latin accents), splits, drops stop words and stems (Snowball English).

    Identifiers are kept whole and also by their parts, so that both `POL-12` and `pol 12` find them. Numbers and
    tokens with digits are not stemmed.

    >>> Analyser().search_text("Renewing the POL-12 policies")
    'renew pol-12 pol 12 polici'
    """

    def __init__(self) -> None:
        # maxCacheSize keeps the common words; one stemmer must not be used by two threads at once.
        self._stemmer = Stemmer.Stemmer("english", 20_000)

    def search_text(self, text: str) -> str:
        """Return the tokens of `text`, joined by single spaces."""
        return " ".join(token for _, token in self._tokens(text))

    def words(self, text: str) -> dict[str, frozenset[str]]:
        """Return the words of `text` as written (lower-case), each with the tokens that stand for it."""
        found: dict[str, set[str]] = {}
        for word, token in self._tokens(text):
            found.setdefault(word, set()).add(token)
        return {word: frozenset(tokens) for word, tokens in found.items()}

    def _tokens(self, text: str) -> Iterator[tuple[str, str]]:
        plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'").lower()
        plain = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", plain)))
        for match in _WORD.finditer(plain):
            whole = match.group().strip("_")
            if not whole or whole in _STOP_WORDS:
                continue
            whole = whole.removesuffix("'s")
            parts = _PARTS.findall(whole.replace("'", ""))
            if len(parts) == 1:
                yield from ((whole, token) for token in self._one(parts[0]))
                continue
            if len(whole) <= _MAX_TOKEN and "'" not in whole:
                yield whole, whole
            for part in parts:
                if part not in _STOP_WORDS or len(part) == 1:
                    yield from ((whole, token) for token in self._one(part))

    def _one(self, word: str) -> Iterator[str]:
        if len(word) > _MAX_TOKEN:
            return
        yield word if any(letter.isdigit() for letter in word) else self._stemmer.stemWord(word)
