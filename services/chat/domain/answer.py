"""The text of one answer while it streams: what is clean, what is held back, what may be sent."""

import re
from collections.abc import Sequence

from services.chat.domain.guard import AnswerGuard
from services.chat.domain.turn import Citation
from services.layout.words import Stretch, tokens

_NOT_FOUND = re.compile(
    r"^\W*(?:the (?:given |provided )?(?:documents?|passages?|text|context|information)(?: provided)? (?:do|does|did)(?: not|n't)|"
    r"not (?:stated |mentioned |found |specified |available )?in the (?:given |provided )?(?:documents?|passages?|text|context)|"
    r"(?:i|we) (?:do not|don't|cannot|can't|could not|couldn't) (?:know|find|answer)|i am (?:not able|unable) to)\b",
    re.IGNORECASE,
)
# How refusals begin, in words: text that may still become one is not sent yet.
_OPENINGS = (
    ("not", "in", "the", "documents"),
    ("the", "documents", "do", "not"),
    ("the", "document", "does", "not"),
    ("the", "documents", "don't"),
)


def says_not_found(text: str) -> bool:
    """Whether an answer begins by saying that the documents do not hold it."""
    return bool(_NOT_FOUND.match(text))


def may_become_not_found(text: str) -> bool:
    """Whether an answer that has only begun may still become such a sentence."""
    words = tuple(token.norm for token in tokens(text))
    if len(words) >= max(map(len, _OPENINGS)):
        return False
    return any(
        words[:-1] == opening[: len(words) - 1] and opening[len(words) - 1].startswith(words[-1])
        for opening in _OPENINGS
        if 0 < len(words) <= len(opening)
    )


class AnswerText:
    """One answer as it grows.

    `text` is everything clean so far; `release` hands out what was not handed out yet, unless it is held back.

    Args:
        guard: Cleans what the model produces.
        held: Whether nothing may be sent until a stretch of it is supported.
    """

    def __init__(self, guard: AnswerGuard, *, held: bool) -> None:
        self._guard = guard
        self._sent = 0
        self.text = ""
        self.held = held

    @property
    def leaked(self) -> bool:
        """Whether the answer began to repeat the system prompt and ends here."""
        return self._guard.leaked

    @property
    def sent(self) -> bool:
        """Whether the reader has got any of it."""
        return self._sent > 0

    def feed(self, produced: str) -> None:
        """Take what the model produced."""
        self._add(self._guard.feed(produced))

    def finish(self) -> None:
        """Take what the guard still kept; trailing white space goes."""
        self._add(self._guard.finish())
        self.text = self.text[: max(self._sent, len(self.text.rstrip()))]

    def append(self, text: str) -> None:
        """Add words of the room's own."""
        self.text += text

    def replace(self, text: str) -> None:
        """Say something else instead; only while nothing was sent."""
        assert not self._sent
        self.text = text
        self.held = False

    def _add(self, clean: str) -> None:
        self.text += clean if self.text else clean.lstrip()

    def release(self) -> str:
        """Return what may be sent now."""
        if self.held or (not self._sent and (may_become_not_found(self.text) or says_not_found(self.text))):
            return ""
        out = self.text[self._sent :]
        self._sent = len(self.text)
        return out

    def release_all(self) -> str:
        """Return all that is left."""
        out = self.text[self._sent :]
        self._sent = len(self.text)
        return out


def uncited(stretches: Sequence[Stretch], tried: Sequence[Stretch], cited: Sequence[Citation]) -> list[Stretch]:
    """Return the stretches that were not tried yet and overlap nothing that is cited already."""
    seen = {(stretch.start, stretch.end) for stretch in tried}
    return [
        stretch
        for stretch in stretches
        if (stretch.start, stretch.end) not in seen
        and not any(stretch.start < citation.end and citation.start < stretch.end for citation in cited)
    ]
