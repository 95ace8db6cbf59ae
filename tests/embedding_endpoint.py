"""A real HTTP server that speaks OpenAI's embeddings API, with vectors that a test can foresee."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.retrieval.backends.lanes import Lane
from services.retrieval.backends.onnx_worker import DIMENSION, OnnxWorker

Vectors = Callable[[Sequence[str]], NDArray[np.float32]]


class EmbeddingServer(ThreadingHTTPServer):
    """Answers as it is told; notes what it is asked.

    Attributes:
        vectors: Makes the vectors, of any length.
        status: HTTP status of each answer.
        body: Answer in place of the right one.
        delay_s: Seconds before each answer.
        asked: Bodies of the requests.
        headers: Headers of the requests.
    """

    daemon_threads = True

    def __init__(self, vectors: Vectors) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vectors = vectors
        self.status = 200
        self.body: bytes | None = None
        self.delay_s = 0.0
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def texts(self) -> int:
        """How many texts were embedded."""
        return sum(len(body["input"]) for body in self.asked)

    def url(self, model: str = "projected", **options: object) -> str:
        """Return what `embedder_url` says for this server."""
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"openai://127.0.0.1:{self.server_port}/v1?model={model}{more}"


class _Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        server.asked.append(asked)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        time.sleep(server.delay_s)
        if self.path != "/v1/embeddings":
            status, body = 404, b"{}"
        else:
            status, body = server.status, server.body or self._answer(asked)
        # Who asked may have been killed, or have given up.
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _answer(self, asked: dict[str, Any]) -> bytes:
        vectors = self.server.vectors(asked["input"])
        # In no order: the API says which is which by `index`.
        data = [{"object": "embedding", "index": at, "embedding": one.tolist()} for at, one in enumerate(vectors)][::-1]
        tokens = sum(len(text.split()) for text in asked["input"])
        return json.dumps(
            {"object": "list", "data": data, "model": asked["model"], "usage": {"prompt_tokens": tokens}}
        ).encode()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def embedding_server(vectors: Vectors) -> Iterator[EmbeddingServer]:
    """Serve until the block ends."""
    server = EmbeddingServer(vectors)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def projected_minilm(dimension: int, *, seed: int = 7) -> Iterator[Vectors]:
    """Yield what turns texts into MiniLM's vectors under a fixed random projection: another space, near rankings."""
    matrix = np.random.default_rng(seed).normal(size=(DIMENSION, dimension)).astype(np.float32)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    worker = OnnxWorker(max_waiting=10_000)

    def ask(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    ask(worker.start())
    try:
        yield lambda texts: np.stack(
            [output.matrix @ matrix for output in ask(worker.run(list(texts), lane=Lane.PASSAGE))]
        )
    finally:
        ask(worker.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
