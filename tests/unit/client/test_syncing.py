from pathlib import Path

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


def test_documents_are_waited_for_until_they_are_final() -> None:
    manifest = [
        entry("a", "a"),
        entry("b", "b", state="parsing"),
        entry("c", "c", state="failed", reason="It is encrypted."),
    ]
    assert unfinished(manifest) == 1
    assert failures(manifest) == {"c": "It is encrypted."}
