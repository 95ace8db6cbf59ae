"""Clients that send what nobody should: the gateway refuses it in its own words, serves on, and keeps nothing of it."""

import asyncio
import json
import random
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.running_stack import ROOT, RunningStack, new_collection, running_stack

MIB = 1024 * 1024
REQUESTS = 1000
NESTED: Any = 1
for _ in range(300):
    NESTED = {"filters": [NESTED]}
# What programs send by mistake, and people on purpose.
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 0.5, 1e-320, 1e308),
    *("", " ", "\0", "x" * 5000, "../../etc/passwd", "\u202e", "2026-01-01T00:00:00", "9999-12-31T23:59:59Z"),
    *([], [None], [[]], [-1], [2**40], ["a", 1], {}, {"": None}, {"type": []}, NESTED),
    *({"type": "eq", "key": "a", "value": {}}, {"type": "in", "key": "a", "value": [1, "b"]}),
)
BROKEN = (b"{", b"[]", b"null", b"\xff\xfe", b'{"model":"\\ud800"}', b'{"a":' * 3000, b"NaN", b"", b'{"n":1e999}')


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    limits = {
        "BRAIN_GATEWAY_MAX_UPLOAD_BYTES": str(2 * MIB),
        "BRAIN_GATEWAY_MAX_JSON_BYTES": str(MIB),
        "BRAIN_GATEWAY_BODY_PATIENCE_S": "2",
    }
    folder = tmp_path_factory.mktemp("hostile")
    with running_stack(folder, engine="scripted://?mode=extract", environment=limits) as running:
        yield running


@pytest.fixture(scope="module")
def root(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.client(stack.administrator_key) as client:
        yield client


@pytest.fixture(scope="module")
def collection(root: httpx.Client) -> str:
    return new_collection(root, "hostile")


def refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text
    told = answer.json()
    assert told["error"]["message"] == told["message"]
    assert told["id"] == answer.headers["x-request-id"]


def nothing_is_left(stack: RunningStack) -> None:
    blobs, folder = stack.open_blobs(), stack.state_dir / "blobs" / "uploads"
    # Of a store in a folder also what it is in the middle of writing.
    stack.wait_until(lambda: not asyncio.run(blobs.list("uploads")) and not list(folder.glob("*")), timeout_s=20)


class Bodies:
    """Makes bodies that are nearly what the API document asks for."""

    def __init__(self, document: dict[str, Any], seed: int) -> None:
        self._schemas = document["components"]["schemas"]
        self._chance = random.Random(seed)
        self._routes = [
            (method.upper(), path, operation["requestBody"]["content"]["application/json"]["schema"])
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if "application/json" in operation.get("requestBody", {}).get("content", {})
        ]

    def next(self, collection: str) -> tuple[str, str, bytes]:
        """Return method, path and body."""
        method, path, schema = self._chance.choice(self._routes)
        path = re.sub(r"{(store_id|collection_id)}", collection, path)
        if self._chance.random() < 0.1:
            return method, re.sub(r"{\w+}", "x", path), self._chance.choice(BROKEN)
        return method, re.sub(r"{\w+}", "x", path), json.dumps(self._value(schema, oddness=0.0)).encode()

    def _value(self, schema: dict[str, Any], oddness: float = 0.15) -> Any:
        if self._chance.random() < oddness:
            return self._chance.choice(ODD)
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rpartition("/")[2]])
        if choices := schema.get("anyOf") or schema.get("oneOf"):
            return self._value(self._chance.choice(choices))
        return self._chance.choice(schema["enum"]) if "enum" in schema else self._of_type(schema)

    def _of_type(self, schema: dict[str, Any]) -> Any:
        match schema.get("type"):
            case "object":
                required = schema.get("required", ())
                return {
                    name: self._value(one)
                    for name, one in schema.get("properties", {}).items()
                    if name in required or self._chance.random() < 0.4
                }
            case "array":
                return [self._value(schema.get("items", {})) for _ in range(self._chance.randint(0, 2))]
            case kind:
                plain = {"string": "default", "integer": 1, "number": 0.5, "boolean": False, "null": None}
                return plain[kind] if kind in plain else self._chance.choice(ODD)


