"""Words of `brain.types.v1` and of protobuf that more than one room's language uses."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from brain.types.v1 import locator_pb2, sampling_pb2
from gateway.domain.asking import DEFAULT_MODEL, Finish, Locator, Message, Sampling, TokenLogprob, TokenUsage

__all__ = [
    "FINISH",
    "READ_TIMEOUT_S",
    "WORK_TIMEOUT_S",
    "locator",
    "logprobs",
    "messages",
    "model_name",
    "moment",
    "moment_or_none",
    "sampling_from",
    "sampling_to",
    "usage",
]

# Looking something up, or one search: far more than it takes, far less than people wait.
READ_TIMEOUT_S: Final = 30.0
# Embedding thousands of texts, writing through to several stores.
WORK_TIMEOUT_S: Final = 120.0

FINISH: Final[dict[int, Finish | None]] = {
    sampling_pb2.FINISH_REASON_UNSPECIFIED: None,
    sampling_pb2.FINISH_REASON_STOP: Finish.STOP,
    sampling_pb2.FINISH_REASON_LENGTH: Finish.LENGTH,
    sampling_pb2.FINISH_REASON_CANCELLED: Finish.CANCELLED,
    sampling_pb2.FINISH_REASON_ERROR: Finish.ERROR,
}
_OPTIONAL: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "seed",
)
_PLAIN: Final = (
    "max_tokens",
    "min_tokens",
    "n",
    "logprobs",
    "top_logprobs",
    "json_schema",
    "json_object",
    "ignore_eos",
)


def moment(stamp: Timestamp) -> datetime:
    """Return a time."""
    return stamp.ToDatetime(tzinfo=UTC)


def moment_or_none(stamp: Timestamp) -> datetime | None:
    """Return a time, or None for one that was not set."""
    return moment(stamp) if stamp.seconds or stamp.nanos else None


def model_name(asked: str) -> str:
    """Return the name that the rooms know: empty is the base model."""
    return "" if asked == DEFAULT_MODEL else asked


def locator(value: locator_pb2.Locator) -> Locator:
    """Return where a piece of text stands."""
    return Locator(value.page_first, value.page_last, tuple(value.heading_path), value.part)


def usage(value: sampling_pb2.TokenUsage) -> TokenUsage:
    """Return token counts."""
    return TokenUsage(value.prompt_tokens, value.cached_tokens, value.completion_tokens)


def logprobs(values: Iterable[sampling_pb2.TokenLogprob]) -> tuple[TokenLogprob, ...]:
    """Return tokens with their log probabilities."""
    return tuple(
        TokenLogprob(
            token.token,
            token.token_bytes,
            token.logprob,
            tuple(TokenLogprob(other.token, other.token_bytes, other.logprob) for other in token.top),
        )
        for token in values
    )


def messages(values: Iterable[Message]) -> list[sampling_pb2.Message]:
    """Return turns for the wire."""
    return [sampling_pb2.Message(role=value.role, content=value.content) for value in values]


def sampling_to(value: Sampling) -> sampling_pb2.Sampling:
    """Return how tokens are drawn, for the wire."""
    sampling = sampling_pb2.Sampling(stop=value.stop, **{name: getattr(value, name) for name in _PLAIN})
    for name in _OPTIONAL:
        if (given := getattr(value, name)) is not None:
            setattr(sampling, name, given)
    return sampling


def sampling_from(value: sampling_pb2.Sampling) -> Sampling:
    """Return how tokens were drawn."""
    return Sampling(
        stop=tuple(value.stop),
        **{name: getattr(value, name) for name in _PLAIN},
        **{name: getattr(value, name) if value.HasField(name) else None for name in _OPTIONAL},  # type: ignore[arg-type]
    )
