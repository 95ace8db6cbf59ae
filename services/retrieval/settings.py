"""What the retrieval room can be told (`BRAIN_RETRIEVAL_…`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, FilePath

from services.chassis.settings import EventSettings, room_config

__all__ = ["EmbedderSettings", "RetrievalSettings"]


@dataclass(frozen=True, slots=True)
class EmbedderSettings:
    """What the room is told of one embedder; `name` begins the names of its settings."""

    name: str
    url: str
    key_file: Path | None
    ca_file: Path | None
    query_prefix: str
    passage_prefix: str
    batch: int
    max_characters: int
    timeout_s: float


class RetrievalSettings(EventSettings):
    """Settings of the retrieval room; the search defaults were chosen by measurement (docs/decisions).

    Attributes:
        database_url: Table of active versions and access revisions, and the outbox.
        blobs_url: Where chunk sets and stored texts lie; shared with ingestion.
        index_url: `lancedb://FOLDER`, with one process that writes; or `weaviate://HOST[:PORT][?grpc=HOST:PORT]`
            (`weaviates://` for TLS; PORT is 8080 or 443, gRPC is at HOST:50051 where it does not say). Weaviate must
            index at once (leave its `ASYNC_INDEXING` off) and needs `BLOCKMAX_WAND_PER_SEGMENT_LIMIT=20000` in its
            environment: else keyword searches pass over chunks that were written lately (docs/decisions/0033).
        index_key_file: File with Weaviate's API key; read at the start. The key makes the collection and its tenants.
        index_ca_file: Authorities (PEM) that Weaviate's certificates must come from; none for those of the web.
        index_cert_file: Certificate (PEM) that is shown to Weaviate, where it asks for one.
        index_cert_key_file: Private key of that certificate; none where the same file holds it.
        index_collection: Name of the first collection in Weaviate, and how those of other embedders begin.
        index_replicas: Copies of each chunk in a collection that is made; not more than Weaviate has nodes.
        index_consistency: How many copies answer before a search or a write is done. With `ALL` every
            copy has answered a removal before its end is announced, and one lost node stops searching and writing.
        index_query_timeout_s: Seconds that one question to Weaviate may take.
        index_write_timeout_s: Seconds that one batch of writes to Weaviate may take.
        embedder_url: `minilm://` (the packaged model), or `openai://HOST[:PORT]/PATH?model=NAME[&dimensions=N]`
            (`openais://` for TLS): an endpoint of OpenAI's embeddings API, as TEI, vLLM and others serve it; PATH is what
            stands before `/embeddings`, mostly `v1`. Another one than the live index was made with: docs/embedders.md.
        embedder_key_file: File with the endpoint's bearer token; read at the start.
        embedder_ca_file: Authorities (PEM) that its certificate must come from; none for those of the web.
        embedder_query_prefix: What the model wants before each query, like `query: `.
        embedder_passage_prefix: What the model wants before each passage, like `passage: `.
        embedder_batch: Texts in one request.
        embedder_max_characters: Characters read of a text. Passages have about a thousand; an endpoint that refuses longer
            texts than its model reads, instead of cutting them, needs a smaller number here.
        embedder_timeout_s: Seconds that one request may take.
        next_embedder_url: The embedder that is to come, told to every process before `reembed` is run: they follow it
            when it is live. Empty for none. What belongs to it is set by `next_embedder_…` in the same way.
        alpha: Weight of the dense ranking where a search does not say.
        fusion: How the two rankings are joined where a search does not say.
        ranker: Reranker where a search does not say; `none`, `minilm-maxsim`, or `http`.
        candidates: Hits taken from each ranking: deep enough for fusion, shallow enough for a few milliseconds.
        rerank_candidates: Best fused hits that a reranker sees; the embedded one reads about ten a second.
        reranker_url: An HTTP `/rerank` endpoint of the Cohere or Jina shape; empty for none.
        reranker_model: Model name sent to it.
        reranker_key_file: File with its bearer token.
        ann_rows: Rows above which an approximate vector index is kept; below, brute force is exact and fast enough. In
            Weaviate: rows that pass a search's filter, as it is when the collection is made.
        index_batch_events: Document events read at a time; more than `index_batch_chunks` would hold back their commit.
        index_batch_chunks: Chunks embedded and written in one commit: some seconds of embedding, which bounds what
            a crash repeats and how long a short document waits behind others.
        max_waiting_texts: Texts that may wait for the embedder before callers are refused.
    """

    model_config = room_config("RETRIEVAL")

    database_url: str = "sqlite:///.brain/retrieval/room.db"
    blobs_url: str = "file://.brain/blobs"
    index_url: str = "lancedb://.brain/index"
    index_key_file: FilePath | None = None
    index_ca_file: FilePath | None = None
    index_cert_file: FilePath | None = None
    index_cert_key_file: FilePath | None = None
    index_collection: str = Field(default="BrainChunks", pattern=r"^[A-Z][_0-9A-Za-z]{0,230}$")
    index_replicas: int = Field(default=1, ge=1, le=99)
    index_consistency: Literal["ONE", "QUORUM", "ALL"] = "QUORUM"
    index_query_timeout_s: float = Field(default=10.0, gt=0, le=600)
    index_write_timeout_s: float = Field(default=60.0, gt=0, le=600)
    embedder_url: str = "minilm://"
    embedder_key_file: FilePath | None = None
    embedder_ca_file: FilePath | None = None
    embedder_query_prefix: str = ""
    embedder_passage_prefix: str = ""
    embedder_batch: int = Field(default=32, ge=1, le=2048)
    embedder_max_characters: int = Field(default=8_000, ge=100, le=1_000_000)
    embedder_timeout_s: float = Field(default=30.0, gt=0, le=600)
    next_embedder_url: str = ""
    next_embedder_key_file: FilePath | None = None
    next_embedder_ca_file: FilePath | None = None
    next_embedder_query_prefix: str = ""
    next_embedder_passage_prefix: str = ""
    next_embedder_batch: int = Field(default=32, ge=1, le=2048)
    next_embedder_max_characters: int = Field(default=8_000, ge=100, le=1_000_000)
    next_embedder_timeout_s: float = Field(default=30.0, gt=0, le=600)
    alpha: float = Field(default=0.5, ge=0, le=1)
    fusion: Literal["relative_score", "reciprocal_rank"] = "relative_score"
    ranker: str = "none"
    candidates: int = Field(default=100, ge=10, le=1000)
    rerank_candidates: int = Field(default=20, ge=1, le=200)
    reranker_url: str = ""
    reranker_model: str = ""
    reranker_key_file: Path | None = None
    ann_rows: int = Field(default=100_000, ge=256)
    index_batch_events: int = Field(default=256, ge=1, le=1000)
    index_batch_chunks: int = Field(default=256, ge=1, le=10_000)
    max_waiting_texts: int = Field(default=8192, ge=16)

    def embedders(self) -> tuple[EmbedderSettings, ...]:
        """Return what is said of the embedder, and of the next one where there is one."""
        names = ("embedder", "next_embedder") if self.next_embedder_url else ("embedder",)
        return tuple(
            EmbedderSettings(
                name=name,
                url=getattr(self, f"{name}_url"),
                key_file=getattr(self, f"{name}_key_file"),
                ca_file=getattr(self, f"{name}_ca_file"),
                query_prefix=getattr(self, f"{name}_query_prefix"),
                passage_prefix=getattr(self, f"{name}_passage_prefix"),
                batch=getattr(self, f"{name}_batch"),
                max_characters=getattr(self, f"{name}_max_characters"),
                timeout_s=getattr(self, f"{name}_timeout_s"),
            )
            for name in names
        )
