"""The gateway's HTTP API as the command uses it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx
from httpx_sse import connect_sse

from client.errors import GatewayError, NotFoundError, RefusedError, UnreachableError, UsageError
from client.settings import Connection

__all__ = ["Gateway", "Lines"]

# An answer on a slow machine takes its time; what does not connect at once never will.
_TIMEOUT: Final = httpx.Timeout(600.0, connect=5.0)
_PAGE: Final = 1000
_BY_STATUS: Final = {
    **dict.fromkeys((400, 413, 422), UsageError),
    **dict.fromkeys((401, 403), RefusedError),
    404: NotFoundError,
    **dict.fromkeys((502, 503, 504), UnreachableError),
}


@dataclass(frozen=True, slots=True)
class Lines:
    """An answer that is read line by line, and its head."""

    headers: Mapping[str, str]
    lines: Iterator[str]


class Gateway:
    """A connection to the gateway; use as a context manager.

    Args:
        connection: Where it is, and the key.
        transport: Replaces the network in tests.

    Raises:
        UsageError: The address or the key cannot be one.
    """

    def __init__(self, connection: Connection, *, transport: httpx.BaseTransport | None = None) -> None:
        if not connection.api_key.isascii():
            raise UsageError("The API key holds characters that no key has.")
        try:
            self._http = httpx.Client(
                base_url=connection.base_url,
                headers={"Authorization": f"Bearer {connection.api_key}"},
                timeout=_TIMEOUT,
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise UsageError(f"{connection.base_url!r} is no address: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def status(self) -> dict[str, Any]:
        """Return the rooms' health."""
        return _object(self._request("GET", "/brain/v1/status"))

    def models(self) -> list[str]:
        """Return the names of the models that can be asked, the base model first."""
        return [str(model["id"]) for model in _object(self._request("GET", "/v1/models"))["data"]]

    def collection(self, name: str, *, create: bool = False) -> str:
        """Return the id of a collection given by id or name.

        Raises:
            NotFoundError: There is none of that name and it is not to be made.
        """
        if name.startswith("vs_"):
            return name
        for one in self.pages("/brain/v1/collections", [("limit", "100")]):
            if one["name"] == name:
                return str(one["id"])
        if not create:
            raise NotFoundError(f"There is no collection called {name!r}.")
        return str(_object(self._request("POST", "/brain/v1/collections", body={"name": name}))["id"])

    def manifest(self, collection: str) -> list[dict[str, Any]]:
        """Return key, digest and state of every document of a collection."""
        answer = self._request("GET", f"/brain/v1/collections/{collection}/manifest")
        # The first line names the collection.
        return [_json(line) for line in answer.text.splitlines()[1:]]

    def upload(
        self,
        collection: str,
        path: Path,
        *,
        key: str = "",
        access: Sequence[str] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Any], bool]:
        """Send a file's bytes; return the document, which will reach a final state, and whether nothing had changed."""
        query: list[tuple[str, str]] = [("collection", collection), ("filename", path.name)]
        if key:
            query.append(("key", key))
        # An empty value is an empty list: the owner alone.
        query += [("access", principal) for principal in (access or ([""] if access is not None else []))]
        if attributes:
            query.append(("attributes", json.dumps(attributes)))
        with path.open("rb") as content:
            answer = _object(self._request("POST", "/brain/v1/documents", params=query, content=content))
        return dict(answer["document"]), bool(answer["unchanged"])

    def documents(self, collection: str, *, name: str = "") -> list[dict[str, Any]]:
        """Return the documents of a collection that the caller may see."""
        query = [("collection", collection), ("limit", str(_PAGE)), *([("name", name)] if name else [])]
        return list(self.pages("/brain/v1/documents", query))

    def document(self, document_id: str) -> dict[str, Any]:
        """Return one document."""
        return _object(self._request("GET", f"/brain/v1/documents/{document_id}"))

    def text(self, document_id: str) -> dict[str, Any]:
        """Return a document's stored text with its sections."""
        return _object(self._request("GET", f"/brain/v1/documents/{document_id}/text"))

    def set_access(self, document_id: str, access: Sequence[str]) -> dict[str, Any]:
        """Replace a document's access list."""
        return _object(self._request("PUT", f"/brain/v1/documents/{document_id}/access", body={"access": list(access)}))

    def delete(self, document_id: str) -> dict[str, Any]:
        """Withhold a document at once and begin to remove it; return the receipt so far."""
        return _object(self._request("DELETE", f"/brain/v1/documents/{document_id}"))

    def deletion(self, document_id: str) -> dict[str, Any]:
        """Return the receipt of a deletion."""
        return _object(self._request("GET", f"/brain/v1/deletions/{document_id}"))

    def search(self, collections: Sequence[str], query: str, *, limit: int = 5) -> list[dict[str, Any]]:
        """Return passages, best first."""
        body = {"query": query, "collections": list(collections), "top_k": limit, "explain": True}
        return list(_object(self._request("POST", "/brain/v1/search", body=body))["data"])

    def receipt(self, receipt_id: str) -> dict[str, Any]:
        """Return the receipt of an answer, as its reader may see it today."""
        return _object(self._request("GET", f"/brain/v1/receipts/{receipt_id}"))

    def replay(self, receipt_id: str) -> dict[str, Any]:
        """Ask the same again and compare."""
        return _object(self._request("POST", f"/brain/v1/receipts/{receipt_id}/replay"))

    def explain(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Say what became of a document for a question."""
        return _object(self._request("POST", "/brain/v1/explain", body=dict(body)))

    def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        collections: Sequence[str],
        model: str = "default",
        temperature: float = 0.0,
        documents: Sequence[Mapping[str, Any]] = (),
        grounding: str = "",
    ) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a streamed chat completion.

        Args:
            messages: The conversation, ending in the question.
            collections: Ids of the collections to answer from.
            model: Model or adapter.
            temperature: 0 is greedy.
            documents: Documents of the request's own to answer from: `{"id": …, "data": {"text": …}}`.
            grounding: `strict` refuses what the documents do not support, `open` does not; empty for the default.

        Raises:
            GatewayError: The stream ended with an error.
        """
        body: dict[str, Any] = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": temperature,
            "messages": list(messages),
        }
        if collections:
            body["collections"] = list(collections)
        if documents:
            body["documents"] = [dict(document) for document in documents]
        if grounding:
            body["grounding"] = grounding
        try:
            with connect_sse(self._http, "POST", "/v1/chat/completions", json=body) as events:
                if events.response.is_error:
                    events.response.read()
                    raise _error(events.response)
                for event in events.iter_sse():
                    if event.data == "[DONE]":
                        return
                    chunk = _json(event.data)
                    if "error" in chunk:
                        raise GatewayError(str(chunk["error"]["message"]))
                    yield chunk
        except httpx.TransportError as error:
            raise UnreachableError(f"The gateway at {self._http.base_url} does not answer: {error}") from error
        raise GatewayError("The stream ended without its terminator.")

    def upload_file(self, path: Path, *, purpose: str) -> dict[str, Any]:
        """Keep a file for a purpose other than answering; return its record."""
        with path.open("rb") as content:
            form = {"purpose": (None, purpose), "file": (path.name, content)}
            return _object(self._request("POST", "/v1/files", form=form))

    def file(self, file_id: str) -> str:
        """Return the text of a kept file."""
        return self._request("GET", f"/v1/files/{file_id}/content").text

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Sequence[tuple[str, str]] = (),
    ) -> dict[str, Any]:
        """Send a request and return the object that answers it."""
        return _object(self._request(method, path, body=body, params=params))

    def pages(
        self, path: str, query: Sequence[tuple[str, str]] = (), *, most: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list, page after page, in either of the API's two forms."""
        after, left = "", most
        while left is None or left > 0:
            page = self.send("GET", path, params=[*query, *([("after", after)] if after else [])])
            yield from page["data"][:left]
            if not page["has_more"]:
                return
            left = None if left is None else left - len(page["data"])
            after = str(page["last_id"] if "last_id" in page else page["next"])

    @contextmanager
    def stream(self, method: str, path: str, *, body: Mapping[str, Any]) -> Iterator[Lines]:
        """Yield an answer that is one JSON object a line.

        Raises:
            GatewayError: The gateway answered with an error.
            UnreachableError: The answer broke off.
        """
        try:
            with self._http.stream(method, path, json=dict(body)) as answer:
                if answer.is_error:
                    answer.read()
                    raise _error(answer)
                yield Lines(answer.headers, answer.iter_lines())
        except httpx.TransportError as error:
            raise UnreachableError(f"The answer of {self._http.base_url} broke off: {error}") from error

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Sequence[tuple[str, str]] = (),
        content: Any = None,
        form: Any = None,
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body, params=list(params), content=content, files=form)
        except httpx.TransportError as error:
            raise UnreachableError(f"The gateway at {self._http.base_url} does not answer: {error}") from error
        if answer.is_error:
            raise _error(answer)
        return answer


def _object(answer: httpx.Response) -> dict[str, Any]:
    return _json(answer.text)


def _json(text: str) -> dict[str, Any]:
    """Return what an answer of the gateway holds.

    Raises:
        GatewayError: Somebody else answered.
    """
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise GatewayError("What answers at this address is not Corporate Brain.") from error


def _error(answer: httpx.Response) -> GatewayError:
    """Return the error that an answer stands for, in the gateway's own words where it has any."""
    try:
        body = answer.json()
        message = str(body["error"]["message"] if "error" in body else body["message"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {answer.status_code}"
    return _BY_STATUS.get(answer.status_code, GatewayError)(message)
