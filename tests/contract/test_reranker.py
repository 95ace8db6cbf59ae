"""The reranker port: every back end scores texts from 0 to 1, in order; the remote one translates what goes wrong."""

import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import pytest_asyncio

from services.chassis.errors import BrainError, Internal, InvalidInput, Overloaded, Unavailable
from services.retrieval.backends import http_reranker
from services.retrieval.backends.http_reranker import HttpReranker
from services.retrieval.backends.maxsim_reranker import MaxSimReranker
from services.retrieval.backends.onnx_worker import OnnxWorker
from services.retrieval.ports import Reranker

TEXTS = ["Revenue grew by a tenth.", "Employees get paid holiday.", "The canteen serves soup."]


class Endpoint(ThreadingHTTPServer):
    """A `/rerank` endpoint that scores by shared words, or answers as it is told."""

    status = 200
    body: bytes | None = None
    asked: dict[str, Any] | None = None
    authorization = ""
    delay_s = 0.0


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(self.server.delay_s)
        self.server.asked, self.server.authorization = asked, self.headers.get("authorization", "")
        words = set(asked["query"].lower().split())
        scored = [
            {"index": at, "relevance_score": 2.0 * len(words & set(text.lower().rstrip(".").split()))}
            for at, text in enumerate(asked["documents"])
        ]
        scored.sort(key=lambda row: -row["relevance_score"])
        body = self.server.body or json.dumps({"results": scored}).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def remote(endpoint: Endpoint, **about: str) -> HttpReranker:
    return HttpReranker(f"http://127.0.0.1:{endpoint.server_port}/v2/rerank", **about)


@pytest_asyncio.fixture(params=["minilm-maxsim", "http"])
async def reranker(request: pytest.FixtureRequest, endpoint: Endpoint) -> AsyncIterator[Reranker]:
    if request.param == "http":
        client = remote(endpoint)
        yield client
        await client.close()
        return
    worker = OnnxWorker(max_waiting=100)
    await worker.start()
    yield MaxSimReranker(worker)
    await worker.stop()


async def test_the_best_text_scores_highest(reranker: Reranker) -> None:
    scores = await reranker.score("paid holiday of employees", TEXTS)
    assert len(scores) == 3
    assert all(0 <= score <= 1 for score in scores)
    assert max(range(3), key=scores.__getitem__) == 1


async def test_no_texts_no_scores(reranker: Reranker) -> None:
    assert await reranker.score("anything", []) == []


async def test_the_endpoint_is_asked_as_it_expects(endpoint: Endpoint) -> None:
    client = remote(endpoint, model="rerank-v3", key="secret")
    await client.score("soup", TEXTS)
    assert endpoint.asked == {"query": "soup", "documents": TEXTS, "top_n": 3, "model": "rerank-v3"}
    assert endpoint.authorization == "Bearer secret"
    await client.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, b"{}", Overloaded),
        (503, b"{}", Unavailable),
        (401, b"{}", Internal),
        (200, b"no json", Internal),
        (200, b'{"results": []}', Internal),
    ],
)
async def test_what_goes_wrong_is_said_in_our_words(
    endpoint: Endpoint, status: int, body: bytes, error: type[BrainError]
) -> None:
    endpoint.status, endpoint.body = status, body
    client = remote(endpoint)
    with pytest.raises(error):
        await client.score("soup", TEXTS)
    await client.close()


async def test_an_endpoint_that_does_not_answer_in_time_is_unavailable(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_reranker, "_TIMEOUT_S", 0.05)
    endpoint.delay_s = 0.5
    client = remote(endpoint)
    with pytest.raises(Unavailable):
        await client.score("soup", TEXTS)
    await client.close()


def test_an_address_that_is_none_of_the_webs_is_refused_at_the_start() -> None:
    with pytest.raises(InvalidInput, match="reranker_url: 'localhost:8000/rerank' is not"):
        HttpReranker("localhost:8000/rerank")


async def test_an_endpoint_that_is_away_is_unavailable(endpoint: Endpoint) -> None:
    client = HttpReranker("http://127.0.0.1:9/rerank")
    with pytest.raises(Unavailable):
        await client.score("soup", TEXTS)
    await client.close()
