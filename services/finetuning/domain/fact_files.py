"""Questions and answers that somebody wrote, from JSONL, a JSON array or CSV.

{"question", "phrasings"?, "answer", "evidence"?, "source"?}: `phrasings` are further ways to ask, `evidence` the words of
the document that hold the answer, `source` the document's id, key or file name. In a table, phrasings are parted by " | ".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.finetuning.domain.importing.records import Records
from services.finetuning.domain.json_lines import shown
from services.finetuning.domain.row_reading import Errors, RowError, RowLimits

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "question": ("question", "prompt", "query"),
    "phrasings": ("phrasings", "questions", "paraphrases"),
    "answer": ("answer", "answers", "completion", "response"),
    "evidence": ("evidence", "quote"),
    "source": ("source", "document", "file", "filename"),
}
_KNOWN: Final = frozenset(name for names in _NAMES.values() for name in names)


@dataclass(frozen=True, slots=True)
class AskedFact:
    """A question with its answer, as somebody wrote it.

    Attributes:
        line: Where it stands in the file.
        phrasings: Ways to ask.
        answer: The answer.
        evidence: The words that hold it; empty leaves it to be found.
        source: The document that holds it; empty for any.
    """

    line: int
    phrasings: tuple[str, ...]
    answer: str
    evidence: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class FactFile:
    """The facts of a file and what is wrong with it."""

    facts: tuple[AskedFact, ...]
    errors: tuple[RowError, ...]
    error_count: int


def read_facts(data: Iterable[bytes], *, limits: RowLimits | None = None) -> FactFile:
    """Return the facts of a file. Nothing that it holds makes it raise."""
    bounds = limits or RowLimits()
    errors = Errors(bounds.max_errors)
    found: list[AskedFact] = []
    for record in Records(data, limits=bounds, errors=errors, known=_KNOWN):
        fact = _fact(record.line, record.value, errors)
        if fact is None:
            continue
        if len(found) == bounds.max_rows:
            errors.add("too_many_rows", 0, "", f"the file holds more than {len(found)} questions; use several files")
            break
        found.append(fact)
    if not found and not errors.count:
        errors.add("no_rows", 0, "", "the file holds no questions")
    return FactFile(tuple(found), errors.kept, errors.count)


def _fact(line: int, value: Any, errors: Errors) -> AskedFact | None:
    if not isinstance(value, dict):
        errors.add("wrong_type", line, "", f"{shown(value)} is not allowed; use an object with question and answer")
        return None
    before = errors.count
    asked = [*_texts(line, value, "question", errors), *_texts(line, value, "phrasings", errors)]
    answers = _texts(line, value, "answer", errors)
    evidence, source = (_texts(line, value, name, errors) for name in ("evidence", "source"))
    if errors.count == before:
        for name, given in (("question", asked), ("answer", answers)):
            if not given:
                errors.add("missing", line, name, "is missing; write a question and its answer")
    if errors.count > before:
        return None
    return AskedFact(
        line, tuple(dict.fromkeys(asked)), answers[0], evidence[0] if evidence else "", source[0] if source else ""
    )


def _texts(line: int, value: Mapping[str, Any], role: str, errors: Errors) -> list[str]:
    """Return the texts that a record holds under the names of a role; an array may stand for one."""
    name = next((name for name in _NAMES[role] if value.get(name) not in (None, "", [])), "")
    if not name:
        return []
    given = value[name]
    if role == "phrasings" and isinstance(given, str):
        given = given.split(" | ")
    texts = given if isinstance(given, list) else [given]
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip() or "\x00" in text:
            field = f"{name}[{index}]" if isinstance(given, list) else name
            errors.add("wrong_type", line, field, f"{shown(text)} is not allowed; use a string that says something")
            return []
    return [text.strip() for text in texts]
