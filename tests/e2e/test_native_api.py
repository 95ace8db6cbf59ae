"""The native API through the whole stack: a document's life, an answer's receipt, why-not, keys and the audit log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.running_stack import RunningStack

LEAVE = "# Leave\n\nEvery employee of Larkspur Instruments has 31 days of paid leave a year.\n"
SALARIES = "# Salaries\n\nThe salary band of junior engineers at Larkspur Instruments begins at 48,200 euros.\n"


@dataclass(frozen=True)
class Office:
    """A collection with a document for everybody and one for the board."""

    stack: RunningStack
    root: httpx.Client
    mara: httpx.Client
    collection: str
    leave: str
    salaries: str

    def bring(self, client: httpx.Client, filename: str, content: str | bytes, **query: str) -> dict[str, object]:
        answer = client.post(
            "/brain/v1/documents",
            params={"collection": self.collection, "filename": filename} | query,
            content=content,
        )
        assert answer.status_code in {200, 202}, answer.text
        return dict(answer.json())

    def settled(self, document: str) -> dict[str, object]:
        """Return a document when it has reached a final state."""
        final = {"indexed", "failed", "cancelled"}
        self.stack.wait_until(lambda: self.root.get(f"/brain/v1/documents/{document}").json()["state"] in final)
        return dict(self.root.get(f"/brain/v1/documents/{document}").json())

    def why(self, client: httpx.Client, **body: object) -> dict[str, object]:
        question = {"question": "How many days of paid leave do I have?", "collections": [self.collection]}
        answer = client.post("/brain/v1/explain", json=question | body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def found(self, client: httpx.Client, query: str) -> list[str]:
        answer = client.post("/brain/v1/search", json={"query": query, "collections": [self.collection], "top_k": 3})
        assert answer.status_code == 200, answer.text
        return [one["document"] for one in answer.json()["data"]]


def new_key(root: httpx.Client, **body: object) -> dict[str, str]:
    answer = root.post("/brain/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.fixture(scope="module")
def office(scripted_stack: RunningStack) -> Iterator[Office]:
    with scripted_stack.client(scripted_stack.administrator_key) as root:
        secret = new_key(root, subject="mara", roles=["viewer"], groups=["staff"])["secret"]
        collection = root.post("/brain/v1/collections", json={"name": "office"}).json()["id"]
        with scripted_stack.client(secret) as mara:
            half = Office(scripted_stack, root, mara, collection, "", "")
            leave = half.bring(root, "leave.md", LEAVE, key="hr/leave.md", access="group:staff")["document"]
            salaries = half.bring(root, "salaries.md", SALARIES, key="hr/salaries.md", access="group:board")["document"]
            full = Office(scripted_stack, root, mara, collection, str(leave["id"]), str(salaries["id"]))  # type: ignore[index]
            for document in (full.leave, full.salaries):
                assert full.settled(document)["state"] == "indexed"
            yield full


def test_the_same_bytes_again_change_nothing_and_other_bytes_are_a_version(office: Office) -> None:
    first = office.bring(office.root, "note.md", "# Note\n\nThe kettle is blue.", key="note.md", access="group:staff")
    identity = first["document"]["id"]  # type: ignore[index]
    office.settled(identity)
    again = office.bring(office.root, "note.md", "# Note\n\nThe kettle is blue.", key="note.md")
    assert (again["unchanged"], again["document"]["id"]) == (True, identity)  # type: ignore[index]
    changed = office.bring(office.root, "note.md", "# Note\n\nThe kettle is green.", key="note.md")
    assert (changed["unchanged"], changed["document"]["id"]) == (False, identity)  # type: ignore[index]
    assert office.settled(identity)["active_version"] == 2
    text = office.root.get(f"/brain/v1/documents/{identity}/text").json()
    assert "green" in text["text"]
    assert all(text["text"][part["start"] : part["end"]] for part in text["sections"])


def test_lists_hold_what_the_reader_may_see(office: Office) -> None:
    def names(client: httpx.Client, **query: str) -> set[str]:
        answer = client.get("/brain/v1/documents", params={"collection": office.collection} | query)
        return {one["filename"] for one in answer.json()["data"]}

    assert {"leave.md", "salaries.md"} <= names(office.root)
    assert "salaries.md" not in names(office.mara)
    assert names(office.root, key_prefix="hr/") == {"leave.md", "salaries.md"}
    assert names(office.root, name="LEAVE") == {"leave.md"}
    assert names(office.root, state="failed") == set()


def test_the_manifest_is_what_a_folder_is_compared_with(office: Office) -> None:
    answer = office.root.get(f"/brain/v1/collections/{office.collection}/manifest")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0] == {"collection": office.collection}
    keyed = {line["key"]: line for line in lines[1:]}
    assert keyed["hr/leave.md"]["state"] == "indexed"
    assert len(keyed["hr/leave.md"]["digest"]) == 64
    unknown = office.root.get("/brain/v1/collections/vs_none/manifest")
    assert unknown.status_code == 404


def test_narrowing_access_holds_at_once(office: Office) -> None:
    made = office.bring(
        office.root, "wifi.md", "# Wireless\n\nThe guest network is called Heron.", access="group:staff"
    )
    identity = made["document"]["id"]  # type: ignore[index]
    office.settled(identity)
    assert identity in office.found(office.mara, "What is the guest network called?")
    path = f"/brain/v1/documents/{identity}"
    assert office.root.put(f"{path}/access", json={"access": ["group:board"]}).json()["access"] == ["group:board"]
    assert identity not in office.found(office.mara, "What is the guest network called?")
    assert office.mara.get(path).status_code == 404
    assert office.mara.put(f"{path}/access", json={"access": ["user:mara"]}).status_code == 403


def test_deletion_is_counted_to_zero(office: Office) -> None:
    made = office.bring(office.root, "gone.md", "# Gone\n\nThe spare key hangs behind the clock.", access="group:staff")
    identity = made["document"]["id"]  # type: ignore[index]
    office.settled(identity)
    answer = office.root.delete(f"/brain/v1/documents/{identity}")
    assert answer.status_code == 202
    assert identity not in office.found(office.root, "Where hangs the spare key?")
    office.stack.wait_until(
        lambda: office.root.get(f"/brain/v1/deletions/{identity}").json()["completed_at"] is not None
    )
    receipt = office.root.get(f"/brain/v1/deletions/{identity}").json()
    assert receipt["state"] == "deleted"
    assert receipt["stores"]
    assert all(store["counted"] and store["remaining"] == 0 for store in receipt["stores"])
    assert office.root.get(f"/brain/v1/documents/{identity}").status_code == 404


def test_an_answer_has_a_receipt_that_is_read_under_the_rights_of_the_reader(office: Office) -> None:
    answer = office.mara.post(
        "/v2/chat",
        json={
            "model": office.mara.get("/v1/models").json()["data"][0]["id"],
            "messages": [{"role": "user", "content": "How many days of paid leave does an employee have?"}],
            "collections": [office.collection],
            "temperature": 0,
        },
    ).json()
    text = answer["message"]["content"][0]["text"]
    assert "31 days" in text
    assert all(text[one["start"] : one["end"]] == one["text"] for one in answer["message"]["citations"])
    receipt = office.mara.get(f"/brain/v1/receipts/{answer['receipt_id']}").json()
    assert receipt["answer"] == text
    cited = [source for source in receipt["sources"] if source["cited"]]
    assert [source["document"] for source in cited] == [office.leave]
    assert "31 days" in cited[0]["text"]
    again = office.mara.post(f"/brain/v1/receipts/{answer['receipt_id']}/replay").json()
    assert (again["same_prompt"], again["same_answer"], again["difference"]) == (True, True, None)
    told = office.why(office.mara, document="leave.md", receipt_id=answer["receipt_id"])
    assert told["verdict"] == "cited"
    stranger = new_key(office.root, subject="otto", roles=["viewer"])["secret"]
    with office.stack.client(stranger) as otto:
        assert otto.get(f"/brain/v1/receipts/{answer['receipt_id']}").status_code == 404


def test_why_not_is_told_step_by_step(office: Office) -> None:
    assert office.why(office.mara, document="none.md")["verdict"] == "never_ingested"
    assert office.why(office.mara, document=office.leave)["verdict"] == "found"
    broken = office.bring(office.root, "broken.pdf", b"%PDF-1.7 nothing more")["document"]["id"]  # type: ignore[index]
    assert office.settled(broken)["state"] == "failed"
    told = office.why(office.root, document="broken.pdf")
    assert told["verdict"] == "parse_failed"
    assert str(told["document"]["failure"]["reason"]) in str(told["explanation"])  # type: ignore[index]
    low = office.why(office.root, document="salaries.md", top_k=1)
    assert low["verdict"] in {"ranked_too_low", "no_match", "below_threshold"}
    elsewhere = office.root.post("/brain/v1/collections", json={"name": "elsewhere"}).json()["id"]
    assert office.why(office.root, document=office.leave, collections=[elsewhere])["verdict"] == "other_collection"


def test_a_document_of_others_is_not_given_away(office: Office) -> None:
    hidden = office.why(office.mara, document=office.salaries)
    absent = office.why(office.mara, document="doc_01a20df000007000a000000000000000")
    assert hidden == absent
    told = office.why(office.root, document="salaries.md", principals=["user:mara", "group:staff"])
    assert told["verdict"] == "no_permission"
    refused = office.mara.post(
        "/brain/v1/explain", json={"document": "salaries.md", "question": "?", "principals": ["user:otto"]}
    )
    assert refused.status_code == 403


def test_keys_are_shown_once_rotated_and_ended(office: Office) -> None:
    made = new_key(office.root, subject="temp", roles=["viewer"], name="a test")
    with office.stack.client(made["secret"]) as temp:
        assert temp.get("/brain/v1/me").json()["subject"] == "temp"
        listed = {one["id"]: one for one in office.root.get("/brain/v1/keys?limit=100").json()["data"]}
        assert listed[made["id"]]["name"] == "a test"
        assert "secret" not in listed[made["id"]]
        rotated = office.root.post(f"/brain/v1/keys/{made['id']}/rotate", json={})
        assert rotated.status_code == 201
        assert temp.get("/brain/v1/me").status_code == 401
    with office.stack.client(rotated.json()["secret"]) as temp:
        assert temp.get("/brain/v1/me").json()["subject"] == "temp"
        ended = office.root.delete(f"/brain/v1/keys/{rotated.json()['id']}").json()
        assert ended["revoked_at"]
        assert temp.get("/brain/v1/me").status_code == 401


def test_a_key_is_made_once_for_an_idempotency_key(office: Office) -> None:
    headers = {"Idempotency-Key": "one-key-please"}
    body = {"subject": "once", "roles": ["viewer"]}
    assert office.root.post("/brain/v1/keys", json=body, headers=headers).status_code == 201
    # The secret is nowhere kept, so that it cannot be told again.
    assert office.root.post("/brain/v1/keys", json=body, headers=headers).status_code == 409
    subjects = [one["subject"] for one in office.root.get("/brain/v1/keys?limit=100").json()["data"]]
    assert subjects.count("once") == 1


def test_the_audit_log_tells_who_did_what_and_never_content(office: Office) -> None:
    office.root.put(f"/brain/v1/documents/{office.leave}/attributes", json={"attributes": {"year": 2026}})
    answer = office.root.get("/brain/v1/audit?limit=1000")
    entries = answer.json()["data"]
    assert any(
        (entry["subject"], entry["action"], entry["object"])
        == ("admin", "PUT /brain/v1/documents/{document_id}/attributes", office.leave)
        for entry in entries
    )
    for content in ("31 days", "paid leave", "48,200"):
        assert content not in answer.text


def test_status_and_usage_are_told(office: Office) -> None:
    state = office.root.get("/brain/v1/status").json()
    assert state["status"] == "ready"
    assert set(state["rooms"].values()) == {"ready"}
    assert state["documents"]["indexed"] >= 2
    assert office.root.get("/brain/v1/tenant").json()["tenant"] == "main"
    assert "data" in office.root.get("/brain/v1/usage").json()


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/brain/v1/documents?collection=vs_none", None, "filename"),
        ("POST", "/brain/v1/search", {"query": " ", "collections": ["vs_none"]}, "query"),
        ("POST", "/brain/v1/search", {"query": "x", "collections": ["vs_none"], "topk": 3}, "topk"),
        ("POST", "/brain/v1/keys", {"subject": "x", "roles": ["king"]}, "roles[0]"),
        ("POST", "/brain/v1/collections", {"default_access": ["everyone"]}, "default_access[0]"),
        ("GET", "/brain/v1/collections?limit=0", None, "limit"),
    ],
)
def test_a_wrong_field_is_named(office: Office, method: str, path: str, body: object, param: str) -> None:
    answer = office.root.request(method, path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