def test_no_body_is_a_failure_of_ours(root: httpx.Client, collection: str) -> None:
    bodies = Bodies(json.loads((ROOT / "docs" / "api" / "openapi.json").read_text()), seed=3)
    statuses: set[int] = set()
    for _ in range(REQUESTS):
        method, path, body = bodies.next(collection)
        answer = root.request(method, path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, (method, path, body[:2000], answer.text)
        assert "x-request-id" in answer.headers
        if answer.is_error:
            refused(answer, answer.status_code)
        statuses.add(answer.status_code)
    # Neither all refused nor all let pass: the bodies are nearly right.
    assert {200, 400, 404} <= statuses


@pytest.mark.parametrize("declared", [True, False])
def test_what_is_too_large_is_refused_while_it_comes(
    stack: RunningStack, root: httpx.Client, collection: str, *, declared: bool
) -> None:
    def sent(data: bytes) -> Any:
        # Without its length the body comes in chunks.
        return data if declared else iter([data[start : start + MIB] for start in range(0, len(data), MIB)])

    where = {"collection": collection, "filename": "large.txt"}
    refused(root.post("/brain/v1/documents", params=where, content=sent(b"x" * 8 * MIB)), 413)
    form = b'--x\r\ncontent-disposition: form-data; name="file"; filename="large.txt"\r\n\r\n' + b"x" * 8 * MIB
    of_form = {"content-type": "multipart/form-data; boundary=x"}
    refused(root.post("/v1/files", content=sent(form), headers=of_form), 413)
    refused(root.post("/v1/embeddings", content=sent(b'{"input":"' + b"x" * 2 * MIB + b'"}')), 413)
    nothing_is_left(stack)


def test_a_form_of_ten_thousand_parts_is_refused(stack: RunningStack, root: httpx.Client) -> None:
    for kind in (b"name=a", b"name=file; filename=f"):
        part = b"--x\r\ncontent-disposition: form-data; " + kind + b"\r\n\r\nb\r\n"
        of_form = {"content-type": "multipart/form-data; boundary=x"}
        refused(root.post("/v1/files", content=part * 10_000 + b"--x--\r\n", headers=of_form), 400)
    nothing_is_left(stack)


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-",
        b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\ncontent-length: 9\r\n\r\n{",
        b"POST /brain/v1/documents?collection=STORE&filename=a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\n%s"
        % b"content-length: 2000000\r\n\r\n# A",
    ],
    ids=("head", "json", "upload"),
)
def test_who_stands_still_is_not_waited_for(stack: RunningStack, collection: str, begun: bytes) -> None:
    host, _, port = stack.address("gateway").rpartition(":")
    sent = begun.replace(b"KEY", stack.administrator_key.encode()).replace(b"STORE", collection.encode())
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(sent)
        answer = b""
        while piece := line.recv(65_536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"x-request-id" in answer
    nothing_is_left(stack)


def test_who_leaves_in_the_middle_of_an_upload_leaves_nothing_behind(
    stack: RunningStack, root: httpx.Client, collection: str
) -> None:
    host, _, port = stack.address("gateway").rpartition(":")
    head = (
        f"POST /brain/v1/documents?collection={collection}&filename=half.md HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {stack.administrator_key}\r\ncontent-length: 2000000\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(head.encode() + b"x" * MIB)
    gone = r'brain_http_request_duration_seconds_count{method="POST",route="/brain/v1/documents",status="499"}'
    metrics = f"http://{stack.state['rooms']['gateway']['metrics']}/metrics"
    stack.wait_until(lambda: gone in httpx.get(metrics, timeout=10).text, timeout_s=20)
    nothing_is_left(stack)
    kept = root.get("/brain/v1/documents", params={"collection": collection, "name": "half.md"}).json()["data"]
    assert kept == []
