"""The document reader whose every reading happens in a sandboxed process of its own.

A preloaded forkserver, itself started as a clean program without gRPC, forks one child for each file. The kernel bounds
the child's memory, computing time and file size and denies it sockets and other programs; the child's end is the end
of whatever a hostile file did to it.
"""

import asyncio
import contextlib
import multiprocessing
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from services.chassis.errors import Unsupported
from services.ingestion.backends import media_types, seccomp
from services.ingestion.backends.child import main
from services.ingestion.domain.limits import Limits
from services.ingestion.domain.text import Chunk, Chunking, FailureCode, Locator, ParsedDocument, Section, Unreadable

__all__ = ["SandboxedReader"]

_log = structlog.get_logger()
_PRELOADED: Final = "services.ingestion.backends.warm"
# How often a reading looks whether its caller has left.
_LOOK_S: Final = 0.2
_DEFAULT_LIMITS: Final = Limits()


class _Cancellation:
    """Set by the caller's task, seen by the thread that waits for the child."""

    def __init__(self) -> None:
        self.asked = False


class SandboxedReader:
    """Reads documents in child processes.

    Args:
        limits: What one reading may cost and hold.
        concurrency: Children at once.
        require_seccomp: Whether to refuse to start where libseccomp is missing.

    Raises:
        Unsupported: libseccomp is missing and required.
    """

    def __init__(self, *, limits: Limits = _DEFAULT_LIMITS, concurrency: int = 1, require_seccomp: bool = True) -> None:
        self.confined = seccomp.available()
        """Whether the kernel denies system calls to the children."""
        if not self.confined:
            if require_seccomp:
                raise Unsupported(
                    "libseccomp.so.2 is missing, so documents cannot be read safely: install it (Debian: libseccomp2), "
                    "or allow reading without a system-call filter by require_seccomp=false.",
                    param="require_seccomp",
                )
            _log.warning("document_reader_without_seccomp")
        self._limits = limits
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_PRELOADED])
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="read-document")

    async def start(self, scratch: Path) -> None:
        """Load the parsers by reading a first line, so that no document waits for it; `scratch` is a writable folder."""
        path = scratch / "first-reading.md"
        path.write_text("# First\n\nOne line.\n")
        try:
            await self.read(path, filename=path.name, chunking=Chunking())
        finally:
            path.unlink()

    async def close(self) -> None:
        """Wait for the readings under way and let go of the threads."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def read(self, path: Path, *, filename: str, chunking: Chunking) -> ParsedDocument:
        """Return the text and the chunks of the file at `path`, which was uploaded as `filename`.

        Raises:
            Unreadable: The file cannot be read.
        """
        cancellation = _Cancellation()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._read, path, filename, chunking, cancellation)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancellation.asked = True
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Unreadable):
                await work
            raise

    def media_type(self, head: bytes, *, filename: str) -> str:
        """Return the type of a file that begins with `head`, by content before name."""
        return media_types.detect(head, filename=filename)

    def _read(self, path: Path, filename: str, chunking: Chunking, cancellation: _Cancellation) -> ParsedDocument:
        receiver, sender = self._context.Pipe(duplex=False)
        child = self._context.Process(
            target=main,
            args=(sender, str(path), filename, chunking, self._limits, self.confined),
            name="read-document",
            daemon=True,
        )
        try:
            child.start()
            sender.close()
            return self._result(receiver, child, cancellation)
        finally:
            sender.close()
            receiver.close()
            if child.pid is not None:
                child.kill()
                child.join()
                child.close()

    def _result(self, receiver: Connection, child: ForkServerProcess, cancellation: _Cancellation) -> ParsedDocument:
        deadline = time.monotonic() + self._limits.wall_s
        parts: list[bytes] = []
        while len(parts) < 2:
            left = deadline - time.monotonic()
            if cancellation.asked:
                raise Unreadable(FailureCode.SERVER_ERROR, "The reading was cancelled.")
            if left <= 0:
                raise Unreadable(
                    FailureCode.INVALID_FILE, f"Reading the file took longer than {self._limits.wall_s} s."
                )
            if not wait([receiver], min(left, _LOOK_S)):
                continue
            try:
                # A message over the limit closes the connection and reads as an OSError.
                parts.append(receiver.recv_bytes(self._limits.result_bytes))
            except EOFError:
                child.join()
                raise self._death(child.exitcode) from None
            except OSError as error:
                most = self._limits.result_bytes // 2**20
                raise Unreadable(FailureCode.INVALID_FILE, f"The file holds more than {most} MiB of text.") from error
        return _document(parts[0], parts[1])

    def _death(self, exit_code: int | None) -> Unreadable:
        """Return what to say of a child that died without a result."""
        limits = self._limits
        name = signal.Signals(-exit_code).name if exit_code is not None and exit_code < 0 else f"exit {exit_code}"
        _log.warning("document_reader_died", ended=name)
        if exit_code in {-signal.SIGXCPU, -signal.SIGKILL}:
            return Unreadable(
                FailureCode.INVALID_FILE, f"Reading the file took more than {limits.cpu_s} s of computing."
            )
        if exit_code is not None and exit_code < 0:
            return Unreadable(
                FailureCode.INVALID_FILE,
                f"The file is damaged, or reading it takes more than {limits.memory_bytes // 2**20} MiB of memory ({name}).",
            )
        return Unreadable(
            FailureCode.SERVER_ERROR, "The reader ended without a result; uploading the file again may help."
        )


def _document(header: bytes, boxes: bytes) -> ParsedDocument:
    """Return the document of a child's result. The child may be in a hostile file's hands: nothing of it is trusted."""
    try:
        value = orjson.loads(header)
        if "code" in value:
            if value["detail"]:
                _log.info("document_unreadable", detail=str(value["detail"]))
            raise Unreadable(FailureCode(value["code"]), str(value["reason"]))
        document = ParsedDocument(
            title=str(value["title"]),
            text=str(value["text"]),
            sections=tuple(Section(row[0], row[1], _locator(row[2:6])) for row in value["sections"]),
            chunks=tuple(
                Chunk(number, row[0], row[1], _locator(row[2:6]), row[6], row[7])
                for number, row in enumerate(value["chunks"])
            ),
            media_type=str(value["media_type"]),
            warnings=tuple(map(str, value["warnings"])),
            boxes=boxes,
        )
        _check(document)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Unreadable(FailureCode.SERVER_ERROR, "The reader gave no usable result.") from error
    return document


def _locator(row: list[Any]) -> Locator:
    first, last, path, part = row
    return Locator(int(first), int(last), tuple(map(str, path)), str(part))


def _check(document: ParsedDocument) -> None:
    length = len(document.text)
    for chunk in document.chunks:
        if not 0 <= chunk.passage_start <= chunk.start < chunk.end <= chunk.passage_end <= length:
            raise ValueError("a chunk lies outside the text")
    for section in document.sections:
        if not 0 <= section.start <= section.end <= length:
            raise ValueError("a section lies outside the text")
