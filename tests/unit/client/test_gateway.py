import json
from pathlib import Path

import httpx
import pytest

from client.errors import GatewayError, NotFoundError, RefusedError, UnreachableError, UsageError
from client.rendering import Answer
from tests.unit.client.wire import Wire, text_chunk


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_every_request_carries_the_key(wire: Wire) -> None:
    wire.on("GET", "/brain/v1/status", {"status": "ready", "rooms": {}})
    with wire.gateway() as gateway:
        gateway.status()
    assert wire.requests[0].headers["authorization"] == "Bearer key-1"


def test_a_collection_is_found_by_name_over_several_pages(wire: Wire) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("after") == "vs_1":
            return httpx.Response(200, json={"data": [{"id": "vs_2", "name": "house"}], "has_more": False})
        return httpx.Response(200, json={"data": [{"id": "vs_1", "name": "x"}], "has_more": True, "next": "vs_1"})

    wire.on_call("GET", "/brain/v1/collections", page)
    with wire.gateway() as gateway:
        assert gateway.collection("house") == "vs_2"
        assert gateway.collection("vs_9") == "vs_9"
        with pytest.raises(NotFoundError, match="'shed'"):
            gateway.collection("shed")


def test_a_collection_is_made_when_it_is_to_be(wire: Wire) -> None:
    wire.on("GET", "/brain/v1/collections", {"data": [], "has_more": False})
    wire.on("POST", "/brain/v1/collections", {"id": "vs_7"}, 201)
    with wire.gateway() as gateway:
        assert gateway.collection("shed", create=True) == "vs_7"
    assert wire.body() == {"name": "shed"}


def test_an_upload_sends_the_bytes_and_says_who_may_read(wire: Wire, tmp_path: Path) -> None:
    wire.on("POST", "/brain/v1/documents", {"document": {"id": "doc_1"}, "unchanged": False}, 202)
    file = tmp_path / "leave.md"
    file.write_bytes(b"# Leave\n")
    with wire.gateway() as gateway:
        document, unchanged = gateway.upload(
            "vs_1", file, key="a/leave.md", access=["group:hr", "user:ann"], attributes={"year": 2026}
        )
        gateway.upload("vs_1", file, access=[])
        gateway.upload("vs_1", file)
    assert (document, unchanged) == ({"id": "doc_1"}, False)
    first, owner_alone, default = (request.url.params for request in wire.requests)
    assert wire.requests[0].content == b"# Leave\n"
    assert first["key"] == "a/leave.md"
    assert first.get_list("access") == ["group:hr", "user:ann"]
    assert json.loads(first["attributes"]) == {"year": 2026}
    assert owner_alone.get_list("access") == [""]
    assert "access" not in default


def test_a_stream_becomes_an_answer(wire: Wire) -> None:
    citation = {"start": 0, "end": 4, "text": "Five", "sources": [{"filename": "a.md", "quote": "five"}]}
    wire.on_stream(
        [
            text_chunk("Fi"),
            text_chunk("ve."),
            {"choices": [], "citations": [citation]},
            {"choices": [], "receipt_id": "rcpt_1", "usage": {"total_tokens": 9}},
        ]
    )
    answer = Answer()
    with wire.gateway() as gateway:
        for chunk in gateway.ask([{"role": "user", "content": "How many?"}], collections=["vs_1"], grounding="open"):
            answer.take(chunk)
    assert answer.as_json() == {
        "answer": "Five.",
        "citations": [citation],
        "receipt_id": "rcpt_1",
        "abstained": False,
        "usage": {"total_tokens": 9},
    }
    assert wire.body()["collections"] == ["vs_1"]
    assert wire.body()["grounding"] == "open"
    assert "documents" not in wire.body()


def test_a_stream_that_breaks_off_is_an_error(wire: Wire) -> None:
    wire.on_stream([text_chunk("Fi")], ended=False)
    with wire.gateway() as gateway, pytest.raises(GatewayError, match="terminator"):
        list(gateway.ask([{"role": "user", "content": "?"}], collections=[]))


def test_somebody_else_at_the_address_is_told_from_the_gateway(wire: Wire) -> None:
    wire.on_call("GET", "/brain/v1/status", lambda _request: httpx.Response(200, text="<html>Welcome"))
    with wire.gateway() as gateway, pytest.raises(GatewayError, match="not Corporate Brain"):
        gateway.status()


def test_an_error_inside_a_stream_is_raised_in_the_gateways_words(wire: Wire) -> None:
    wire.on_stream([text_chunk("Fi"), {"error": {"message": "The engine died."}}])
    with wire.gateway() as gateway, pytest.raises(GatewayError, match="The engine died"):
        list(gateway.ask([{"role": "user", "content": "?"}], collections=[]))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, UsageError),
        (401, RefusedError),
        (403, RefusedError),
        (404, NotFoundError),
        (413, UsageError),
        (503, UnreachableError),
        (504, UnreachableError),
        (500, GatewayError),
    ],
)
def test_every_status_is_an_error_of_its_kind(wire: Wire, status: int, expected: type[GatewayError]) -> None:
    wire.on("GET", "/brain/v1/receipts/rcpt_1", {"error": {"message": "In its own words."}}, status)
    with wire.gateway() as gateway, pytest.raises(expected, match=r"In its own words\."):
        gateway.receipt("rcpt_1")


def test_a_gateway_that_does_not_answer_is_named(wire: Wire) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    wire.on_call("GET", "/brain/v1/status", refuse)
    with wire.gateway() as gateway, pytest.raises(UnreachableError, match=r"brain\.test"):
        gateway.status()
