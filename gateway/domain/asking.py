"""Asking: turns, how tokens are drawn, and what happens while an answer is made."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Final, Literal

__all__ = [
    "DEFAULT_MODEL",
    "Abstention",
    "AnswerEvent",
    "ChatTurn",
    "CitationMade",
    "CitationMode",
    "Completion",
    "Conversation",
    "Evidence",
    "Finish",
    "Grounding",
    "InlineDocument",
    "Locator",
    "Message",
    "Model",
    "PassagesChosen",
    "Prompt",
    "QueriesMade",
    "Receipt",
    "ReceiptSource",
    "Replay",
    "RetrievalOptions",
    "RewriteMethod",
    "Sampling",
    "Source",
    "StoredTurn",
    "TextMade",
    "TokenLogprob",
    "TokenUsage",
    "Tokens",
    "TurnFinished",
    "TurnStarted",
]

# How the search queries of a turn came about.
RewriteMethod = Literal["none", "self_contained", "model", "lexical"]

# By this name callers ask for the base model, whatever it is.
DEFAULT_MODEL: Final = "default"


class Finish(Enum):
    """Why production ended."""

    STOP = auto()
    LENGTH = auto()
    CANCELLED = auto()
    ERROR = auto()


class CitationMode(Enum):
    """When citations are sent; DEFAULT leaves it to the chat room."""

    DEFAULT = auto()
    OFF = auto()
    FAST = auto()
    ACCURATE = auto()


class Grounding(Enum):
    """What happens when nothing retrieved supports an answer; DEFAULT leaves it to the chat room."""

    DEFAULT = auto()
    STRICT = auto()
    OPEN = auto()


class Abstention(Enum):
    """Why no answer was given; NONE when one was."""

    NONE = auto()
    NOTHING_FOUND = auto()
    NOT_SUPPORTED = auto()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. None and 0 take the engine's defaults."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int = 0
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0
    json_schema: str = ""
    json_object: bool = False
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class InlineDocument:
    """A document given with the request; `data_json` is handed back in citations."""

    text: str
    id: str = ""
    title: str = ""
    data_json: str = ""


@dataclass(frozen=True, slots=True)
class RetrievalOptions:
    """How passages are sought. None, 0 and empty take the retrieval room's settings."""

    collection_ids: tuple[str, ...] = ()
    filter_json: str = ""
    top_k: int = 0
    alpha: float | None = None
    ranker: str = ""
    score_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One turn to answer. With `conversation_id`, `messages` are the new turns only."""

    messages: tuple[Message, ...]
    model: str = ""
    conversation_id: str = ""
    documents: tuple[InlineDocument, ...] = ()
    retrieval: RetrievalOptions = field(default_factory=RetrievalOptions)
    citation_mode: CitationMode = CitationMode.DEFAULT
    grounding: Grounding = Grounding.DEFAULT
    sampling: Sampling = field(default_factory=Sampling)
    store: bool = False

    @property
    def is_grounded(self) -> bool:
        """Whether the answer is to come from documents."""
        return bool(self.documents or self.retrieval.collection_ids)


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a piece of text stands in its source; page 0 where there are no pages."""

    page_first: int = 0
    page_last: int = 0
    heading_path: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its natural-log probability and the likeliest alternatives (each without alternatives)."""

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Token counts of one generation."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The turn began; `conversation_id` is empty when it is not stored."""

    response_id: str
    conversation_id: str
    model: str


@dataclass(frozen=True, slots=True)
class QueriesMade:
    """The search queries, and how they came about."""

    queries: tuple[str, ...]
    method: RewriteMethod


@dataclass(frozen=True, slots=True)
class Source:
    """A passage or inline document that citations point to by `number`, from 1. Version 0: inline."""

    number: int
    document_id: str
    version: int
    collection_id: str
    file_id: str
    filename: str
    title: str
    locator: Locator
    start: int
    end: int
    text: str
    score: float
    data_json: str


@dataclass(frozen=True, slots=True)
class PassagesChosen:
    """The sources of the prompt, in its order."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class TextMade:
    """New text of answer `index`; `finish` is set in an answer's last."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A stretch of a source: `quote == stored_text[quote_start:quote_end]`, in code points."""

    source_number: int
    quote_start: int
    quote_end: int
    quote: str
    locator: Locator
    score: float


@dataclass(frozen=True, slots=True)
class CitationMade:
    """A supported stretch of the answer: `text == answer[start:end]`, in code points; best evidence first."""

    start: int
    end: int
    text: str
    evidence: tuple[Evidence, ...]

    @property
    def best(self) -> tuple[Evidence, ...]:
        """Each source's best evidence, best first."""
        found: dict[int, Evidence] = {}
        for one in self.evidence:
            found.setdefault(one.source_number, one)
        return tuple(found.values())


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """The turn ended; `receipt_id` is empty when it was neither grounded nor stored."""

    finish: Finish
    usage: TokenUsage
    receipt_id: str = ""
    abstention: Abstention = Abstention.NONE
    timings: tuple[tuple[str, float], ...] = ()


AnswerEvent = TurnStarted | QueriesMade | PassagesChosen | TextMade | CitationMade | TurnFinished


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One stored turn; `receipt_id` is set on answers only."""

    role: str
    content: str
    receipt_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """A stored conversation; `turns` is empty in lists."""

    id: str
    created_at: datetime
    updated_at: datetime
    title: str
    turns: tuple[StoredTurn, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiptSource:
    """A retrieved passage in a receipt, as the reader may see it today."""

    source: Source
    available: bool
    current: bool
    in_prompt: bool
    cited: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of how one answer came about; `asked_model` is who was asked for, `model` who answered."""

    id: str
    response_id: str
    conversation_id: str
    created_at: datetime
    model: str
    question: str
    answer: str
    queries: QueriesMade
    sources: tuple[ReceiptSource, ...]
    citations: tuple[CitationMade, ...]
    prompt_hash: str
    prompt_version: str
    sampling: Sampling
    usage: TokenUsage
    abstention: Abstention
    timings: tuple[tuple[str, float], ...]
    trimmed: tuple[str, ...]
    collection_ids: tuple[str, ...]
    support: float
    asked_model: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """What asking again from a receipt gave."""

    answer: str
    prompt_hash: str
    same_prompt: bool
    same_answer: bool
    difference: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked; `parent` is empty for the base model itself, and what an alias leads to."""

    name: str
    created_at: datetime
    parent: str
    context_window: int
    engine: str
    alias: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """A raw prompt: text, or token ids where they are given."""

    text: str = ""
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine produced in one step of a raw completion; `usage` in the first and the last of an answer."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    usage: TokenUsage | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of texts, in their order, and the model's context window."""

    sequences: tuple[tuple[int, ...], ...]
    context_window: int
