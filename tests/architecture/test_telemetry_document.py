"""Every metric that the code makes stands in docs/telemetry, and no other."""

import importlib

import pytest
from prometheus_client import CollectorRegistry

from services.chassis.rpc.interceptors import RpcMetrics
from tests.telemetry_pages import DOCS, Metric, metrics

ROOMS = {
    "gateway": "gateway.telemetry",
    "chat": "services.chat.telemetry",
    "retrieval": "services.retrieval.telemetry",
    "generation": "services.generation.telemetry",
    "ingestion": "services.ingestion.telemetry",
    "finetuning": "services.finetuning.telemetry",
}


def made(registry: CollectorRegistry) -> set[Metric]:
    """Return the metrics as Prometheus shows them: counters end in _total."""
    return {
        Metric(
            f"{family.name}_total" if family.type == "counter" else family.name,
            family.type,
            tuple(getattr(registry._names_to_collectors[family.name], "_labelnames", ())),
        )
        for family in registry.collect()
    }


@pytest.mark.parametrize("room", ROOMS)
def test_a_rooms_metrics_are_its_pages_rows(room: str) -> None:
    registry = CollectorRegistry()
    importlib.import_module(ROOMS[room]).Metrics(registry)
    assert made(registry) == metrics(DOCS / "telemetry" / f"{room}.md")


def test_the_chassis_metrics_are_the_common_pages_rows() -> None:
    registry = CollectorRegistry()
    RpcMetrics(registry)
    information = Metric("brain_build_info", "info", ("version", "room"))
    # Made anew at each look, from the files that a room's settings name.
    ends = Metric("brain_certificate_end_timestamp_seconds", "gauge", ("setting",))
    assert made(registry) | {information, ends} == metrics(DOCS / "telemetry.md")


@pytest.mark.parametrize("room", ROOMS)
def test_labels_name_no_person_and_no_document(room: str) -> None:
    registry = CollectorRegistry()
    importlib.import_module(ROOMS[room]).Metrics(registry)
    for collector in set(registry._names_to_collectors.values()):
        assert not {"user", "subject", "document", "document_id", "file_id", "key", "collection"} & set(
            getattr(collector, "_labelnames", ())
        )
