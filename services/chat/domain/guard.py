"""What may leave the room in a grounded answer, decided while the text streams.

Whatever the retrieved text made the model write: no link or image to a host that is not allowed, no markup of the prompt,
no stretch of the system prompt. Numbers in brackets that the model put behind a sentence are dropped: where a statement
comes from is for the validated citations to say.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from services.layout.words import Token, tokens

_START = re.compile(r"!?\[|<|(?:https?|ftp)://|\bwww\.|\b(?:data|javascript):(?=\S)", re.IGNORECASE)
_IMAGE_OR_LINK = re.compile(r"(?P<image>!)?\[(?P<text>[^\[\]]*)\]\(\s*<?(?P<url>[^)\s>]*)>?(?:\s+[^)]*)?\)")
_MARKER = re.compile(
    r"\[(?:\^|(?:document|doc|source|passage|ref)s?\.?\s*:?\s*)?\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\](?!\()", re.IGNORECASE
)
_BRACKETED = re.compile(r"!?\[[^\[\]]*\](?!\()")
_TAG = re.compile(r"</?[A-Za-z!][^<>]*>")
_URL = re.compile(r"\S+")
# What may still become one of the above when more text comes.
_UNFINISHED = re.compile(
    r"\s*(?:!|\b(?:h|ht|htt|https?|https?:|https?:/|f|ft|ftp|ftp:|ftp:/|w|ww|www|d|da|dat|data|j|ja|jav|java\w{0,6}))?$",
    re.IGNORECASE,
)
# A construct that is not closed after this many characters is plain text.
_LONGEST_CONSTRUCT = 400
# So many words in a row, as the system prompt has them, are a leak; so many may be chance and are held back meanwhile.
_LEAK_WORDS = 8
_SUSPECT_WORDS = 4
# Characters of what was sent that are looked at again: more than eight words.
_TAIL = 160
# A word of at least this length with letters and digits in a system prompt is a secret until shown otherwise.
_CODE_WORD = 10


class AnswerGuard:
    """Cleans one streamed answer.

    Args:
        secret: The system prompt.
        known: Texts whose words are no secret: documents and question.
        allowed_hosts: Hosts that links may lead to; a leading dot allows the hosts below.
        removed_link: What stands in the place of a removed address.
    """

    def __init__(self, *, secret: str, known: Iterable[str], allowed_hosts: frozenset[str], removed_link: str) -> None:
        self._pending = ""
        self._held = ""
        self._tail = ""
        self._allowed = allowed_hosts
        self._removed = removed_link
        self._grams = _grams(secret)
        self._leaks = frozenset(gram for gram in self._grams if len(gram) == _LEAK_WORDS)
        codes = _code_words(secret)
        self._codes = codes - {token.norm for text in known for token in tokens(text)} if codes else codes
        self.leaked = False
        """Whether the answer began to repeat the system prompt; nothing more is released then."""

    def feed(self, text: str) -> str:
        """Take new text; return what may be sent."""
        self._pending += text
        return self._checked(self._cleaned(last=False), last=False)

    def finish(self) -> str:
        """Return what is left to be sent."""
        return self._checked(self._cleaned(last=True), last=True)

    def _cleaned(self, *, last: bool) -> str:
        out: list[str] = []
        while self._pending:
            match = _START.search(self._pending)
            if match is None:
                tail = _UNFINISHED.search(self._pending)
                cut = len(self._pending) if last or tail is None else tail.start()
                out.append(self._pending[:cut])
                self._pending = self._pending[cut:]
                break
            lead, self._pending = self._pending[: match.start()], self._pending[match.start() :]
            taken = self._construct(last=last)
            if taken is None:
                # The space before what may be a marker waits with it.
                out.append(lead.rstrip(" "))
                self._pending = lead[len(lead.rstrip(" ")) :] + self._pending
                break
            length, text = taken
            self._pending = self._pending[length:]
            # "supported [1]." becomes "supported.": the space before something that vanishes goes with it.
            joins = not text and not self._pending[:1].isalnum()
            out += [lead.rstrip(" ") if joins else lead, text]
        return "".join(out)

    def _construct(self, *, last: bool) -> tuple[int, str] | None:
        """Return (length, what it becomes) of the construct that the pending text begins with; None to wait for more."""
        text = self._pending
        if text[0] in "![":
            return self._bracket(text, last=last)
        if text[0] == "<":
            tag = _TAG.match(text)
            if tag and (last or len(text) > tag.end()):
                return tag.end(), ""
            plain = len(text) > 1 and not (text[1].isalpha() or text[1] in "/!")
            return (1, "<") if plain or last or len(text) > _LONGEST_CONSTRUCT else None
        url = _URL.match(text)
        assert url is not None
        if url.end() == len(text) and not last:
            return None
        address = url.group().rstrip(".,;:!?)]}'\"”’")
        return len(address), address if self._allows(address) else self._removed

    def _bracket(self, text: str, *, last: bool) -> tuple[int, str] | None:
        link = _IMAGE_OR_LINK.match(text)
        if link and not last and len(text) == link.end():
            return None
        if link:
            kept = link.group() if self._allows(link["url"]) else ("" if link["image"] else link["text"])
            return link.end(), kept
        closed = _BRACKETED.match(text)
        if closed and (last or len(text) > closed.end()):
            return (closed.end(), "") if _MARKER.match(text) else (1, text[0])
        opened = re.match(r"!?\[[^\[\]]*(?:\](?:\([^)]*)?)?$", text)
        if opened and not last and len(text) < _LONGEST_CONSTRUCT:
            return None
        return 1, text[0]

    def _allows(self, address: str) -> bool:
        parts = urlsplit(f"//{address}" if address.lower().startswith("www.") else address)
        if parts.scheme and parts.scheme not in {"http", "https"}:
            return False
        host = (parts.hostname or "").lower()
        if not host:
            return not parts.scheme
        return host in self._allowed or any(rule.startswith(".") and host.endswith(rule) for rule in self._allowed)

    def _checked(self, text: str, *, last: bool) -> str:
        """Hold back what begins to read like the system prompt; drop it, and all that follows, when it does."""
        if self.leaked:
            return ""
        self._held += text
        whole = self._tail + self._held
        words = tokens(whole)
        norms = [token.norm for token in words]
        cut = self._leak_start(words, norms)
        if cut is not None:
            self.leaked = True
            out = whole[len(self._tail) : max(len(self._tail), cut)].rstrip()
            self._held = ""
            return out
        cut = len(whole) if last else max(len(self._tail), self._suspect_start(whole, words, norms))
        out, self._held = whole[len(self._tail) : cut], whole[cut:]
        self._tail = (self._tail + out)[-_TAIL:]
        return out

    def _leak_start(self, words: Sequence[Token], norms: Sequence[str]) -> int | None:
        for first in range(len(norms)):
            if norms[first] in self._codes or tuple(norms[first : first + _LEAK_WORDS]) in self._leaks:
                return words[first].start
        return None

    def _suspect_start(self, whole: str, words: Sequence[Token], norms: Sequence[str]) -> int:
        """Return where the stretch at the end begins that may still become a leak; the end when there is none."""
        open_word = bool(words) and words[-1].end == len(whole)
        if open_word and any(code.startswith(norms[-1]) for code in self._codes):
            return words[-1].start
        for end in (len(norms), len(norms) - 1) if open_word else (len(norms),):
            for length in range(min(_LEAK_WORDS, end), _SUSPECT_WORDS - 1, -1):
                if tuple(norms[end - length : end]) in self._grams:
                    return words[end - length].start
        return len(whole)


@lru_cache(maxsize=64)
def _grams(secret: str) -> frozenset[tuple[str, ...]]:
    words = [token.norm for token in tokens(secret)]
    return frozenset(
        tuple(words[first : first + length])
        for length in range(_SUSPECT_WORDS, _LEAK_WORDS + 1)
        for first in range(len(words) - length + 1)
    )


@lru_cache(maxsize=64)
def _code_words(secret: str) -> frozenset[str]:
    return frozenset(
        token.norm
        for token in tokens(secret)
        if len(token.norm) >= _CODE_WORD and any(map(str.isdigit, token.norm)) and any(map(str.isalpha, token.norm))
    )
