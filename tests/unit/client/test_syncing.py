from pathlib import Path

import httpx

from client.syncing import carry_out, failures, plan_sync, unfinished
from tests.unit.client.wire import Wire, entry


def folder(tmp_path: Path) -> Path:
    (tmp_path / "handbook").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "handbook" / "leave.md").write_text("28 days")
    (tmp_path / "handbook" / "hours.md").write_text("37 hours")
    (tmp_path / "new.md").write_text("new")
    (tmp_path / ".git" / "config").write_text("hidden")
    return tmp_path


def test_a_folder_is_compared_by_content(tmp_path: Path) -> None:
    known = [entry("handbook/leave.md", "28 days"), entry("handbook/hours.md", "38 hours"), entry("gone.md", "x")]
    plan = plan_sync(folder(tmp_path), known)
    assert plan.new == ("new.md",)
    assert plan.changed == ("handbook/hours.md",)
    assert plan.vanished == {"gone.md": "doc_gone"}
    assert plan.unchanged == 1
    assert plan.uploads == ("new.md", "handbook/hours.md")


def test_what_differs_is_uploaded_and_what_vanished_is_deleted(tmp_path: Path) -> None:
    wire = Wire()
    wire.on("POST", "/brain/v1/documents", {"document": {"id": "doc_1"}, "unchanged": False}, 202)
    wire.on("DELETE", "/brain/v1/documents/doc_gone", {"state": "deleting"}, 202)
    root = folder(tmp_path)
    plan = plan_sync(root, [entry("handbook/hours.md", "38 hours"), entry("gone.md", "x")])
    done: list[str] = []
    with wire.gateway() as gateway:
        carry_out(
            gateway,
            "vs_1",
            root,
            plan,
            keep_vanished=False,
            access_of=lambda _key: ["group:everyone"],
            attributes_of=lambda key: {"path": key},
            on_step=done.append,
        )
    assert done == ["handbook/leave.md", "new.md", "handbook/hours.md", "gone.md"]
    changed = wire.requests[2].url.params
    # A new version keeps the access list that somebody may have narrowed since.
    assert (changed["key"], "access" in changed, "attributes" in changed) == ("handbook/hours.md", False, False)


def test_what_vanished_may_be_kept(tmp_path: Path) -> None:
    wire = Wire()
    plan = plan_sync(tmp_path, [entry("gone.md", "x")])
    with wire.gateway() as gateway:
        carry_out(
            gateway,
            "vs_1",
            tmp_path,
            plan,
            keep_vanished=True,
            access_of=lambda _key: None,
            attributes_of=lambda _key: None,
            on_step=lambda _key: None,
        )
    assert wire.requests == []


def test_what_failed_is_brought_again_though_its_bytes_are_the_same(tmp_path: Path) -> None:
    root = folder(tmp_path)
    known = [
        entry("handbook/leave.md", "28 days", state="failed", reason="The reader ended without a result."),
        entry("handbook/hours.md", "37 hours", state="cancelled"),
        entry("new.md", "new"),
    ]
    plan = plan_sync(root, known)
    assert (plan.new, plan.changed, plan.unchanged) == ((), (), 3)
    assert sorted(plan.uploads) == ["handbook/hours.md", "handbook/leave.md"]


def test_one_file_that_is_refused_does_not_hold_up_the_others(tmp_path: Path) -> None:
    wire = Wire()
    answers = iter([(413, "file: more than 9 bytes."), (202, ""), (403, "key: somebody else's.")])

    def upload(_request: httpx.Request) -> httpx.Response:
        status, message = next(answers)
        body = {"error": {"message": message}} if message else {"document": {"id": "doc_1"}, "unchanged": False}
        return httpx.Response(status, json=body)

    wire.on_call("POST", "/brain/v1/documents", upload)
    wire.on("DELETE", "/brain/v1/documents/doc_theirs", {"error": {"message": "its owner only."}}, 403)
    wire.on("DELETE", "/brain/v1/documents/doc_last", {"state": "deleting"}, 202)
    root = folder(tmp_path)
    refused: dict[str, str] = {}
    plan = plan_sync(root, [entry("theirs.md", "x"), entry("gone.md", "x"), entry("last.md", "x")])
    with wire.gateway() as gateway:
        carry_out(
            gateway,
            "vs_1",
            root,
            plan,
            keep_vanished=False,
            access_of=lambda _key: None,
            attributes_of=lambda _key: None,
            on_step=lambda _key: None,
            on_refused=refused.__setitem__,
        )
    assert refused == {
        "handbook/hours.md": "file: more than 9 bytes.",
        "new.md": "key: somebody else's.",
        "theirs.md": "its owner only.",
    }
    assert [request.method for request in wire.requests] == ["POST"] * 3 + ["DELETE"] * 3


def test_documents_are_waited_for_until_they_are_final() -> None:
    manifest = [
        entry("a", "a"),
        entry("b", "b", state="parsing"),
        entry("c", "c", state="failed", reason="It is encrypted."),
    ]
    assert unfinished(manifest) == 1
    assert failures(manifest) == {"c": "It is encrypted."}
