"""`brain feedback …` and `brain rank` against a scripted gateway."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from client.commands import app
from client.errors import UnreachableError, UsageError
from tests.unit.client.wire import Wire

KEPT = {"id": "fb_1", "kind": "thumb_up", "replaced": None}
GIVEN = {
    "id": "fb_1",
    "kind": "edit",
    "rater": "user:ann",
    "model": "base",
    "question": "How long\nis it?",
    "available": True,
    "edited": "26 weeks.",
    "comment": "[red] Short.",
}
COMPARISON = {
    "id": "cmp_1",
    "messages": [{"role": "user", "content": "How long?"}],
    "answers": [
        {"id": "ans_z", "text": "22 weeks."},
        {"id": "ans_k", "text": "26 weeks."},
        {"id": "ans_q", "text": "Some weeks."},
    ],
}
RANK = "/brain/v1/comparisons/cmp_1/rank"


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRAIN_URL", "http://brain.test")
    monkeypatch.setenv("BRAIN_API_KEY", "key-1")
    monkeypatch.setenv("COLUMNS", "160")


def run(wire: Wire, *arguments: str, told: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), obj=httpx.MockTransport(wire), input=told)


def ranks(wire: Wire) -> dict[str, int]:
    return {one["answer_id"]: one["rank"] for one in wire.body()["ranks"]}


def test_thumbs_are_given_with_a_reason(wire: Wire) -> None:
    wire.on("POST", "/brain/v1/feedback", KEPT, 201)
    result = run(wire, "feedback", "up", "rcpt_1", "-m", "Right.")
    assert "fb_1: thumb_up" in result.output
    assert wire.body() == {"receipt_id": "rcpt_1", "thumb": "up", "comment": "Right."}
    wire.on("POST", "/brain/v1/feedback", KEPT | {"kind": "thumb_down", "replaced": "fb_0"}, 201)
    result = run(wire, "feedback", "down", "rcpt_1")
    assert "instead of fb_0" in result.output
    assert wire.body()["thumb"] == "down"


def test_a_better_answer_comes_as_an_argument_or_is_piped_in(wire: Wire) -> None:
    wire.on("POST", "/brain/v1/feedback", KEPT | {"kind": "edit"}, 201)
    run(wire, "feedback", "edit", "rcpt_1", "26 weeks.")
    assert wire.body()["edited"] == "26 weeks."
    result = run(wire, "feedback", "edit", "rcpt_1", "--json", told="27 weeks.\nAt full pay.\n")
    assert wire.body()["edited"] == "27 weeks.\nAt full pay.\n"
    assert json.loads(result.stdout)["id"] == "fb_1"


def test_a_list_is_narrowed_and_shows_only_what_may_be_read(wire: Wire) -> None:
    hidden = GIVEN | {"id": "fb_2", "available": False, "question": None, "edited": None, "comment": None}
    wire.on("GET", "/brain/v1/feedback", {"data": [GIVEN, hidden], "has_more": False, "next": None})
    arguments = ["--kind", "edit", "--kind", "thumb_up", "-c", "vs_1", "--rater", "user:ann", "--since", "2026-11-01"]
    result = run(wire, "feedback", "list", *arguments)
    for shown in ("fb_1", "How long is it?", "26 weeks.", "fb_2", "(not yours to read)"):
        assert shown in result.output
    query = wire.requests[-1].url.params
    assert query.get_list("kind") == ["edit", "thumb_up"]
    assert (query["collection"], query["rater"], query["since"]) == ("vs_1", "user:ann", "2026-11-01")


def test_a_long_list_is_read_page_by_page_up_to_the_limit(wire: Wire) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params.get("after", "0"))
        data = [GIVEN | {"id": str(number)} for number in range(first + 1, first + 101)]
        return httpx.Response(200, json={"data": data, "has_more": True, "next": data[-1]["id"]})

    wire.on_call("GET", "/brain/v1/feedback", page)
    found = json.loads(run(wire, "feedback", "list", "--limit", "150", "--json").stdout)
    assert [one["id"] for one in found] == [str(number) for number in range(1, 151)]
    assert len(wire.requests) == 2


def test_what_is_withdrawn_is_said_to_be_gone(wire: Wire) -> None:
    wire.on("DELETE", "/brain/v1/feedback/fb_1", {"id": "fb_1", "deleted": True})
    assert "fb_1 is gone" in run(wire, "feedback", "withdraw", "fb_1").output


def test_an_export_is_a_file_of_rows_and_says_what_is_left_out(wire: Wire, tmp_path: Path) -> None:
    rows = ['{"label":true}', '{"label":false}']
    head = {"content-type": "application/x-ndjson", "x-brain-judgements": "3", "x-brain-unreadable": "1"}
    body = "".join(f"{row}\n" for row in rows)
    wire.on_call("POST", "/brain/v1/feedback/export", lambda _request: httpx.Response(200, headers=head, text=body))
    result = run(wire, "feedback", "export", "--kind", "thumb_up", "-o", "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text() == body
    assert "2 rows from 3 judgements; 1 left out" in result.stderr
    assert wire.body()["kind"] == ["thumb_up"]
    assert run(wire, "feedback", "export").stdout == body


def test_an_export_that_breaks_off_leaves_no_file(wire: Wire, tmp_path: Path) -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b'{"label":true}\n'
            raise httpx.ReadError("gone")

    wire.on_call("POST", "/brain/v1/feedback/export", lambda _request: httpx.Response(200, stream=Broken()))
    result = run(wire, "feedback", "export", "-o", "rows.jsonl")
    assert isinstance(result.exception, UnreachableError)
    assert list(tmp_path.iterdir()) == []


def test_agreement_is_a_number_or_a_reason(wire: Wire) -> None:
    counts = {"raters": 2, "units": 9, "pairable_values": 18, "values": 30}
    answer = {
        "thumbs": {"status": "measured", "level": "nominal", "alpha": 0.5123, "interval": [0.25, 0.75]} | counts,
        "rankings": {"status": "not_enough_overlap", "level": "ordinal", "alpha": None, "interval": None} | counts,
    }
    wire.on("GET", "/brain/v1/agreement", answer)
    result = run(wire, "feedback", "agreement", "-c", "vs_1", "--until", "2026-12-01")
    for shown in ("0.512", "0.250 to 0.750", "not enough overlap"):
        assert shown in result.output
    assert dict(wire.requests[-1].url.params) == {"collection": "vs_1", "until": "2026-12-01"}


def test_answers_are_shown_side_by_side_and_ranked_as_told(wire: Wire) -> None:
    wire.on("POST", "/brain/v1/comparisons", COMPARISON, 201)
    wire.on("POST", RANK, KEPT | {"kind": "ranking"}, 201)
    result = run(wire, "rank", "How long?", "--answers", "3", "--model", "a", "--model", "b", told="b a=c\n")
    assert wire.body(0)["answers"] == 3
    assert wire.body(0)["models"] == ["a", "b"]
    for shown in ("user: How long?", "22 weeks.", "26 weeks.", "Some weeks."):
        assert shown in result.output
    one_line = next(line for line in result.output.splitlines() if "22 weeks." in line)
    assert "26 weeks." in one_line
    assert ranks(wire) == {"ans_k": 1, "ans_z": 2, "ans_q": 2}
    assert "fb_1: ranking" in result.output


def test_what_is_no_order_is_asked_again_and_an_empty_line_passes_over(wire: Wire) -> None:
    other = COMPARISON | {"id": "cmp_2"}
    wire.on("GET", "/brain/v1/comparisons", {"data": [COMPARISON, other], "has_more": False, "next": None})
    wire.on("POST", RANK, KEPT | {"kind": "ranking"}, 201)
    result = run(wire, "rank", told="A B\nA A B\nC > B, A\n\n")
    assert result.exit_code == 0
    assert result.output.count("is not allowed; name each of A, B, C once") == 2
    assert ranks(wire) == {"ans_q": 1, "ans_k": 2, "ans_z": 3}
    assert [request.method for request in wire.requests] == ["GET", "POST"]


def test_scripts_read_labels_and_answer_with_an_order(wire: Wire) -> None:
    wire.on("GET", "/brain/v1/comparisons", {"data": [COMPARISON], "has_more": False, "next": None})
    wire.on("GET", "/brain/v1/comparisons/cmp_1", COMPARISON)
    wire.on("POST", RANK, KEPT | {"kind": "ranking"}, 201)
    (listed,) = json.loads(run(wire, "rank", "--json").stdout)
    assert [(answer["label"], answer["id"]) for answer in listed["answers"]] == [
        ("A", "ans_z"),
        ("B", "ans_k"),
        ("C", "ans_q"),
    ]
    result = run(wire, "rank", "--comparison", "cmp_1", "--order", "B = C A", "-m", "Exact.", "--json")
    assert json.loads(result.stdout)["kind"] == "ranking"
    assert ranks(wire) == {"ans_k": 1, "ans_q": 1, "ans_z": 2}
    assert wire.body()["comment"] == "Exact."


def test_an_order_that_does_not_fit_is_a_usage_error(wire: Wire) -> None:
    wire.on("GET", "/brain/v1/comparisons/cmp_1", COMPARISON)
    wire.on("GET", "/brain/v1/comparisons", {"data": [], "has_more": False, "next": None})
    for arguments in (
        ["--comparison", "cmp_1", "--order", "A D B"],
        ["--order", "A B"],
        ["How long?", "--comparison", "cmp_1"],
    ):
        assert isinstance(run(wire, "rank", *arguments).exception, UsageError)
    assert "Nothing waits" in run(wire, "rank").output
