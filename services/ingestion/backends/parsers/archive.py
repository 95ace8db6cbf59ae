"""Looks at a ZIP-based file before anything unpacks it."""

import zipfile
import zlib
from io import BytesIO
from typing import Final

from services.ingestion.backends.parsers.source import Source, invalid

__all__ = ["check_archive"]

_BLOCK: Final = 1 << 16
_XML: Final = (".xml", ".rels", ".vml")
# A small member may be packed very well without harm.
_SMALL: Final = 1 << 20
_DECLARATIONS: Final = tuple(
    word.encode(code) for word in ("<!DOCTYPE", "<!ENTITY") for code in ("ascii", "utf-16-le", "utf-16-be")
)


def check_archive(source: Source) -> None:
    """Refuse an archive that unpacks to too much, or whose XML declares entities.

    Sizes are counted while unpacking, since a directory may lie.

    Raises:
        Unreadable: A limit is exceeded, or the archive is damaged or protected.
    """
    limits = source.limits
    try:
        with zipfile.ZipFile(BytesIO(source.data)) as archive:
            members = archive.infolist()
            if len(members) > limits.archive_members:
                raise invalid(
                    f"The file packs {len(members):,} members; at most {limits.archive_members:,} are unpacked."
                )
            total = 0
            for member in members:
                if member.flag_bits & 1:
                    raise invalid("The file is protected by a password.")
                total += _member(source, archive, member, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise invalid("The file is damaged: its packed content cannot be unpacked.") from error


def _member(source: Source, archive: zipfile.ZipFile, member: zipfile.ZipInfo, before: int) -> int:
    limits = source.limits
    size, tail = 0, b""
    is_xml = member.filename.lower().endswith(_XML)
    with archive.open(member) as stream:
        while block := stream.read(_BLOCK):
            size += len(block)
            if before + size > limits.archive_bytes:
                raise invalid(f"The file unpacks to more than {limits.archive_bytes // 2**20} MiB.")
            if size > _SMALL and size > limits.archive_ratio * max(member.compress_size, 1):
                raise invalid(f"The file is packed more than {limits.archive_ratio} times, as only harmful files are.")
            if is_xml:
                window = tail + block
                if any(word in window for word in _DECLARATIONS):
                    raise invalid("The file declares XML entities, which office documents never do.")
                tail = block[-20:]
    return size
