"""What runs in the sandboxed child: read one file, cut it, send the result. Imports nothing of the room's wire."""

import ctypes
import functools
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import orjson

from services.ingestion.backends.media_types import IMAGES, PDF
from services.ingestion.backends.parsers.dispatch import write_source
from services.ingestion.backends.parsers.source import Source, invalid
from services.ingestion.backends.seccomp import deny
from services.ingestion.backends.tokens import TokenCounter, tokenizer_file
from services.ingestion.domain.boxes import encode_boxes
from services.ingestion.domain.chunking import cut
from services.ingestion.domain.draft import Draft, one_line
from services.ingestion.domain.limits import Limits
from services.ingestion.domain.text import Chunking, FailureCode, Locator, ParsedDocument, Unreadable

__all__ = ["main", "read_document", "token_counter"]

_PDEATHSIG: Final = 1
_NO_FILES: Final = 0
_OPEN_FILES: Final = 64


def main(sender: Connection, path: str, filename: str, chunking: Chunking, limits: Limits, seccomp: bool) -> None:
    """Read the file at `path` under `limits` and send the result; the process ends afterwards."""
    _restrain(limits)
    if seccomp:
        deny()
    try:
        document = read_document(Path(path), filename=filename, chunking=chunking, limits=limits)
        header, boxes = _packed(document), document.boxes
    except Unreadable as error:
        header, boxes = _failed(error.code, error.reason, ""), b""
    except MemoryError:
        header, boxes = _failed(FailureCode.INVALID_FILE, _memory(limits), "MemoryError"), b""
    except RecursionError:
        header, boxes = _failed(FailureCode.INVALID_FILE, "The file is nested too deeply.", "RecursionError"), b""
    except Exception as error:  # noqa: BLE001  the child's outermost loop: a library may raise anything on a hostile file
        header = _failed(FailureCode.INVALID_FILE, "The file is damaged and could not be read.", _name(error))
        boxes = b""
    sender.send_bytes(header)
    sender.send_bytes(boxes)
    sender.close()


def read_document(path: Path, *, filename: str, chunking: Chunking, limits: Limits) -> ParsedDocument:
    """Read and cut a file in this process.

    Raises:
        Unreadable: It cannot be read.
    """
    if path.stat().st_size > limits.max_bytes:
        raise invalid(f"The file is larger than {limits.max_bytes // 2**20} MiB.")
    draft = Draft(max_chars=limits.max_chars)
    source = Source(data=path.read_bytes(), filename=filename, media_type="", draft=draft, limits=limits)
    media_type = write_source(source)
    parsed = draft.finish()
    if not any(letter.isalnum() for letter in parsed.text):
        why = parsed.warnings[0] if parsed.warnings else ""
        if not why and (media_type == PDF or media_type in IMAGES):
            why = "It may hold only pictures without writing."
        raise invalid(f"No text was found in the file. {why}".strip())
    chunks = cut(parsed.text, parsed.sections, token_counter().starts(parsed.text), chunking)
    return ParsedDocument(
        title=parsed.title or _title_of(filename),
        text=parsed.text,
        sections=parsed.sections,
        chunks=chunks,
        media_type=media_type,
        warnings=parsed.warnings,
        boxes=encode_boxes(parsed.pages),
    )


@functools.cache
def token_counter() -> TokenCounter:
    """Return the embedder's tokenizer; loaded once, in the forkserver, and shared by its children."""
    return TokenCounter(tokenizer_file())


def _restrain(limits: Limits) -> None:
    """Put the kernel's limits on this process."""
    # Nobody waits for the result when the forkserver is gone.
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    # The hard limit is one second later: SIGXCPU may be caught by a library, SIGKILL may not.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_NO_FILES, _NO_FILES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def _packed(document: ParsedDocument) -> bytes:
    return orjson.dumps(
        {
            "title": document.title,
            "text": document.text,
            "media_type": document.media_type,
            "warnings": document.warnings,
            "sections": [(s.start, s.end, *_place(s.locator)) for s in document.sections],
            "chunks": [(c.start, c.end, *_place(c.locator), c.passage_start, c.passage_end) for c in document.chunks],
        }
    )


def _place(locator: Locator) -> tuple[Any, ...]:
    return locator.page_first, locator.page_last, locator.heading_path, locator.part


def _failed(code: FailureCode, reason: str, detail: str) -> bytes:
    return orjson.dumps({"code": code.value, "reason": reason, "detail": detail})


def _memory(limits: Limits) -> str:
    return f"Reading the file took more than {limits.memory_bytes // 2**20} MiB of memory."


def _name(error: BaseException) -> str:
    """Return the kind of an error; its text may quote the document and stays here."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _title_of(filename: str) -> str:
    stem = filename.rpartition("/")[2]
    stem = stem.rpartition(".")[0] or stem
    return one_line(stem.replace("_", " ").replace("-", " ")) or "Untitled"
