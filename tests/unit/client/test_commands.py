import json
import sys
from pathlib import Path

import httpx
import pytest

from client import __main__ as entry_point
from client.errors import NotFoundError, UsageError
from tests.unit.client.wire import Wire, entry, printed, run, text_chunk

SOURCE = {
    "filename": "leave.md",
    "version": 2,
    "page": 3,
    "heading_path": ["Leave", "Parental leave"],
    "part": None,
    "quote": "Each parent takes\n22 weeks.",
}
CITED = text_chunk("22 weeks.", citations=[{"start": 0, "end": 8, "text": "22 weeks", "sources": [SOURCE]}])
RECEIPT = {
    "id": "rcpt_1",
    "question": "How long?",
    "queries": ["How long?"],
    "rewrite": "self_contained",
    "answer": "22 weeks.",
    "model": "base",
    "prompt_version": "1",
    "prompt_hash": "ab" * 32,
    "support": 0.91,
    "trimmed": [],
    "timings_s": {"retrieve": 0.1},
    "sources": [SOURCE | {"number": 1, "title": "Leave", "score": 0.8, "in_prompt": True, "cited": True}],
}


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRAIN_URL", "http://brain.test")
    monkeypatch.setenv("BRAIN_API_KEY", "key-1")
    monkeypatch.setenv("COLUMNS", "160")


def test_status_shows_the_rooms_and_says_by_its_exit_when_one_is_away(wire: Wire) -> None:
    wire.on("GET", "/brain/v1/status", {"status": "ready", "rooms": {"chat": "ready"}, "documents": {"indexed": 4}})
    result = run(wire, "status")
    assert result.exit_code == 0
    assert "chat" in result.output
    assert "4 indexed" in result.output
    wire.on("GET", "/brain/v1/status", {"status": "degraded", "rooms": {"chat": "not ready"}})
    result = run(wire, "status", "--json")
    assert result.exit_code == 5
    assert printed(result)["rooms"] == {"chat": "not ready"}


def test_an_answer_is_shown_with_its_numbered_citation(wire: Wire) -> None:
    wire.on_stream([CITED, {"choices": [], "receipt_id": "rcpt_1"}])
    result = run(wire, "ask", "How long is parental leave?", "-c", "vs_1")
    assert result.exit_code == 0
    for shown in ("22 weeks.", "[1]", "leave.md", "version 2", "page 3", "Leave › Parental leave", "rcpt_1"):
        assert shown in result.output
    # The quote is on one line, whatever lines it stood on.
    assert "“Each parent takes 22 weeks.”" in result.output


def test_a_question_that_is_not_answered_ends_with_3(wire: Wire) -> None:
    wire.on_stream([text_chunk("The documents do not answer this question.", abstention="not_supported")])
    result = run(wire, "ask", "Who is the mayor?", "-c", "vs_1", "--json")
    assert result.exit_code == 3
    assert printed(result)["abstained"] is True


def test_a_talk_sends_what_was_said_before(wire: Wire) -> None:
    wire.on_stream([CITED])
    result = run(wire, "chat", "-c", "vs_1", "--json", told="How long?\nAnd for fathers?\n\n")
    assert [json.loads(line)["answer"] for line in result.stdout.splitlines()] == ["22 weeks."] * 2
    assert [turn["content"] for turn in wire.body()["messages"]] == ["How long?", "22 weeks.", "And for fathers?"]


def test_the_collection_may_stand_in_the_settings(wire: Wire, tmp_path: Path) -> None:
    wire.on("POST", "/brain/v1/search", {"data": []})
    with pytest.raises(UsageError, match="--collection"):
        raise run(wire, "search", "leave").exception or AssertionError
    (tmp_path / ".brain").mkdir()
    (tmp_path / ".brain" / "client.json").write_text('{"collection": "vs_5"}')
    assert run(wire, "search", "leave").exit_code == 0
    assert wire.body()["collections"] == ["vs_5"]


def test_a_search_shows_ranks_and_places(wire: Wire) -> None:
    passage = SOURCE | {"score": 0.7, "text": "22 weeks", "parts": {"dense_rank": 1, "bm25_rank": None}}
    wire.on("POST", "/brain/v1/search", {"data": [passage]})
    result = run(wire, "search", "parental leave", "-c", "vs_1", "--limit", "3")
    assert "0.700" in result.output
    assert "#1" in result.output
    assert wire.body()["top_k"] == 3


def test_square_brackets_are_shown_as_they_are(wire: Wire) -> None:
    # To the library that draws tables, they are styles.
    passage = SOURCE | {"filename": "[draft] leave.md", "score": 0.7, "text": "[/b] 22 weeks [red]", "parts": None}
    wire.on("POST", "/brain/v1/search", {"data": [passage]})
    found = run(wire, "search", "parental leave", "-c", "vs_1").output
    assert "[draft] leave.md" in found
    assert "[/b] 22 weeks [red]" in found
    document = {"id": "doc_" + "a" * 32, "filename": "[/x].md", "version": 1, "state": "indexed", "chunks": 1}
    wire.on("GET", "/brain/v1/documents", {"data": [document | {"failure": None, "access": []}], "has_more": False})
    listed = run(wire, "documents", "-c", "vs_1").output
    assert "[/x].md" in listed
    wire.on("POST", "/brain/v1/explain", {"verdict": "no_match", "explanation": "It lacks [/these]."})
    assert "It lacks [/these]." in run(wire, "explain", "a", "--question", "?", "-c", "vs_1").output


