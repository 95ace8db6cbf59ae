"""Facts that a model writes: what it is asked, and what of its answer is believed.

Nothing is believed because a model said it: evidence must be an exact piece of the chunk, the answer must stand in it, and
the questions are tried out (`usecases/written_facts.py`).
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from services.finetuning.domain.documents import Chunk
from services.finetuning.domain.facts import Fact, evidence_in, sentence_with
from services.finetuning.domain.near_duplicates import normalised
from services.layout.prompt import rendered
from services.layout.turns import Locator, Message, Passage

FACTS_PER_CHUNK: Final = 3
"""Facts that are asked for of one chunk."""
SCHEMA: Final = json.dumps(
    {
        "type": "object",
        "properties": {
            "facts": {
                "type": "array",
                "maxItems": 2 * FACTS_PER_CHUNK,
                "items": {
                    "type": "object",
                    "properties": {
                        "questions": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 5},
                        "answer": {"type": "string"},
                        "evidence": {"type": "string"},
                    },
                    "required": ["questions", "answer", "evidence"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["facts"],
        "additionalProperties": False,
    }
)
"""What the writing model's answer must satisfy, for engines that can hold a model to it."""

_OBJECT: Final = re.compile(r"\{.*\}", re.DOTALL)
_MOST_FACTS: Final = 2 * FACTS_PER_CHUNK


@dataclass(frozen=True, slots=True)
class WritingTexts:
    """The texts of `prompts/writing.toml`."""

    system: str
    request: str


def as_passage(chunk: Chunk) -> Passage:
    """Return a chunk as a passage of a prompt."""
    document = chunk.document
    return Passage(
        document_id=document.document_id,
        version=document.version,
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        title=document.title,
        filename=document.filename,
        collection_id=document.collection_id,
        locator=Locator(heading_path=chunk.headings),
    )


def writing_prompt(texts: WritingTexts, chunk: Chunk, *, phrasings: int) -> tuple[Message, ...]:
    """Return what the model is asked to write about a chunk."""
    document = rendered(as_passage(chunk), 1)
    request = texts.request.format(document=document, facts=FACTS_PER_CHUNK, phrasings=phrasings)
    return (Message("system", texts.system.strip()), Message("user", request.strip()))


def written_facts(answer: str, chunk: Chunk) -> tuple[tuple[Fact, ...], Counter[str]]:
    """Return the facts of a model's answer, and what of it is none by reason."""
    refused: Counter[str] = Counter()
    match = _OBJECT.search(answer)
    try:
        value = json.loads(match.group()) if match else None
    except (ValueError, RecursionError):
        value = None
    entries = value.get("facts") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        return (), Counter({"writer_no_json": 1})
    found = []
    for entry in entries[:_MOST_FACTS]:
        fact = _fact(entry, chunk)
        if isinstance(fact, str):
            refused[fact] += 1
        else:
            found.append(fact)
    return tuple(found), refused


def _fact(entry: Any, chunk: Chunk) -> Fact | str:
    match entry:
        case {"questions": list(questions), "answer": str(answer), "evidence": str(quote)}:
            asked = [question.strip() for question in questions if isinstance(question, str) and question.strip()]
        case _:
            return "writer_no_fact"
    start = chunk.text.find(quote.strip())
    if not quote.strip() or start < 0:
        return "evidence_not_in_document"
    if not asked or not normalised(answer):
        return "writer_no_fact"
    evidence = evidence_in(chunk, start, start + len(quote.strip()))
    return Fact(
        phrasings=tuple(asked),
        answer=answer.strip(),
        evidence=evidence,
        quoted=sentence_with(evidence.quote, answer),
        origin="model",
    )
