"""Why didn't you find it? The way of a document to an answer, followed step by step until it ends."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.asking import Receipt
from gateway.domain.explaining import Verdict, Why, WhyQuestion, from_explanation, from_receipt, from_state
from gateway.domain.finding import SearchSpec
from gateway.domain.keeping import Document, Paging
from gateway.ports import Chat, Ingestion, Retrieval
from services.chassis.auth import EVERYONE, Caller
from services.chassis.errors import InvalidInput, NotFound, PermissionDenied

__all__ = ["ExplainMissing"]

_DOCUMENT_PREFIX = "doc_"
# Collections looked through for a name when none is given, and documents of that name shown beside the best match.
_MAX_COLLECTIONS = 100
_MAX_MATCHES = 10
_USUAL_TOP_K = 10
_UNKNOWN = "No document of this id or name was ever brought here, or you may not know of it."


class ExplainMissing:
    """Follows a document: ingested? readable? permitted? found? in the prompt? cited?

    A document that the caller may not read is to them as one that does not exist. Only an administrator, who sees all
    documents of the tenant, may ask on behalf of somebody else and then hears of missing permission.
    """

    def __init__(self, *, ingestion: Ingestion, retrieval: Retrieval, chat: Chat) -> None:
        self._ingestion = ingestion
        self._retrieval = retrieval
        self._chat = chat

    async def __call__(self, caller: Caller, asked: WhyQuestion) -> Why:
        """Return where the document's way ended.

        Raises:
            InvalidInput: Neither a question nor a receipt is given.
            NotFound: The receipt or a collection is not the caller's to know.
            PermissionDenied: Somebody who is no administrator asks for somebody else.
        """
        if asked.principals and not caller.is_administrator:
            raise PermissionDenied("Only administrators may ask on behalf of somebody else.", param="principals")
        if not asked.question.strip() and not asked.receipt_id:
            raise InvalidInput("Give the question that was asked, or the receipt of its answer.", param="question")
        receipt = await self._chat.get_receipt(asked.receipt_id) if asked.receipt_id else None
        queries = _queries(asked, receipt)
        collections = asked.collection_ids or (receipt.collection_ids if receipt else ())
        matches = await self._find(asked.document, collections)
        if not matches:
            return Why(Verdict.NEVER_INGESTED, _UNKNOWN, queries=queries)
        document, others = matches[0], tuple(matches[1:])
        known = Why(Verdict.FOUND, "", document=document, queries=queries, other_matches=others)
        if (stopped := from_state(document)) is not None:
            return replace(known, verdict=stopped[0], sentence=stopped[1])
        if asked.principals and not _may_read(document, asked.principals):
            return replace(
                known,
                verdict=Verdict.NO_PERMISSION,
                sentence=f"The access list of the document names none of {', '.join(asked.principals)}.",
            )
        if receipt is not None and (used := from_receipt(receipt, document.id)) is not None:
            return replace(known, verdict=used[0], sentence=used[1], in_receipt=used[2])
        spec = SearchSpec(
            queries=queries,
            collection_ids=tuple(collections) or (document.collection_id,),
            filter_json=asked.filter_json,
            top_k=asked.top_k or _USUAL_TOP_K,
        )
        explanation = await self._retrieval.explain(spec, document.id)
        verdict, sentence = from_explanation(explanation)
        return replace(known, verdict=verdict, sentence=sentence, explanation=explanation)

    async def _find(self, name: str, collections: Sequence[str]) -> list[Document]:
        """Return the documents that `name` may mean, the likeliest first."""
        if name.startswith(_DOCUMENT_PREFIX):
            try:
                return [await self._ingestion.get_document(name)]
            except NotFound:
                return []
        if not collections:
            page = await self._ingestion.list_collections(Paging(limit=_MAX_COLLECTIONS))
            collections = [collection.id for collection in page.items]
        found: list[Document] = []
        for collection in collections:
            paging = Paging(limit=_MAX_MATCHES)
            found += (await self._ingestion.list_documents(collection, paging, name_contains=name)).items
        wanted = name.casefold()
        found.sort(key=lambda document: wanted not in {text.casefold() for text in (document.filename, document.title)})
        return found[:_MAX_MATCHES]


def _queries(asked: WhyQuestion, receipt: Receipt | None) -> tuple[str, ...]:
    """Return what was searched for: the receipt knows it best."""
    if receipt is not None and receipt.queries.queries:
        return receipt.queries.queries
    return (asked.question.strip() or (receipt.question if receipt else ""),)


def _may_read(document: Document, principals: Sequence[str]) -> bool:
    allowed = {*document.principals, f"user:{document.owner}", document.owner}
    return not allowed.isdisjoint({*principals, EVERYONE})
