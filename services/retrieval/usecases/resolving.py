"""Stored text for the spans of citations and receipts, under the reader's rights."""

from collections.abc import Sequence

from services.chassis.errors import NotFound
from services.retrieval.domain import Reader, ResolvedSpan, Span
from services.retrieval.ports import Register, Texts

__all__ = ["ResolveSpans"]


class ResolveSpans:
    """Reads spans out of stored texts.

    Args:
        register: Who may read which document, and where its texts lie.
        texts: The stored texts.
    """

    def __init__(self, *, register: Register, texts: Texts) -> None:
        self._register = register
        self._texts = texts

    async def run(self, reader: Reader, spans: Sequence[Span]) -> list[ResolvedSpan]:
        """Return one entry for each span; withheld, removed, foreign and unknown ones are all just not available.

        Raises:
            Unavailable: The database or the blob store is away.
        """
        states = await self._register.look_up(reader.tenant, list({span.document_id for span in spans}))
        readable = {
            document: state
            for document, state in states.items()
            if state.is_searchable and reader.may_read(state.principals)
        }
        pairs = list({(span.document_id, span.version) for span in spans if span.document_id in readable})
        versions = await self._register.versions(reader.tenant, pairs)
        texts: dict[str, str] = {}
        for version in versions.values():
            try:
                texts[version.text_blob_key] = (await self._texts.get(version.text_blob_key)).decode()
            except NotFound:
                # An old version whose text was let go.
                continue
        found = []
        for span in spans:
            version_of = versions.get((span.document_id, span.version))
            text = None if version_of is None else texts.get(version_of.text_blob_key)
            if version_of is None or text is None or not span.start <= span.end <= len(text):
                found.append(ResolvedSpan())
                continue
            found.append(
                ResolvedSpan(
                    available=True,
                    text=text[span.start : span.end],
                    filename=version_of.filename,
                    title=version_of.title,
                    current=readable[span.document_id].active_version == span.version,
                )
            )
        return found
