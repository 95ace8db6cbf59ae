"""Markdown: the text as written, its headings as places, the title from its front matter."""

import re
from typing import Final

from services.ingestion.backends.parsers.plain import decoded
from services.ingestion.backends.parsers.source import Source
from services.ingestion.domain.draft import normalise, one_line

__all__ = ["write", "write_markdown"]

_FRONT_MATTER: Final = re.compile(r"\A\s*---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE: Final = re.compile(r"""^title:\s*(["']?)(.*?)\1\s*$""", re.MULTILINE | re.IGNORECASE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_FENCE: Final = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_ATX: Final = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT: Final = re.compile(r"^ {0,3}(=+|-{2,})[ \t]*$")
_LINK: Final = re.compile(r"!?\[([^\]\[]*)\](?:\([^)]*\)|\[[^\]]*\])")
_ATTRIBUTES: Final = re.compile(r"\{[:#.][^}]*\}\s*$")
_EMPHASIS: Final = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|</?\w[^>]*>|\\(?=[^\w\s])")


def write(source: Source) -> None:
    """Write a Markdown file."""
    write_markdown(source, decoded(source))


def write_markdown(source: Source, text: str) -> None:
    """Write Markdown that stands in the file or was made of it."""
    text = normalise(text)
    if front := _FRONT_MATTER.match(text):
        if title := _TITLE.search(front[1]):
            source.title(title[2])
        text = text[front.end() :]
    text = normalise(_COMMENT.sub("", text)).strip("\n")
    fence = ""
    pending: list[str] = []
    previous = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1][0] == fence[0] and len(mark[1]) >= len(fence):
            fence = ""
        if not fence and not mark:
            if heading := _ATX.match(line):
                _flush(source, pending)
                _open(source, len(heading[1]), heading[2] or "")
            elif (
                (under := _SETEXT.match(line))
                and previous.strip()
                and not previous.lstrip().startswith(("|", "-", "*", ">"))
            ):
                under_title = pending.pop()
                _flush(source, pending)
                _open(source, 1 if under[1][0] == "=" else 2, under_title)
                pending.append(under_title)
        pending.append(line + "\n")
        previous = line if not _ATX.match(line) else ""
    _flush(source, pending)
    if text:
        source.draft.exact("\n")


def _open(source: Source, level: int, title: str) -> None:
    name = one_line(_EMPHASIS.sub("", _LINK.sub(r"\1", _ATTRIBUTES.sub("", title))))
    source.draft.under(level, name)
    if level == 1 and name:
        source.title(name)


def _flush(source: Source, pending: list[str]) -> None:
    source.draft.exact("".join(pending))
    pending.clear()
