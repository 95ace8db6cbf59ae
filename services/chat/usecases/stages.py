"""How long each stage of a turn takes: a span, a metric and a line of the receipt from one place."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, Tracer

from services.chat.ports import Clock
from services.chat.telemetry import SPAN_STAGE, Metrics


class Stages:
    """The stages of one turn.

    Args:
        clock: The time.
        metrics: Where durations are counted.
        tracer: Where spans begin.
    """

    def __init__(self, *, clock: Clock, metrics: Metrics, tracer: Tracer) -> None:
        self._clock = clock
        self._metrics = metrics
        self._tracer = tracer
        self._began = clock.elapsed()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Span]:
        """Time the block as a stage; a stage that comes twice adds up."""
        began = self._clock.elapsed()
        with self._tracer.start_as_current_span(SPAN_STAGE.format(stage=name)) as span:
            try:
                yield span
            finally:
                self.took(name, self._clock.elapsed() - began)

    def took(self, name: str, seconds: float) -> None:
        """Count seconds for a stage."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        self._metrics.stage_duration.labels(stage=name).observe(seconds)

    def first_text(self) -> None:
        """Say that the reader gets text now; only the first time counts."""
        if "first_token" not in self._seconds:
            seconds = self._clock.elapsed() - self._began
            self.took("first_token", seconds)
            self._metrics.time_to_first_token.observe(seconds)

    @property
    def timings(self) -> tuple[tuple[str, float], ...]:
        """Seconds by stage, in the order in which the stages ended."""
        return tuple((name, round(seconds, 6)) for name, seconds in self._seconds.items())
