"""One client and one filled collection for all tests of the cohere SDK."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import cohere
import pytest


@pytest.fixture(scope="session")
def client(url: str, key: str) -> cohere.ClientV2:
    return cohere.ClientV2(api_key=key, base_url=url, timeout=180)


@pytest.fixture(scope="session")
def model(client: cohere.ClientV2) -> str:
    name = client.models.list().models[0].name
    assert name
    return name


@pytest.fixture(scope="session")
def native(url: str, key: str) -> Callable[..., Any]:
    """Call the native API: Cohere's has no verbs for documents of its own."""

    def call(method: str, path: str, data: Any = None, content_type: str = "application/json") -> Any:
        body = data if isinstance(data, bytes | None) else json.dumps(data).encode()
        request = urllib.request.Request(
            f"{url}/brain/v1{path}",
            data=body,
            method=method,
            headers={"authorization": f"Bearer {key}", "content-type": content_type},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    return call


@pytest.fixture(scope="session")
def collection(native: Callable[..., Any], texts: dict[str, bytes]) -> Iterator[str]:
    made = native("POST", "/collections", {"name": "Larkspur for cohere"})["id"]
    documents = []
    for name, data in texts.items():
        path = f"/documents?collection={made}&filename={quote(name)}&key={quote(name)}"
        documents.append(native("POST", path, data, "application/octet-stream")["document"]["id"])
    deadline = time.monotonic() + 120
    for document in documents:
        while (state := native("GET", f"/documents/{document}")["state"]) not in {"indexed", "failed"}:
            assert time.monotonic() < deadline, state
            time.sleep(0.2)
        assert state == "indexed"
    yield made
    native("DELETE", f"/collections/{made}")
