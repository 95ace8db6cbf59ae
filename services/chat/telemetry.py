"""The chat room's metrics and span attributes, by name; described in docs/telemetry/chat.md."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SPAN_TURN = "chat.turn"
SPAN_SAMPLE = "chat.sample"
SPAN_STAGE = "chat.{stage}"
"""One span for each stage: rewrite, retrieve, prompt, generate, cite."""

GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_MODEL = "gen_ai.request.model"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
GEN_AI_CONVERSATION = "gen_ai.conversation.id"
GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
CHAT_PASSAGES = "brain.chat.passages"
CHAT_SUPPORT = "brain.chat.support"
CHAT_REWRITE = "brain.chat.rewrite_method"
CHAT_ABSTENTION = "brain.chat.abstention"
CHAT_CITATIONS = "brain.chat.citations"

# From a warm cache on a GPU to a long prompt on a shared CPU.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The room's metrics.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.time_to_first_token = Histogram(
            "brain_chat_time_to_first_token_seconds",
            "From the request to the first text of the answer.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.stage_duration = Histogram(
            "brain_chat_stage_duration_seconds",
            "Time spent in a stage of a turn.",
            ["stage"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.citations = Counter(
            "brain_citations_total",
            "Stretches of grounded answers, by whether a source supports them.",
            ["outcome"],
            registry=registry,
        )
        self.abstentions = Counter(
            "brain_abstentions_total",
            "Grounded turns that ended without an answer, by reason.",
            ["reason"],
            registry=registry,
        )
        self.feedback = Counter(
            "brain_feedback_total",
            "Judgements of answers that were kept, by kind; one that takes the place of an earlier one counts again.",
            ["kind"],
            registry=registry,
        )
        self.feedback_withdrawn = Counter(
            "brain_feedback_withdrawn_total",
            "Judgements that were taken back, or that went with a comparison.",
            registry=registry,
        )
        self.exported = Counter(
            "brain_feedback_exported_total",
            "Judgements that exports held, or left out, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.comparisons = Counter(
            "brain_comparisons_total",
            "Comparisons that were sampled.",
            registry=registry,
        )
        self.oldest_pending = Gauge(
            "brain_outbox_oldest_pending_seconds",
            "Age of the oldest event that has not reached the log.",
            registry=registry,
        )
