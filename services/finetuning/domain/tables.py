"""Facts of tables and of lines that name what they say, without a model.

A table's row gives what each column says of the row's first cell; `key: value` gives what the heading's thing has.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from services.finetuning.domain.documents import Chunk
from services.finetuning.domain.facts import Fact, evidence_in

_ROW: Final = re.compile(r"^[ \t]*\|(?P<cells>.+)\|[ \t]*$", re.MULTILINE)
_RULE: Final = re.compile(r"^[\s:|-]+$")
_PAIR: Final = re.compile(
    r"^(?:[-*•][ \t]+)?(?P<key>[A-Za-z][\w /()'&-]{1,50}?):[ \t]+(?P<value>\S[^\n]{0,200})$", re.MULTILINE
)
_RECORD: Final = re.compile(r"^(?P<pairs>[^:;\n]{1,60}: [^;\n]+(?:; [^:;\n]{1,60}: [^;\n]+)+)$", re.MULTILINE)
# Columns that only say that the other one is named in the first.
_NAMING: Final = frozenset({"property", "name", "item", "attribute", "field", "key", "what", "characteristic", "value"})
_LONGEST_CELL: Final = 120
# More words than this before a colon are a sentence, and the heads of an e-mail say nothing of its subject.
_LONGEST_KEY: Final = 4
_NO_KEYS: Final = frozenset({"from", "to", "cc", "subject", "date", "note", "notes", "question", "answer", "example"})


def table_facts(chunk: Chunk) -> Iterator[Fact]:
    """Yield the facts of the tables and named lines of a chunk."""
    yield from _rows(chunk)
    yield from _records(chunk)
    yield from _pairs(chunk)


def _rows(chunk: Chunk) -> Iterator[Fact]:
    header: Sequence[str] = ()
    end = -1
    for match in _ROW.finditer(chunk.text):
        if match.start() != end + 1:
            header = ()
        end = match.end()
        cells = [cell.strip() for cell in match["cells"].split("|")]
        if _RULE.match(match["cells"]):
            continue
        if not header:
            header = cells
        elif len(cells) == len(header) and len(cells) > 1:
            yield from _of_row(chunk, header, cells, match.start(), match.end())


def _of_row(chunk: Chunk, header: Sequence[str], cells: Sequence[str], start: int, end: int) -> Iterator[Fact]:
    # A row's line begins at its bar, so that the quote is the row and nothing beside it.
    start += len(chunk.text[start:end]) - len(chunk.text[start:end].lstrip())
    subject = cells[0]
    if header[0].casefold() in _NAMING and len(cells) == 2:
        yield from _fact(chunk, subject, chunk.topic, cells[1], start, end)
        return
    for name, value in zip(header[1:], cells[1:], strict=True):
        yield from _fact(chunk, name, subject, value, start, end)


def _records(chunk: Chunk) -> Iterator[Fact]:
    for match in _RECORD.finditer(chunk.text):
        pairs = [pair.split(": ", 1) for pair in match["pairs"].split("; ")]
        subject = pairs[0][1].strip()
        for name, value in pairs[1:]:
            yield from _fact(chunk, name.strip(), subject, value.strip(), match.start(), match.end())


def _pairs(chunk: Chunk) -> Iterator[Fact]:
    for match in _PAIR.finditer(chunk.text):
        key = match["key"].strip().removeprefix("The ")
        words = key.casefold().split()
        if not _RECORD.match(match.group()) and len(words) <= _LONGEST_KEY and not _NO_KEYS & {*words, key.casefold()}:
            value = match["value"].strip().rstrip(".")
            yield from _fact(chunk, key, chunk.topic, value, match.start(), match.end(), quote=True)


def _fact(
    chunk: Chunk, name: str, subject: str, value: str, start: int, end: int, *, quote: bool = False
) -> Iterator[Fact]:
    if not (name and subject and value) or max(len(name), len(subject), len(value)) > _LONGEST_CELL:
        return
    shown = name if name.isupper() or any(map(str.isdigit, name)) else name[0].lower() + name[1:]
    if value.isdigit() and name.endswith("s") and not name.endswith("ss"):
        statement = f"{subject} has {value} {shown}."
        questions = (
            f"How many {shown} does {subject} have?",
            f"{subject}: how many {shown}?",
            f"What is the number of {shown} of {subject}?",
        )
    else:
        statement = f"The {shown} of {subject} is {value}."
        questions = (
            f"What is the {shown} of {subject}?",
            f"Which {shown} does {subject} have?",
            f"{subject}: what is the {shown}?",
        )
    yield Fact(
        phrasings=questions,
        answer=value,
        evidence=evidence_in(chunk, start, end),
        statement=statement,
        quoted=chunk.text[start:end] if quote else statement,
        origin="table",
    )
