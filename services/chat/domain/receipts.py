"""The record of how one answer came about: offsets and digests, never document text."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.chat.domain.turn import Abstention, Message, RewriteMethod, Sampling, TokenUsage


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a document version by character offsets."""

    document_id: str
    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ResolvedSpan:
    """The text of a span as the reader may see it today; empty when it is not available."""

    available: bool
    text: str = ""
    filename: str = ""
    title: str = ""
    current: bool = False


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A retrieved passage without its text: `number` is its place in the prompt, 0 when the budget left it out.

    Headings and names are document text and are not kept; pages are. `digest` is that of an inline passage's text.
    """

    number: int
    span: Span
    collection_id: str
    file_id: str
    page_first: int
    page_last: int
    score: float
    cited: bool
    digest: str = ""

    @property
    def inline(self) -> bool:
        """Whether the text came with the request and is gone."""
        return self.span.version == 0


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """A quote without its text."""

    source_number: int
    start: int
    end: int
    page_first: int
    page_last: int
    score: float


@dataclass(frozen=True, slots=True)
class CitationRecord:
    """A citation without its texts: offsets in the answer, and quotes by offsets."""

    start: int
    end: int
    evidence: tuple[EvidenceRecord, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one answer came about; `standalone` is the question as the prompt asked it, `excerpts` what stood before it.

    `model` is who answered, `asked_model` who was asked for (an alias, an adapter or a base model).
    """

    id: str
    response_id: str
    conversation_id: str
    tenant: str
    owner: str
    created_at: datetime
    model: str
    instructions: str
    history: tuple[Message, ...]
    question: str
    standalone: str
    answer: str
    queries: tuple[str, ...]
    method: RewriteMethod
    sources: tuple[SourceRecord, ...]
    citations: tuple[CitationRecord, ...]
    prompt_hash: str
    prompt_version: str
    grounded: bool
    strict: bool
    sampling: Sampling
    usage: TokenUsage
    abstention: Abstention
    timings: Mapping[str, float]
    trimmed: tuple[str, ...]
    collection_ids: tuple[str, ...]
    support: float
    excerpts: tuple[Span, ...] = ()
    asked_model: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedReceipt:
    """A receipt with the texts that the reader may see today, one for each source in the same order."""

    receipt: Receipt
    texts: tuple[ResolvedSpan, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay gave."""

    answer: str
    prompt_hash: str
    same_prompt: bool
    same_answer: bool
    difference: str


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One stored turn of a conversation."""

    role: str
    content: str
    receipt_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """A stored conversation; `turns` is empty in lists."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    turns: tuple[StoredTurn, ...] = ()
