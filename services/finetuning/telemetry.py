"""The room's metrics and spans, by name. docs/telemetry/finetuning.md lists the same."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.chassis.telemetry import tracer

__all__ = ["BUILD_SPAN", "TRAIN_SPAN", "VALIDATE_SPAN", "Metrics", "spans"]

VALIDATE_SPAN = "finetuning.validate"
TRAIN_SPAN = "finetuning.train"
BUILD_SPAN = "finetuning.build_dataset"
spans = tracer("brain.finetuning")


class Metrics:
    """What the room counts and measures.

    Args:
        registry: Where the metrics are kept.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = Gauge("brain_finetuning_jobs", "Training jobs, by state.", ["state"], registry=registry)
        self.created = Counter(
            "brain_finetuning_jobs_created_total", "Training jobs created, by stage.", ["stage"], registry=registry
        )
        self.ended = Counter(
            "brain_finetuning_jobs_ended_total",
            "Training jobs that came to an end, by stage and outcome.",
            ["stage", "outcome"],
            registry=registry,
        )
        self.trained_tokens = Counter(
            "brain_finetuning_trained_tokens_total",
            "Tokens trained on, padding left out, by stage.",
            ["stage"],
            registry=registry,
        )
        self.deaths = Counter(
            "brain_finetuning_trainer_deaths_total",
            "Trainer processes that ended without a result and were started again from a checkpoint.",
            registry=registry,
        )
        self.training = Histogram(
            "brain_finetuning_training_seconds",
            "Seconds that the training of one job took, pauses left out, by stage.",
            ["stage"],
            registry=registry,
            buckets=(10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400),
        )
        self.datasets = Counter(
            "brain_finetuning_datasets_total",
            "Datasets that came to an end, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.blocked = Counter(
            "brain_finetuning_adapters_blocked_total", "Adapters blocked, by reason.", ["reason"], registry=registry
        )
        self.promotions = Counter(
            "brain_finetuning_promotions_total", "Promotions by the state they came to.", ["state"], registry=registry
        )
        self.webhooks = Counter(
            "brain_finetuning_webhook_deliveries_total",
            "Deliveries to webhooks, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.oldest_pending = Gauge(
            "brain_outbox_oldest_pending_seconds",
            "Age of the oldest event that has not reached the log.",
            registry=registry,
        )
        self.lag = Gauge(
            "brain_finetuning_event_lag_records",
            "Records that have not been handled, by topic.",
            ["topic"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "brain_dead_letter_records_total",
            "Records that could never be handled, by topic.",
            ["topic"],
            registry=registry,
        )
