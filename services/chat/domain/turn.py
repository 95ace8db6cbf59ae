"""The words of one turn: what is asked, what is found, what is said."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.layout.turns import Locator, Message, Passage, Source

__all__ = [
    "Abstention",
    "Citation",
    "CitationMode",
    "Event",
    "Evidence",
    "FinishReason",
    "Grounding",
    "InlineDocument",
    "Locator",
    "Message",
    "Passage",
    "PassagesChosen",
    "QueriesMade",
    "Question",
    "RetrievalOptions",
    "RewriteMethod",
    "Sampling",
    "Source",
    "Step",
    "TextDelta",
    "TokenAlternative",
    "TokenLogprob",
    "TokenUsage",
    "TurnFinished",
    "TurnStarted",
]


class FinishReason(StrEnum):
    """Why production of an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


class CitationMode(StrEnum):
    """When citations are sent."""

    OFF = "off"
    FAST = "fast"
    ACCURATE = "accurate"


class Grounding(StrEnum):
    """What happens when nothing retrieved supports an answer."""

    STRICT = "strict"
    OPEN = "open"


class RewriteMethod(StrEnum):
    """How the search queries came about."""

    NONE = "none"
    SELF_CONTAINED = "self_contained"
    MODEL = "model"
    LEXICAL = "lexical"


class Abstention(StrEnum):
    """Why no answer was given."""

    NONE = "none"
    NOTHING_FOUND = "nothing_found"
    NOT_SUPPORTED = "not_supported"


@dataclass(frozen=True, slots=True)
class InlineDocument:
    """A document given with the request."""

    id: str
    title: str
    text: str
    data_json: str = ""


@dataclass(frozen=True, slots=True)
class RetrievalOptions:
    """How passages are sought; None and 0 leave the choice to the retrieval room."""

    collection_ids: tuple[str, ...] = ()
    filter_json: str = ""
    top_k: int = 0
    alpha: float | None = None
    ranker: str = ""
    score_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; None leaves the choice to the engine."""

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
class TokenUsage:
    """Token counts of one generation."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class TokenAlternative:
    """One alternative token at a position, with its natural-log probability."""

    token: str
    token_bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its natural-log probability and the most likely alternatives."""

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple[TokenAlternative, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Everything the engine produced in one step; `prompt_hash` and `model` stand in the first one."""

    index: int = 0
    text: str = ""
    logprobs: Sequence[TokenLogprob] = ()
    finish_reason: FinishReason | None = None
    usage: TokenUsage | None = None
    prompt_hash: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A stretch of a source that supports a stretch of the answer; `quote` is `stored_text[start:end]`."""

    source_number: int
    start: int
    end: int
    quote: str
    locator: Locator
    score: float


@dataclass(frozen=True, slots=True)
class Citation:
    """A supported stretch of the answer: `text` is `answer[start:end]`; best evidence first."""

    start: int
    end: int
    text: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One turn as it is asked: `messages` are the new ones, oldest first, ending in the user's."""

    messages: tuple[Message, ...]
    model: str = ""
    conversation_id: str = ""
    documents: tuple[InlineDocument, ...] = ()
    retrieval: RetrievalOptions = field(default_factory=RetrievalOptions)
    citation_mode: CitationMode | None = None
    grounding: Grounding | None = None
    sampling: Sampling = field(default_factory=Sampling)
    store: bool = False

    @property
    def grounded(self) -> bool:
        """Whether the answer is to come from documents."""
        return bool(self.documents or self.retrieval.collection_ids)

    @property
    def stored(self) -> bool:
        """Whether the turn goes into a conversation."""
        return self.store or bool(self.conversation_id)


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The turn began."""

    response_id: str
    conversation_id: str
    model: str


@dataclass(frozen=True, slots=True)
class QueriesMade:
    """The search queries were made."""

    queries: tuple[str, ...]
    method: RewriteMethod


@dataclass(frozen=True, slots=True)
class PassagesChosen:
    """Passages were found and chosen, in the order of the prompt."""

    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text was produced; `finish_reason` stands in the last one of an answer."""

    index: int
    text: str
    logprobs: Sequence[TokenLogprob] = ()
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """The turn ended; `timings` are seconds by stage."""

    finish_reason: FinishReason
    usage: TokenUsage
    receipt_id: str
    abstention: Abstention
    timings: tuple[tuple[str, float], ...]


Event = TurnStarted | QueriesMade | PassagesChosen | TextDelta | Citation | TurnFinished
"""One thing that happened in a turn."""
