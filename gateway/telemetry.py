"""What the gateway counts and measures, by name; docs/telemetry/gateway.md says the same."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["SPAN_PREFIX", "Metrics"]

# A request's span is called `HTTP <method> <route>`.
SPAN_PREFIX = "HTTP "
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The gateway's metrics. Labels are bounded: routes are templates, models those that the engine serves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "brain_http_request_duration_seconds",
            "Seconds from the arrival of a request to the last byte of its answer.",
            ["route", "method", "status"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.first_frame_seconds = Histogram(
            "brain_http_first_frame_seconds",
            "Seconds from the arrival of a request to the first frame of its streamed answer.",
            ["route"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.inflight = Gauge(
            "brain_http_inflight_requests", "Requests being answered at the moment.", registry=registry
        )
        self.denied = Counter(
            "brain_authz_denied_total", "Requests refused before they reached a handler.", ["reason"], registry=registry
        )
        self.limited = Counter(
            "brain_http_limited_total", "Requests refused for a limit.", ["reason"], registry=registry
        )
        self.limits_alone = Counter(
            "brain_http_limits_alone_total",
            "Steps of limits that this gateway counted for itself, as what all share was away.",
            registry=registry,
        )
        self.streams_cut = Counter(
            "brain_http_streams_cut_total",
            "Streams that ended before their last frame: the reader left or stalled, or something failed.",
            ["reason"],
            registry=registry,
        )
        self.replayed = Counter(
            "brain_http_replayed_total", "Answers repeated for an Idempotency-Key.", registry=registry
        )
        self.tokens = Counter("brain_tokens_total", "Tokens used.", ["tenant", "model", "kind"], registry=registry)
