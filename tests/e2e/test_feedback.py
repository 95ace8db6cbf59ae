"""Human feedback through the whole stack: thumbs, a better answer, a ranking, who agrees, export, taking back, events."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from brain.events.v1 import answer_pb2, feedback_pb2
from client.commands import app
from client.errors import NotFoundError
from services.chassis.events.log import EventLog, Record
from tests.running_stack import RunningStack

HANDBOOK = """# Travel

Every employee of Thistledown Mills may travel by train in first class.

A train journey of more than six hours may be replaced by a flight in economy class.

The train ticket is booked by the travel desk of Thistledown Mills at least three days before.
"""
QUESTION = "In which class may an employee of Thistledown Mills travel by train?"
BETTER = "By train in first class, says the handbook."


class Heard:
    """Reads topics of the event log from their start, in a group that nobody else is in."""

    def __init__(self, stack: RunningStack) -> None:
        self._runner = asyncio.Runner()
        self._log = self._runner.run(self._opened(stack))
        self._group = f"mill-{uuid.uuid4().hex}"
        self._records: dict[str, list[Record]] = {}

    def records(self, topic: str) -> list[Record]:
        """Return everything that the topic has held so far."""
        return self._runner.run(self._read(topic))

    def close(self) -> None:
        self._runner.run(self._log.close())
        self._runner.close()

    async def _opened(self, stack: RunningStack) -> EventLog:
        return stack.open_log()

    async def _read(self, topic: str) -> list[Record]:
        records = self._records.setdefault(topic, [])
        for record in await self._log.read(topic, self._group, limit=1000, wait_s=0):
            records.append(record)
            await self._log.commit(self._group, record)
        return records


@dataclass(frozen=True)
class Mill:
    """A handbook that the staff may read, and people who ask, judge and curate."""

    stack: RunningStack
    root: httpx.Client
    keys: dict[str, str]
    collection: str
    handbook: str
    heard: Heard

    def http(self, name: str) -> httpx.Client:
        return self.stack.client(self.keys[name])

    def ask(self, name: str, **body: Any) -> dict[str, Any]:
        whole = {
            "model": "default",
            "messages": [{"role": "user", "content": QUESTION}],
            "collections": [self.collection],
        }
        with self.http(name) as client:
            answer = client.post("/v1/chat/completions", json=whole | body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def brain(self, name: str, *arguments: str) -> Result:
        """Run the command as somebody."""
        given = ["--url", self.stack.base_url, "--key", self.keys[name], *arguments]
        return CliRunner().invoke(app, given, env={"COLUMNS": "160"}, catch_exceptions=True)

    def told(self, topic: str) -> list[Any]:
        """Return what the event log holds on a topic."""
        kinds: dict[str, Any] = {"answer": answer_pb2.AnswerEvent, "feedback": feedback_pb2.FeedbackEvent}
        events = [
            kinds[topic].FromString(record.envelope.payload) for record in self.heard.records(f"brain.{topic}.v1")
        ]
        return [getattr(event, event.WhichOneof("fact")) for event in events]

    def has(self, blob_key: str) -> bool:
        """Return whether the store holds something under the key."""
        return asyncio.run(self.stack.open_blobs().exists(blob_key))

    def event(self, topic: str, kind: str, **fields: str) -> Any:
        """Wait for an event and return it."""

        def found() -> list[Any]:
            return [
                one
                for one in self.told(topic)
                if type(one).__name__ == kind and all(getattr(one, name) == value for name, value in fields.items())
            ]

        self.stack.wait_until(lambda: bool(found()), timeout_s=30)
        return found()[0]


def new_key(root: httpx.Client, name: str, role: str, **more: object) -> str:
    answer = root.post("/brain/v1/keys", json={"subject": f"mill-{name}", "roles": [role], **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["secret"])


@pytest.fixture(scope="module")
def mill(scripted_stack: RunningStack) -> Iterator[Mill]:
    with scripted_stack.client(scripted_stack.administrator_key) as root:
        people = {"mara": "viewer", "otto": "viewer", "tim": "contributor", "cora": "curator"}
        keys = {name: new_key(root, name, role, groups=["mill"]) for name, role in people.items()}
        collection = root.post("/brain/v1/collections", json={"name": "mill"}).json()["id"]
        query = {"collection": collection, "filename": "travel.md", "access": "group:mill"}
        made = root.post("/brain/v1/documents", params=query, content=HANDBOOK)
        assert made.status_code == 202, made.text
        handbook = str(made.json()["document"]["id"])
        scripted_stack.wait_until(
            lambda: root.get(f"/brain/v1/documents/{handbook}").json()["state"] in {"indexed", "failed"}
        )
        heard = Heard(scripted_stack)
        yield Mill(scripted_stack, root, keys, collection, handbook, heard)
        heard.close()


def test_thumbs_and_edits_are_kept_for_who_asked_and_told(mill: Mill) -> None:
    answer = mill.ask("mara")
    receipt = answer["receipt_id"]
    given = mill.event("answer", "AnswerGiven", receipt_id=receipt)
    assert given.outcome == answer_pb2.ANSWER_OUTCOME_ANSWERED
    assert (given.model, list(given.collection_ids)) == (given.asked_model, [mill.collection])
    with mill.http("mara") as mara:
        assert mara.get(f"/brain/v1/receipts/{receipt}").json()["asked_model"] == given.asked_model
        thumb = mara.post("/brain/v1/feedback", json={"receipt_id": receipt, "thumb": "down", "comment": "Too long."})
        assert thumb.status_code == 201, thumb.text
        assert thumb.json()["rater"] == "user:mill-mara"
        again = mara.post("/brain/v1/feedback", json={"receipt_id": receipt, "thumb": "up"}).json()
        assert again["replaced"] == thumb.json()["id"]

    edited = mill.brain("mara", "feedback", "edit", receipt, BETTER, "--json")
    edit = json.loads(edited.stdout)
    told = mill.event("feedback", "FeedbackGiven", feedback_id=edit["id"])
    assert told.kind == feedback_pb2.FEEDBACK_KIND_EDIT
    assert [source.document_id for source in told.sources] == [mill.handbook]
    blob = asyncio.run(mill.stack.open_blobs().get(told.blob_key))
    content = feedback_pb2.FeedbackContent.FromString(blob)
    assert (content.turns[-1].content, content.edited) == (QUESTION, BETTER)
    assert content.answers[0] == answer["choices"][0]["message"]["content"]
    mill.event("feedback", "FeedbackWithdrawn", feedback_id=thumb.json()["id"])

    with mill.http("mara") as mara:
        mine = mara.get("/brain/v1/feedback").json()["data"]
        assert [one["kind"] for one in mine] == ["edit", "thumb_up"]
        assert mine[0]["answers"][0]["text"] == content.answers[0]


def test_anothers_receipt_and_feedback_are_not_there(mill: Mill) -> None:
    receipt = mill.ask("mara")["receipt_id"]
    with mill.http("mara") as mara:
        given = mara.post("/brain/v1/feedback", json={"receipt_id": receipt, "thumb": "up"}).json()["id"]
    with mill.http("otto") as otto:
        answer = otto.post("/brain/v1/feedback", json={"receipt_id": receipt, "thumb": "up"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "receipt_id")
        assert otto.get(f"/brain/v1/feedback/{given}").status_code == 404
        assert otto.delete(f"/brain/v1/feedback/{given}").status_code == 404
        assert otto.get("/brain/v1/feedback").json()["data"] == []
        assert otto.get("/brain/v1/feedback?rater=user:mill-mara").status_code == 403
        assert otto.post("/brain/v1/feedback/export", json={}).status_code == 403
        assert otto.get("/brain/v1/agreement").status_code == 403
    assert isinstance(mill.brain("otto", "feedback", "up", receipt).exception, NotFoundError)
    foreign = mill.stack.key("mill-boss", tenant="elsewhere", role="administrator")
    with mill.stack.client(foreign) as boss:
        assert boss.get(f"/brain/v1/feedback/{given}").status_code == 404
        assert boss.get("/brain/v1/feedback").json()["data"] == []
        assert boss.post("/brain/v1/feedback/export", json={}).headers["x-brain-judgements"] == "0"


def test_sampled_answers_are_ranked_by_people_who_may_read_and_exported_as_pairs(mill: Mill) -> None:
    made = mill.brain("tim", "rank", QUESTION, "-c", mill.collection, "--answers", "3", "--json")
    (comparison,) = json.loads(made.stdout)
    texts = {answer["label"]: answer["text"] for answer in comparison["answers"]}
    assert len(set(texts.values())) == len(texts) >= 2
    with mill.stack.client(new_key(mill.root, "guest", "viewer")) as guest:
        assert guest.get("/brain/v1/comparisons").json()["data"] == []
        assert guest.get(f"/brain/v1/comparisons/{comparison['id']}").status_code == 404

    best = comparison["answers"][0]["id"]
    for name in ("mara", "otto"):
        (waiting,) = json.loads(mill.brain(name, "rank", "-c", mill.collection, "--json").stdout)
        assert waiting["id"] == comparison["id"]
        first = next(one["label"] for one in waiting["answers"] if one["id"] == best)
        rest = "=".join(one["label"] for one in waiting["answers"] if one["id"] != best)
        ranked = mill.brain(name, "rank", "--comparison", waiting["id"], "--order", f"{first} {rest}", "--json")
        assert json.loads(ranked.stdout)["kind"] == "ranking", ranked.output
        assert "Nothing waits" in mill.brain(name, "rank", "-c", mill.collection).output

    exported = mill.brain("cora", "feedback", "export", "--kind", "ranking", "-c", mill.collection)
    rows = [json.loads(line) for line in exported.stdout.splitlines()]
    assert len(rows) == 2 * (len(texts) - 1)
    assert {row["preferred_output"][0]["content"] for row in rows} == {texts["A"]}
    assert {row["brain"]["rater"] for row in rows} == {"user:mill-mara", "user:mill-otto"}
    assert all({"document": mill.handbook, "version": 1} in row["brain"]["sources"] for row in rows)
    with mill.http("cora") as cora:
        score = cora.get("/brain/v1/agreement", params={"collection": mill.collection}).json()["rankings"]
    assert (score["status"], score["alpha"], score["raters"]) == ("measured", 1.0, 2)
    assert "1.000" in mill.brain("cora", "feedback", "agreement", "-c", mill.collection).output

    with mill.http("tim") as tim:
        assert tim.delete(f"/brain/v1/comparisons/{comparison['id']}").json()["rankings"] == 2


def test_raters_of_equal_answers_are_compared(mill: Mill) -> None:
    for name, thumb in (("otto", "up"), ("tim", "up"), ("mara", "down")):
        receipt = mill.ask(name, messages=[{"role": "user", "content": "Who books the train ticket?"}])["receipt_id"]
        with mill.http(name) as client:
            client.post("/brain/v1/feedback", json={"receipt_id": receipt, "thumb": thumb})
    with mill.http("cora") as cora:
        score = cora.get("/brain/v1/agreement", params={"collection": mill.collection}).json()["thumbs"]
    assert score["units"] >= 1
    assert score["raters"] == 3
    # Two up, one down on one answer, whatever else mara said of others alone: no better than chance.
    assert score["alpha"] <= 0


def test_an_export_leaves_out_what_its_reader_may_not_read_any_more(mill: Mill) -> None:
    with mill.http("mara") as mara, mill.http("cora") as cora:
        receipt = mill.ask("mara")["receipt_id"]
        mara.post("/brain/v1/feedback", json={"receipt_id": receipt, "thumb": "up"})
        before = cora.post("/brain/v1/feedback/export", json={"kind": "thumb_up", "collection": mill.collection})
        assert before.headers["x-brain-unreadable"] == "0"
        assert any(row["label"] for row in map(json.loads, before.text.splitlines()))

        access = f"/brain/v1/documents/{mill.handbook}/access"
        try:
            assert mill.root.put(access, json={"access": ["user:mill-tim"]}).status_code == 200
            after = cora.post("/brain/v1/feedback/export", json={"kind": "thumb_up", "collection": mill.collection})
            assert after.text == ""
            assert after.headers["x-brain-unreadable"] == after.headers["x-brain-judgements"] != "0"
            listed = cora.get("/brain/v1/feedback", params={"collection": mill.collection})
            assert {one["available"] for one in listed.json()["data"]} == {False}
            assert "first class" not in listed.text
            assert {one["available"] for one in mara.get("/brain/v1/feedback").json()["data"]} == {False}
        finally:
            mill.root.put(access, json={"access": ["group:mill"]})


def test_what_is_withdrawn_is_gone_and_told(mill: Mill) -> None:
    with mill.http("mara") as mara:
        answer = mill.ask("mara", store=True)
        given = mara.post("/brain/v1/feedback", json={"receipt_id": answer["receipt_id"], "thumb": "up"}).json()["id"]
        told = mill.event("feedback", "FeedbackGiven", feedback_id=given)
        blob = told.blob_key
        assert mill.has(blob)
        assert "is gone" in mill.brain("mara", "feedback", "withdraw", given).output
        assert not mill.has(blob)
        assert mara.get(f"/brain/v1/feedback/{given}").status_code == 404
        mill.event("feedback", "FeedbackWithdrawn", feedback_id=given)

        again = mara.post("/brain/v1/feedback", json={"receipt_id": answer["receipt_id"], "thumb": "up"}).json()["id"]
        told = mill.event("feedback", "FeedbackGiven", feedback_id=again)
        assert mara.delete(f"/brain/v1/conversations/{answer['conversation_id']}").json()["receipts"] == 1
        mill.event("feedback", "FeedbackWithdrawn", feedback_id=again)
        assert not mill.has(told.blob_key)
        assert mara.get(f"/brain/v1/feedback/{again}").status_code == 404
