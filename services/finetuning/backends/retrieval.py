"""The retrieval room as what finds passages: the same index, ranking and scores that chat uses."""

from collections.abc import Callable, Sequence
from typing import Final

import grpc

from brain.retrieval.v1 import rerank_pb2, rerank_pb2_grpc, search_pb2, search_pb2_grpc
from services.chassis.errors import DeadlineExceeded, Unavailable
from services.chassis.rpc.client import remote
from services.layout.turns import Locator, Passage

IDEMPOTENT = (
    "brain.retrieval.v1.SearchService/Search",
    "brain.retrieval.v1.RerankService/Rerank",
)
"""Methods that may be tried again: none of them changes anything."""

_ROOM: Final = "retrieval"
# The score by which chat chooses the nearest stretch.
_LEAST_MET: Final = "minilm-maxsim-weakest"
_MOST_PASSAGES: Final = 50


class RemotePassages:
    """Passages over gRPC under the caller's rights.

    Args:
        channel: Channel to the retrieval room; the caller closes it.
        timeout_s: Longest wait for an answer.
        token: Gives the token of each call; None takes that of the request being served.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float, token: Callable[[], str] | None = None) -> None:
        self._search = search_pb2_grpc.SearchServiceStub(channel)
        self._reranking = rerank_pb2_grpc.RerankServiceStub(channel)
        self._timeout_s = timeout_s
        self._token = token

    async def search(self, query: str, *, collection_ids: Sequence[str], top_k: int) -> list[Passage]:
        """Return the best passages, best first; an index that does not answer in time is away."""
        spec = search_pb2.SearchSpec(queries=[query], collection_ids=collection_ids, top_k=min(top_k, _MOST_PASSAGES))
        try:
            with remote(_ROOM, "Search", token=self._token() if self._token else None) as metadata:
                answer = await self._search.Search(
                    search_pb2.SearchRequest(spec=spec), timeout=self._timeout_s, metadata=metadata
                )
        except DeadlineExceeded as error:
            raise Unavailable("The retrieval service did not answer in time.", retry_after_s=1.0) from error
        return [_passage(passage) for passage in answer.passages]

    async def least_met(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return the scores in the order of the texts."""
        request = rerank_pb2.RerankRequest(query=question, texts=texts, ranker=_LEAST_MET)
        with remote(_ROOM, "Rerank", token=self._token() if self._token else None) as metadata:
            answer = await self._reranking.Rerank(request, timeout=self._timeout_s, metadata=metadata)
        scores = {result.index: result.score for result in answer.results}
        return [scores.get(at, 0.0) for at in range(len(texts))]


def _passage(passage: search_pb2.Passage) -> Passage:
    place = passage.locator
    return Passage(
        document_id=passage.document_id,
        version=passage.version,
        start=passage.start,
        end=passage.end,
        text=passage.text,
        title=passage.title,
        filename=passage.filename,
        collection_id=passage.collection_id,
        file_id=passage.file_id,
        locator=Locator(place.page_first, place.page_last, tuple(place.heading_path), place.part),
        score=passage.score,
        similarity=passage.similarity,
    )
