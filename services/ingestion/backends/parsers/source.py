"""What a parser is given, and how it says that a file is wrong."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.ingestion.domain.draft import Draft
from services.ingestion.domain.limits import Limits
from services.ingestion.domain.text import FailureCode, Unreadable

__all__ = ["Source", "Spent", "invalid", "unsupported"]


def invalid(reason: str) -> Unreadable:
    """Return the failure of a file that is damaged, protected or over a limit."""
    return Unreadable(FailureCode.INVALID_FILE, reason)


def unsupported(reason: str) -> Unreadable:
    """Return the failure of a file of a kind that is not read."""
    return Unreadable(FailureCode.UNSUPPORTED_FILE, reason)


@dataclass(slots=True)
class Spent:
    """What one reading has used up, attachments included."""

    attachments: int = 0
    ocr_s: float = 0.0

    def ocr(self, limits: Limits, work: Callable[[], None]) -> bool:
        """Run `work` on the account of the OCR time; returns False, without running it, when that is spent."""
        if self.ocr_s >= limits.ocr_s:
            return False
        begin = time.process_time()
        try:
            work()
        finally:
            self.ocr_s += time.process_time() - begin
        return True


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be written into a draft.

    Attributes:
        data: Its bytes.
        filename: Its name; hostile, used as a label only.
        media_type: Its type by content.
        draft: Where its text goes.
        limits: What it may hold.
        spent: What this reading has used up.
        depth: 0 for the document itself, 1 for its attachments.
        part: Name of the attachment; empty for the document itself.
    """

    data: bytes
    filename: str
    media_type: str
    draft: Draft
    limits: Limits
    spent: Spent = field(default_factory=Spent)
    depth: int = 0
    part: str = ""

    def title(self, title: str) -> None:
        """Name the document, unless it has a name or this is an attachment."""
        if self.depth == 0 and not self.draft.title:
            self.draft.title = title
