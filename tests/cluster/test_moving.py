"""From one machine to a cluster: ids, rights, conversations, judgements, adapters and keys stay as they are."""

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.chassis.blobs import open_blobs
from tests.cluster_servers import ClusterServers
from tests.cluster_stack import back_ends
from tests.faults.documents import text
from tests.moved_stacks import answers, asked, exported, found, imported, started
from tests.running_stack import RunningStack, indexed, new_collection
from tests.tiny_adapter import write_adapter

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

ENGINE = "scripted://?mode=extract"
PUBLIC, CLOSED, GONE, REPLACED = range(40), range(40, 52), range(52, 58), range(12)
TOTAL = len(PUBLIC) + len(CLOSED)
ASKED = [f"How many grams does the instrument Fern-{number:04d} weigh?" for number in range(50)]
ALIAS = "weights-desk"


@dataclass(frozen=True)
class Office:
    """What was there before, and the keys that must open it afterwards."""

    keys: dict[str, str]
    collection: str
    before: dict[str, Any]
    moved: RunningStack
    archive: Path

    def client(self, who: str) -> httpx.Client:
        return self.moved.client(self.keys[who])


def put(client: httpx.Client, collection: str, number: int, content: str, **about: str) -> str:
    params = {"collection": collection, "filename": f"fern-{number}.md", "key": f"fern-{number}", **about}
    answer = client.post("/brain/v1/documents", params=params, content=content.encode())
    assert answer.is_success, answer.text
    return str(answer.json()["document"]["id"])


def fill(root: httpx.Client, collection: str) -> dict[str, str]:
    """Bring documents, change some, delete others; return what is needed to ask for them."""
    ids = {}
    for number in REPLACED:
        put(root, collection, number, f"# Draft {number}\n\nNothing is known of the instrument yet.\n")
    indexed(root, collection, len(REPLACED))
    for number in (*PUBLIC, *CLOSED, *GONE):
        access = {"access": "group:board"} if number in CLOSED else {"access": "group:everyone"}
        given = {} if number in REPLACED else access
        ids[f"{number}"] = put(root, collection, number, text(number), **given)
    indexed(root, collection, TOTAL + len(GONE))
    for number in GONE:
        assert root.delete(f"/brain/v1/documents/{ids[f'{number}']}").is_success
    RunningStack.wait_until(
        lambda: all(root.get(f"/brain/v1/deletions/{ids[f'{number}']}").json()["state"] == "deleted" for number in GONE)
    )
    changed = ids["39"]
    assert root.put(f"/brain/v1/documents/{changed}/access", json={"access": ["group:board"]}).is_success
    assert root.put(f"/brain/v1/documents/{ids['5']}/attributes", json={"attributes": {"team": "optics"}}).is_success
    return ids


def adapter(root: httpx.Client, folder: Path) -> str:
    """Publish an adapter and let an alias lead to it; return its name."""
    files = write_adapter(folder)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            target.write(files / name, name)
    kept = root.post("/v1/files", files={"file": ("a.zip", packed.getvalue())}, data={"purpose": "fine-tune"}).json()
    body = {"file_id": kept["id"], "suffix": "weights", "access": ["group:everyone"]}
    made = root.post("/brain/v1/adapters", json=body)
    assert made.status_code == 201, made.text
    name = str(made.json()["name"])
    promoted = root.post(
        "/brain/v1/promotions",
        json={"alias": ALIAS, "candidate": name, "canary_weight": 0, "skip_gate_reason": "it is the first"},
    )
    assert promoted.is_success, promoted.text
    return name


