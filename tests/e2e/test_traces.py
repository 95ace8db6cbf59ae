"""What is seen from outside: traces through every room and the event log, metrics, logs, and that all is documented."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.local.plan import ROOMS
from tests.running_stack import RunningStack, indexed, new_collection, running_stack, upload
from tests.telemetry_pages import DOCS, metrics, spans

pytestmark = pytest.mark.timeout(600)


@dataclass
class Collector:
    """An OTLP receiver that keeps (room, span name) by trace id, and the attributes of each."""

    spans: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    names: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self.lock:
            for resource in request.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        entry = (names["service.name"].removeprefix("brain-"), span.name)
                        self.spans.setdefault(span.trace_id.hex(), set()).add(entry)
                        self.names.setdefault(entry, set()).update(a.key for a in span.attributes)
                        self.attributes |= {a.value.string_value for a in span.attributes}

    def rooms(self, trace: set[tuple[str, str]]) -> set[str]:
        return {room for room, _ in trace}


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def traced(collector: tuple[Collector, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    environment = {f"BRAIN_{room.upper()}_OTLP_ENDPOINT": collector[1] for room in ROOMS}
    environment["OTEL_BSP_SCHEDULE_DELAY"] = "200"
    state_dir = tmp_path_factory.mktemp("traced")
    with running_stack(state_dir, engine="scripted://?mode=extract", environment=environment) as running:
        yield running


def test_one_trace_from_http_to_the_engine_and_one_through_the_event_log(
    traced: RunningStack, collector: tuple[Collector, str]
) -> None:
    kept, _ = collector
    secret = "The vault opens with the word heliotrope."
    with traced.client(traced.key("tina")) as client:
        collection = new_collection(client, "traced")
        upload(client, collection, "vault.md", f"# Vault\n\n{secret}\n")
        indexed(client, collection, 1)
        answer = client.post(
            "/v1/chat/completions",
            json={
                "model": "default",
                "messages": [{"role": "user", "content": "Which word opens the vault?"}],
                "collections": [collection],
            },
        )
        assert answer.status_code == 200, answer.text

    def answered() -> bool:
        return any(kept.rooms(trace) >= {"gateway", "chat", "retrieval", "generation"} for trace in kept.spans.values())

    def read_and_indexed() -> bool:
        return any(
            kept.rooms(trace) >= {"gateway", "ingestion", "retrieval"}
            and any("brain.document.v1" in name for _, name in trace)
            for trace in kept.spans.values()
        )

    traced.wait_until(answered, timeout_s=30)
    traced.wait_until(read_and_indexed, timeout_s=30)
    assert not any("heliotrope" in value for value in kept.attributes), "text of a document reached a trace"


def test_logs_hold_no_text_of_documents_or_questions(traced: RunningStack) -> None:
    for log in (traced.state_dir / "logs").glob("*.log"):
        said = log.read_text()
        assert "heliotrope" not in said, log.name
        assert "opens the vault" not in said, log.name


def test_every_span_and_its_attributes_are_documented(traced: RunningStack, collector: tuple[Collector, str]) -> None:
    common = spans(DOCS / "telemetry.md")
    # A copy: rooms that hear of events go on to send spans while the pages are read.
    for (room, name), attributes in list(collector[0].names.items()):
        # A page of a room may add to what the common one says.
        found = [one for one in [*spans(DOCS / "telemetry" / f"{room}.md"), *common] if one.is_of(name)]
        assert found, f"{room} makes a span {name!r} that no page names"
        assert attributes <= set().union(*(one.attributes for one in found)), (room, name)


@pytest.mark.parametrize("room", ROOMS)
def test_a_running_room_shows_the_documented_metrics_and_no_others(traced: RunningStack, room: str) -> None:
    text = httpx.get(f"http://{traced.state['rooms'][room]['metrics']}/metrics", timeout=10).text
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE brain_")}
    pages = metrics(DOCS / "telemetry.md") | metrics(DOCS / "telemetry" / f"{room}.md")
    # An info metric ends in _info; when a series began is told beside counters and histograms.
    wanted = {one.name for one in pages if room != "gateway" or not one.name.startswith("brain_grpc_server")}
    assert {name for name in shown if not name.endswith("_created")} == wanted
