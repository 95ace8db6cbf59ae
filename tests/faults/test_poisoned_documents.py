"""Hostile files among good ones: the good ones are searchable, the bad ones say why they are not, no room dies."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.faults.poison import good_files, poisons
from tests.running_stack import RunningStack, indexed, new_collection, running_stack

pytestmark = pytest.mark.timeout(1200)

POISONS = poisons()
GOOD = list(good_files(50))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("poisoned"), engine="scripted://?mode=extract") as running:
        yield running


@pytest.fixture(scope="module")
def documents(stack: RunningStack) -> dict[str, dict[str, Any]]:
    """Upload everything, mixed, and return what became of each by its key; empty files are refused at the door."""
    with stack.client(stack.key("petra", role="curator")) as client:
        collection = new_collection(client, "mixed")
        accepted = 0
        everything = [(f"good-{n}", name, data) for n, (name, data) in enumerate(GOOD)]
        everything += [(f"bad-{n}", poison.filename, poison.data) for n, poison in enumerate(POISONS)]
        # Good and bad in turns.
        everything.sort(key=lambda entry: entry[0].partition("-")[2].zfill(4))
        for key, name, data in everything:
            answer = client.post(
                "/brain/v1/documents",
                params={"collection": collection, "filename": name, "key": key},
                content=data,
            )
            assert answer.status_code in {200, 202, 400}, (key, answer.text)
            accepted += answer.is_success
        indexed(client, collection, accepted, timeout_s=900)
        return {one["key"]: one for one in listed(client, collection)}


def listed(client: httpx.Client, collection: str) -> list[dict[str, Any]]:
    page = client.get("/brain/v1/documents", params={"collection": collection, "limit": 1000})
    assert page.status_code == 200, page.text
    return list(page.json()["data"])


def test_there_are_enough_of_both() -> None:
    assert len(POISONS) >= 40
    assert len(GOOD) == 50


def test_every_good_document_is_searchable(stack: RunningStack, documents: dict[str, dict[str, Any]]) -> None:
    states = [documents[f"good-{number}"]["state"] for number in range(len(GOOD))]
    assert states == ["indexed"] * len(GOOD)
    collection = documents["good-0"]["collection"]
    with stack.client(stack.key("petra", role="curator")) as client:
        for number, (filename, _) in enumerate(GOOD):
            query = {
                "query": f"When does office {number} open, and in which drawer are its keys?",
                "max_num_results": 50,
            }
            hits = client.post(f"/v1/vector_stores/{collection}/search", json=query).json()["data"]
            assert [hit["filename"] for hit in hits].count(filename) == 1, filename


def test_every_bad_document_says_why(documents: dict[str, dict[str, Any]]) -> None:
    failed = [key for key, document in documents.items() if document["state"] == "failed"]
    assert len(failed) >= 40
    assert all(key.startswith("bad-") for key in failed)
    for number, poison in enumerate(POISONS):
        document = documents.get(f"bad-{number}")
        if document is None:
            continue
        if poison.reason is None:
            assert document["state"] == "indexed", (poison.filename, document["failure"])
        else:
            assert document["state"] == "failed", poison.filename
            assert poison.reason in document["failure"]["reason"], (poison.filename, document["failure"])


def test_no_room_died(stack: RunningStack, documents: dict[str, dict[str, Any]]) -> None:
    assert {name: room["restarts"] for name, room in stack.state["rooms"].items()} == dict.fromkeys(
        stack.state["rooms"], 0
    )
