"""What is asked and answered: prompts, sampling, steps, scores, and their rules."""

import hashlib
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from services.chassis.errors import InvalidInput, TooLarge
from services.generation.domain.adapters import Adapter

__all__ = [
    "Alternative",
    "Conversation",
    "EncodedPrompt",
    "Finish",
    "Prompt",
    "Sampling",
    "Score",
    "Started",
    "Step",
    "TokenLogprob",
    "Turn",
    "Work",
    "cache_salt",
    "check_window",
    "prompt_hash",
]

ROLES: Final = ("system", "user", "assistant", "tool")
MAX_N: Final = 8
MAX_STOPS: Final = 16
MAX_TOP_LOGPROBS: Final = 20
# Largest JSON Schema, characters: compiling a grammar costs time that grows with it.
MAX_SCHEMA_CHARS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidInput(f"role: {self.role!r} is not known; use {', '.join(ROLES)}.", param="messages.role")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, oldest first. An assistant turn in last place is continued, not answered."""

    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        if not self.turns:
            raise InvalidInput("messages: a conversation needs at least one turn.", param="messages")

    @property
    def continues(self) -> bool:
        """Whether the last turn is to be continued."""
        return self.turns[-1].role == "assistant"


# What the model reads: a conversation, raw text, or token ids.
Prompt = Conversation | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the model sees it; `text` is missing when token ids were given.

    `conversation` is kept for engines that read turns instead of tokens.
    """

    ids: tuple[int, ...]
    text: str | None = None
    conversation: Conversation | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; `max_tokens` 0 means whatever the context window leaves."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
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

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 0, 2)
        _within("top_p", self.top_p, 0, 1, open_below=True)
        _within("min_p", self.min_p, 0, 1)
        _within("frequency_penalty", self.frequency_penalty, -2, 2)
        _within("presence_penalty", self.presence_penalty, -2, 2)
        _within("repetition_penalty", self.repetition_penalty, 0, 100, open_below=True)
        _within("n", self.n, 1, MAX_N)
        _within("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        _within("top_k", self.top_k, 0, 1 << 20)
        if self.seed is not None:
            _within("seed", self.seed, 0, (1 << 63) - 1)
        if self.max_tokens and self.min_tokens > self.max_tokens:
            raise InvalidInput(
                f"min_tokens: {self.min_tokens} is more than max_tokens {self.max_tokens}.", param="min_tokens"
            )
        if len(self.stop) > MAX_STOPS or any(not text for text in self.stop):
            raise InvalidInput(f"stop: at most {MAX_STOPS} texts, none of them empty.", param="stop")
        if self.json_schema:
            _check_schema(self.json_schema)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One possible token at a position."""

    token: str
    token_bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A produced token with its natural-log probability and the likeliest alternatives, likeliest first."""

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple[Alternative, ...] = ()


class Finish(Enum):
    """Why a continuation ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Step:
    """What the engine produced at once for one continuation."""

    index: int
    text: str
    token_ids: Sequence[int]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """What is known of a generation before its first token."""

    model: str
    prompt_tokens: int
    prompt_hash: str


@dataclass(frozen=True, slots=True)
class Score:
    """Log probabilities of a continuation's tokens."""

    token_logprobs: tuple[float, ...]

    @property
    def logprob(self) -> float:
        """Their sum."""
        return math.fsum(self.token_logprobs)


@dataclass(frozen=True, slots=True)
class Work:
    """One generation as the engine gets it: `sampling.max_tokens` is set and fits the window."""

    prompt: EncodedPrompt
    sampling: Sampling
    salt: str
    adapter: Adapter | None = None
    trace: dict[str, str] = field(default_factory=dict)


def prompt_hash(ids: Sequence[int]) -> str:
    """Return the SHA-256 over token ids as little-endian uint32, hexadecimal.

    >>> prompt_hash([])[:8]
    'e3b0c442'
    """
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()


def cache_salt(tenant: str) -> str:
    """Return what keeps a tenant's prefix-cache entries apart from every other's."""
    return hashlib.sha256(f"corporate-brain/{tenant}".encode()).hexdigest()[:32]


def check_window(prompt_tokens: int, sampling: Sampling, window: int) -> int:
    """Return how many tokens may be produced.

    Raises:
        InvalidInput: The prompt is empty, or leaves no room in the context window.
    """
    if prompt_tokens == 0:
        raise InvalidInput("prompt: it is empty.", param="prompt")
    room = window - prompt_tokens
    if room < max(1, sampling.min_tokens):
        raise InvalidInput(
            f"prompt: {prompt_tokens} tokens leave no room for {max(1, sampling.min_tokens)} more in the context "
            f"window of {window}.",
            param="prompt",
        )
    return min(sampling.max_tokens or room, room)


def _within(name: str, value: float, low: float, high: float, *, open_below: bool = False) -> None:
    if not math.isfinite(value) or value > high or value < low or (open_below and value == low):
        least = f"above {low:g}" if open_below else f"from {low:g}"
        raise InvalidInput(f"{name}: {value:g} is not allowed; use a number {least} to {high:g}.", param=name)


def _check_schema(text: str) -> None:
    if len(text) > MAX_SCHEMA_CHARS:
        raise TooLarge(f"json_schema: {len(text)} characters are more than {MAX_SCHEMA_CHARS}.", param="json_schema")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"json_schema: it is not JSON ({error}).", param="json_schema") from error
    if not isinstance(schema, dict):
        raise InvalidInput("json_schema: it must be a JSON object.", param="json_schema")
