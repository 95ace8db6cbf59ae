"""How much one file may cost and hold. Every number has a reason; all can be set."""

from dataclasses import dataclass

__all__ = ["Limits"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one reading; the process's own ones are held by the kernel.

    Attributes:
        memory_bytes: Address space of the child, more than it ever occupies: 250 MiB of it are the preloaded parsers, and
            reading a scanned A4 page reserves more than 1 GiB.
        cpu_s: Computing time of the child.
        wall_s: Time from start to result.
        result_bytes: Size of the result that the child may send.
        max_bytes: Size of the file.
        max_chars: Characters of text in a file; about 10,000 pages.
        max_pages: Pages of a document, slides of a presentation, frames of an image.
        max_pixels: Pixels of an image; a 600 dpi A4 scan has 35 million.
        archive_members: Entries of a ZIP-based file.
        archive_ratio: How many times larger a member may be unpacked than packed.
        archive_bytes: Unpacked size of all members.
        attachments: Attachments of a message, those of attached messages included.
        attachment_depth: Messages within messages.
        ocr_s: Computing time spent on reading scans; pages after that are named in a warning.
    """

    memory_bytes: int = 2048 * _MIB
    cpu_s: int = 120
    wall_s: int = 180
    result_bytes: int = 256 * _MIB
    max_bytes: int = 256 * _MIB
    max_chars: int = 20_000_000
    max_pages: int = 5_000
    max_pixels: int = 50_000_000
    archive_members: int = 10_000
    archive_ratio: int = 200
    archive_bytes: int = 256 * _MIB
    attachments: int = 50
    attachment_depth: int = 3
    ocr_s: int = 80
