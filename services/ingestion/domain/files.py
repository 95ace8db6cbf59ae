"""Files: what is kept by content, under which name, for what, and for how long."""

import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.chassis.errors import InvalidInput

__all__ = ["File", "Purpose", "checked_expiry", "checked_purpose", "clean_filename"]

_MAX_FILENAME: Final = 255
# Bounds of the OpenAI files API: an hour and thirty days.
_MIN_EXPIRY_S: Final = 3_600
_MAX_EXPIRY_S: Final = 2_592_000
# Characters that are invisible or change the order in which a name is shown.
_BIDI: Final = frozenset(
    "\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)


class Purpose(StrEnum):
    """What a file is for."""

    ASSISTANTS = "assistants"
    BATCH = "batch"
    FINE_TUNE = "fine-tune"
    # What the finetuning room writes down about a job, as OpenAI calls it.
    FINE_TUNE_RESULTS = "fine-tune-results"
    VISION = "vision"
    USER_DATA = "user_data"
    EVALS = "evals"


@dataclass(frozen=True, slots=True)
class File:
    """A kept file. Times are seconds since 1970, UTC.

    Attributes:
        file_id: Id.
        tenant: Tenant it belongs to.
        owner: Who brought it.
        filename: Name, without any folder.
        purpose: What it is for.
        size_bytes: Size.
        digest: SHA-256 of the bytes, hexadecimal.
        media_type: Type found by looking at the content.
        created_at: When it was stored.
        expires_at: When it goes; None for never.
        document_id: Document that it was uploaded with, and goes with; None for a file of its own.
    """

    file_id: str
    tenant: str
    owner: str
    filename: str
    purpose: Purpose
    size_bytes: int
    digest: str
    media_type: str
    created_at: float
    expires_at: float | None = None
    document_id: str | None = None


def clean_filename(name: str) -> str:
    r"""Return `name` without folders, control characters and characters that disguise it.

    >>> clean_filename("../../etc/pass\x00wd\u202e")
    'passwd'
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    visible = "".join(
        letter
        for letter in unicodedata.normalize("NFC", last)
        if letter not in _BIDI and unicodedata.category(letter) not in {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
    ).strip()
    if visible.strip(".") == "":
        return "unnamed"
    if len(visible) <= _MAX_FILENAME:
        return visible
    stem, dot, suffix = visible.rpartition(".")
    if dot and len(suffix) <= 16:
        return stem[: _MAX_FILENAME - len(suffix) - 1] + dot + suffix
    return visible[:_MAX_FILENAME]


def checked_purpose(purpose: str) -> Purpose:
    """Return the purpose that `purpose` names.

    Raises:
        InvalidInput: There is no such purpose.
    """
    try:
        return Purpose(purpose)
    except ValueError as error:
        allowed = ", ".join(Purpose)
        raise InvalidInput(f"purpose: {purpose!r} is not one of {allowed}.", param="purpose") from error


def checked_expiry(seconds: int) -> int | None:
    """Return after how many seconds a file goes, None for never (0).

    Raises:
        InvalidInput: Shorter than an hour or longer than thirty days.
    """
    if seconds == 0:
        return None
    if not _MIN_EXPIRY_S <= seconds <= _MAX_EXPIRY_S:
        raise InvalidInput(
            f"expires_after: {seconds} s is not between {_MIN_EXPIRY_S} and {_MAX_EXPIRY_S} s; 0 means never.",
            param="expires_after",
        )
    return seconds
