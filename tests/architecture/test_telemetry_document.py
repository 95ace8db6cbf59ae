"""Every metric that the code makes stands in docs/telemetry, and no other."""

import importlib
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.chassis.rpc.interceptors import RpcMetrics

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROOMS = {
    "gateway": "gateway.telemetry",
    "chat": "services.chat.telemetry",
    "retrieval": "services.retrieval.telemetry",
    "generation": "services.generation.telemetry",
    "ingestion": "services.ingestion.telemetry",
}


def names(registry: CollectorRegistry) -> set[str]:
    """Return the names as Prometheus shows them: counters end in _total."""
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}


def documented(page: Path) -> set[str]:
    return set(re.findall(r"^\| `(brain_\w+)`", page.read_text(), re.MULTILINE))


@pytest.mark.parametrize("room", ROOMS)
def test_a_rooms_metrics_are_its_pages_rows(room: str) -> None:
    registry = CollectorRegistry()
    importlib.import_module(ROOMS[room]).Metrics(registry)
    assert names(registry) == documented(DOCS / "telemetry" / f"{room}.md")


def test_the_chassis_metrics_are_the_common_pages_rows() -> None:
    registry = CollectorRegistry()
    RpcMetrics(registry)
    assert names(registry) | {"brain_build_info"} == documented(DOCS / "telemetry.md")


@pytest.mark.parametrize("room", ROOMS)
def test_labels_name_no_person_and_no_document(room: str) -> None:
    registry = CollectorRegistry()
    importlib.import_module(ROOMS[room]).Metrics(registry)
    for collector in set(registry._names_to_collectors.values()):
        assert not {"user", "subject", "document", "document_id", "file_id", "key", "collection"} & set(
            getattr(collector, "_labelnames", ())
        )