def holdings(client: httpx.Client, collection: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that must be the same before and after."""

    def get(path: str, **params: Any) -> Any:
        answer = client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    lines = client.get(f"/brain/v1/collections/{collection}/manifest").text.splitlines()
    return {
        "documents": [json.loads(line) for line in lines],
        "collection": get(f"/v1/vector_stores/{collection}"),
        "files": get("/v1/files", limit=1000),
        "conversations": get("/brain/v1/conversations"),
        "turns": get(f"/brain/v1/conversations/{known['conversation']}"),
        "receipt": get(f"/brain/v1/receipts/{known['receipt']}"),
        "feedback": get("/brain/v1/feedback"),
        "deletion": get(f"/brain/v1/deletions/{known['deleted']}"),
        "adapter": get(f"/brain/v1/adapters/{known['adapter']}"),
        "aliases": get("/brain/v1/aliases"),
        "keys": get("/brain/v1/keys"),
    }


def models(client: httpx.Client) -> set[str]:
    return {model["id"] for model in client.get("/v1/models").json()["data"]}


@pytest.fixture(scope="module")
def office(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    base = tmp_path_factory.mktemp("moving")
    archive = base / "archive"
    with started(base / "machine", {}, engine=ENGINE) as stack:
        assert not stack.environment, "this one stands on the embedded back ends"
        keys = {
            "root": stack.administrator_key,
            "board": stack.key("bea", groups=("board",)),
            "reader": stack.key("rita", role="viewer"),
        }
        with stack.client(keys["root"]) as root:
            collection = new_collection(root, "instruments")
            ids = fill(root, collection)
            turn = {"role": "user", "content": ASKED[17]}
            answer = root.post(
                "/v1/chat/completions",
                json={"model": "default", "collections": [collection], "messages": [turn], "store": True},
            ).json()
            judged = root.post("/brain/v1/feedback", json={"receipt_id": answer["receipt_id"], "thumb": "up"})
            assert judged.status_code == 201, judged.text
            known = {
                "conversation": answer["conversation_id"],
                "receipt": answer["receipt_id"],
                "deleted": ids["53"],
                "adapter": adapter(root, base / "adapter"),
            }
            stack.wait_until(lambda: {known["adapter"], ALIAS} <= models(root))
            before = known | {
                "holdings": holdings(root, collection, known),
                "passages": found(root, collection, ASKED),
                "answers": answers(root, collection, ASKED[:10]),
                "models": models(root),
            }
        with stack.client(keys["reader"]) as reader:
            before["reader"] = found(reader, collection, ASKED)
    # It is stopped; the archive holds no secrets.
    done = exported(base / "machine", {}, archive)
    with ExitStack() as held:
        chosen = held.enter_context(back_ends(base / "secrets"))
        home = base / "pod"
        assert "api-keys.secret is not there" in asked(home, chosen, "import", str(archive))
        (home / "keys").mkdir(parents=True, mode=0o700)
        for name, path in done["bring_by_hand"].items():
            (home / "keys" / name).write_bytes(Path(path).read_bytes())
        brought = imported(home, chosen, archive)
        assert brought["rooms"] == done["rooms"]
        assert brought["rebuild"] is False
        moved = held.enter_context(started(home, chosen, engine=ENGINE))
        yield Office(keys, collection, before, moved, archive)


def test_everything_has_its_id_and_its_words(office: Office) -> None:
    with office.client("root") as root:
        office.moved.wait_until(lambda: {office.before["adapter"], ALIAS} <= models(root))
        after = holdings(root, office.collection, office.before)
        kept = {identity["id"]: identity for identity in after["keys"]["data"]}
        for key in office.before["holdings"].pop("keys")["data"]:
            assert kept[key["id"]] == key
        del after["keys"]
        assert after == office.before["holdings"]
        assert models(root) == office.before["models"]


def test_fifty_questions_find_the_same_first_five_passages(office: Office) -> None:
    with office.client("root") as root:
        after = found(root, office.collection, ASKED)
        same = sum(one == other for one, other in zip(after, office.before["passages"], strict=True))
        assert all(len(passages) == 5 for passages in office.before["passages"])
        assert same >= 48, f"{same} of {len(ASKED)}"
        assert answers(root, office.collection, ASKED[:10]) == office.before["answers"]


def test_rights_hold(office: Office) -> None:
    with office.client("board") as board, office.client("reader") as reader:
        for number in ("0039", "0041"):
            question = [f"How heavy is Fern-{number}?"]
            assert any(f"Fern-{number}" in text for _, text in found(board, office.collection, question)[0])
            assert not any(f"Fern-{number}" in text for _, text in found(reader, office.collection, question)[0])
        after = found(reader, office.collection, ASKED)
        same = sum(one == other for one, other in zip(after, office.before["reader"], strict=True))
        assert same >= 48, f"{same} of {len(ASKED)}"
        assert reader.get(f"/brain/v1/receipts/{office.before['receipt']}").status_code == 404


def test_what_was_deleted_is_not_there(office: Office) -> None:
    blobs = open_blobs(office.moved.environment["BRAIN_INGESTION_BLOBS_URL"])
    with office.client("root") as root:
        for number in GONE:
            passages = found(root, office.collection, [f"How heavy is Fern-{number:04d}?"])[0]
            assert not any(f"Fern-{number:04d}" in text for _, text in passages)
    keys = asyncio.run(blobs.list(""))
    assert keys
    assert not [key for key in keys if office.before["deleted"] in key]


def test_work_goes_on_in_the_cluster(office: Office) -> None:
    with office.client("root") as root:
        put(root, office.collection, 3, "# Fern-0003\n\nThe instrument called Fern-0003 was melted down.\n")
        office.moved.wait_until(
            lambda: any("melted" in text for _, text in found(root, office.collection, ["Fern-0003 melted down"])[0])
        )
        document = root.get("/brain/v1/documents", params={"collection": office.collection, "name": "fern-3.md"})
        assert document.json()["data"][0]["version"] == 3
        again = root.post("/brain/v1/feedback", json={"receipt_id": office.before["receipt"], "thumb": "down"})
        assert again.status_code == 201, again.text
        assert again.json()["replaced"]
        answer = root.post(
            "/v1/chat/completions",
            json={
                "model": "default",
                "messages": [{"role": "user", "content": "And the next one?"}],
                "conversation_id": office.before["conversation"],
            },
        )
        assert answer.status_code == 200, answer.text
        turns = root.get(f"/brain/v1/conversations/{office.before['conversation']}").json()["turns"]
        assert len(turns) == 4


def test_the_command_says_what_stands_in_the_way(tmp_path: Path) -> None:
    said = asked(tmp_path / "nowhere", {}, "export", str(tmp_path / "archive"))
    assert said == f"export failed: state-dir: there is no installation in '{tmp_path}/nowhere'."
    (tmp_path / "archive").mkdir()
    said = asked(tmp_path / "new", {}, "import", str(tmp_path / "archive"))
    assert "holds no manifest.json: it is no archive, or one whose export did not end." in said
