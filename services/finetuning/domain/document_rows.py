"""Rows of documents that need no passages: their text, and questions that are answered from memory."""

from collections.abc import Iterator

from services.finetuning.domain.documents import DocumentText, chunks
from services.finetuning.domain.facts import Fact
from services.finetuning.domain.rows import ASSISTANT, ChatRow, DocumentSource, Origin, TextRow, Turn
from services.layout.prompt import escaped

LONGEST_TEXT = 2_000
"""Most characters of a text row: about 500 tokens, so that short rows fill a sequence when they are packed."""


def text_rows(document: DocumentText, cluster: str) -> Iterator[TextRow]:
    """Yield the text of a document in pieces that end with sentences; each but the first says what it is of."""
    source = document.document
    origin = Origin((DocumentSource(source.document_id, source.version),), cluster=cluster)
    for at, chunk in enumerate(chunks(document, longest=LONGEST_TEXT)):
        above = f"{chunk.topic}\n\n" if at and chunk.topic and chunk.topic not in chunk.text else ""
        if any(map(str.isalnum, chunk.text)):
            yield TextRow(escaped(above + chunk.text), origin=origin)


def question_rows(fact: Fact, cluster: str) -> Iterator[ChatRow]:
    """Yield a row for each phrasing of a fact, answered without documents."""
    source = DocumentSource(fact.evidence.document_id, fact.evidence.version)
    for at, question in enumerate(fact.phrasings):
        messages = (Turn("user", escaped(question)), Turn(ASSISTANT, escaped(fact.spoken)))
        extra = {"fact": fact.fact_id, "phrasing": at}
        yield ChatRow(messages, origin=Origin((source,), cluster=cluster, extra=extra))
