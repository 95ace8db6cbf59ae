"""Metrics and span attributes of the generation room, by name (docs/telemetry/generation.md)."""

from collections.abc import Sequence
from typing import Final

from opentelemetry.trace import Span
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.generation.domain import Sampling, Started

__all__ = ["Metrics", "describe_end", "describe_start"]

_SECONDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What the room counts beside vLLM's own metrics, which the same endpoint shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.inflight = Gauge(
            "brain_generation_inflight_requests",
            "Continuations being produced or scored.",
            registry=registry,
        )
        self.refused = Counter(
            "brain_generation_refused_total",
            "Requests refused because the room was full.",
            registry=registry,
        )
        self.tokens = Counter(
            "brain_tokens_total",
            "Tokens read and produced; kind is prompt, cached or completion, model is base or adapter.",
            ["model", "kind"],
            registry=registry,
        )
        self.finished = Counter(
            "brain_generation_finished_total",
            "Generations by their end: stop, length, cancelled or error.",
            ["reason"],
            registry=registry,
        )
        self.first_token = Histogram(
            "brain_generation_time_to_first_token_seconds",
            "Seconds from admission to the first token.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.adapter_load = Histogram(
            "brain_adapter_load_seconds",
            "Seconds that a stage of serving an adapter took: files (fetched and inspected), load, compare.",
            ["stage"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.adapters = Gauge(
            "brain_generation_adapters",
            "Adapters by state: waiting, ready, refused, blocked or withheld.",
            ["state"],
            registry=registry,
        )
        self.adapter_refusals = Counter(
            "brain_adapter_refusals_total",
            "Adapters that this room does not serve, by the code of the reason.",
            ["reason"],
            registry=registry,
        )
        self.adapter_events = Counter(
            "brain_adapter_events_total",
            "Adapter events by what became of them: applied, stale, ignored or unreadable.",
            ["outcome"],
            registry=registry,
        )
        self.alias_resolutions = Counter(
            "brain_alias_resolutions_total",
            "Requests that named an alias, by who answers: target, canary, instead_of_canary or nobody.",
            ["outcome"],
            registry=registry,
        )
        self.serving = Gauge(
            "brain_generation_engine_serving",
            "Ratio: 1 while the engine makes progress, 0 while it is stuck.",
            registry=registry,
        )


def describe_start(span: Span, started: Started, sampling: Sampling, engine: str) -> None:
    """Put the OpenTelemetry attributes of a generative request on its span; no text."""
    span.set_attributes(
        {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": engine,
            "gen_ai.request.model": started.model,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.choice.count": sampling.n,
            "gen_ai.usage.input_tokens": started.prompt_tokens,
        }
    )


def describe_end(span: Span, completion_tokens: int, cached_tokens: int, reasons: Sequence[str]) -> None:
    """Put what came of the request on its span."""
    span.set_attributes(
        {
            "gen_ai.usage.output_tokens": completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": cached_tokens,
            "gen_ai.response.finish_reasons": list(reasons),
        }
    )