def test_an_id_is_shown_whole_however_narrow_the_terminal(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    identity = "doc_" + "a" * 32
    document = {"id": identity, "filename": "a long name of a document.md", "version": 1, "state": "indexed"}
    document |= {"chunks": 1, "failure": None, "access": ["group:everyone"]}
    wire.on("GET", "/brain/v1/documents", {"data": [document], "has_more": False})
    shown = run(wire, "documents", "-c", "vs_1").output
    assert identity in shown
    assert "group" in shown


def test_a_sync_waits_and_fails_with_the_reason(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("new")
    states = iter(
        [[], [entry("a.md", "new", state="parsing")], [entry("a.md", "new", state="failed", reason="Broken.")]]
    )

    def manifest(_request: httpx.Request) -> httpx.Response:
        lines = [{"collection": "vs_1"}, *next(states)]
        return httpx.Response(200, text="\n".join(json.dumps(line) for line in lines))

    wire.on_call("GET", "/brain/v1/collections/vs_1/manifest", manifest)
    wire.on("POST", "/brain/v1/documents", {"document": {"id": "doc_a"}, "unchanged": False}, 202)
    result = run(wire, "sync", str(tmp_path / "docs"), "-c", "vs_1", "--access", "group:hr", "--json")
    assert result.exit_code == 1
    assert printed(result) == {
        "collection": "vs_1",
        "new": 1,
        "changed": 0,
        "vanished": 0,
        "unchanged": 0,
        "failed": {"a.md": "Broken."},
    }
    upload = next(request for request in wire.requests if request.method == "POST")
    assert upload.url.params.get_list("access") == ["group:hr"]


def test_a_deletion_is_waited_for_and_counted(wire: Wire) -> None:
    stores = [{"store": "index", "removed": 4, "remaining": 0, "counted": True}]
    deleting = {"document": "doc_1", "state": "deleting", "stores": [], "adapters": ["ft:base:acme:hr:1"]}
    wire.on("DELETE", "/brain/v1/documents/doc_1", deleting, 202)
    wire.on("GET", "/brain/v1/deletions/doc_1", {"document": "doc_1", "state": "deleted", "stores": stores})
    result = run(wire, "delete", "doc_1")
    assert result.exit_code == 0
    assert "index" in result.output
    assert "blocked ft:base:acme:hr:1" in result.output
    assert printed(run(wire, "delete", "doc_1", "--json"))["adapters"] == ["ft:base:acme:hr:1"]
    # A checkpoint comes again with its job's adapter: it needs no command of its own.
    family = ["ft:base:acme:hr:1", "ft:base:acme:hr:1:ckpt-step-2", "ft:base:acme:it:2:ckpt-step-4"]
    wire.on("DELETE", "/brain/v1/documents/doc_1", deleting | {"adapters": family}, 202)
    blocked = [line for line in run(wire, "delete", "doc_1").output.splitlines() if line.startswith("blocked")]
    assert [("retrain" in line) for line in blocked] == [True, False, True]
    wire.on("DELETE", "/brain/v1/documents/doc_1", deleting | {"adapters": "pending"}, 202)
    assert "could not be blocked yet" in run(wire, "delete", "doc_1").output
    assert isinstance(run(wire, "delete", "leave.md").exception, NotFoundError)


def test_a_receipt_shows_how_the_answer_came_about(wire: Wire) -> None:
    wire.on("GET", "/brain/v1/receipts/rcpt_1", RECEIPT)
    replay = {"same_prompt": True, "same_answer": False, "answer": "23 weeks.", "difference": ""}
    wire.on("POST", "/brain/v1/receipts/rcpt_1/replay", replay)
    result = run(wire, "receipt", "rcpt_1", "--replay")
    for shown in ("self_contained", "leave.md", "0.91", "same prompt", "another answer: 23 weeks."):
        assert shown in result.output


def test_why_something_was_not_found(wire: Wire) -> None:
    wire.on("POST", "/brain/v1/explain", {"verdict": "ranked_too_low", "explanation": "Its best passage is 9th."})
    result = run(wire, "explain", "leave.md", "--question", "How long?", "-c", "vs_1")
    assert "ranked_too_low: Its best passage is 9th." in result.output
    assert wire.body() == {"document": "leave.md", "question": "How long?", "collections": ["vs_1"]}
    assert isinstance(run(wire, "explain", "leave.md").exception, UsageError)


def test_an_access_list_is_replaced(wire: Wire) -> None:
    wire.on("PUT", "/brain/v1/documents/doc_1/access", {"id": "doc_1", "access": [], "adapters": []})
    result = run(wire, "access", "doc_1")
    assert "its owner alone" in result.output
    assert wire.body() == {"access": []}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["status"], 2, "--url"),
        (["--url", "http://[::1", "status"], 2, "'http://[::1' is no address"),
        (["--url", "http://brain.test", "--key", "schlüssel", "status"], 2, "key"),
        (["delete", "[/x]"], 4, "'[/x]' is no document id"),
    ],
)
def test_an_error_is_one_line_and_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    monkeypatch.delenv("BRAIN_URL")
    monkeypatch.setattr(sys, "argv", ["brain", *arguments])
    with pytest.raises(SystemExit) as ended:
        entry_point.main()
    assert ended.value.code == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
