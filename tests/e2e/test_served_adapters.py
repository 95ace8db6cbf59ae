"""Adapters and aliases through the whole stack: what the models' list shows, who answers, who is refused."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adapter_announcer import BLOCKED, Announcer
from tests.running_stack import RunningStack, indexed, new_collection, upload
from tests.tiny_adapter import write_adapter

BASE = "scripted-extract"
NAME = f"ft:{BASE}:main:leave:1"
ALIAS = "leave-desk"


@dataclass(frozen=True)
class Desk:
    """A stack with an adapter for the group hr, and an alias that leads to it."""

    stack: RunningStack
    root: httpx.Client
    hanna: httpx.Client
    other: httpx.Client
    # What each of them sees of other tests' adapters on the same stack.
    before: dict[httpx.Client, set[str]]

    def new(self, client: httpx.Client) -> dict[str, dict[str, Any]]:
        return {name: it for name, it in models(client).items() if name not in self.before[client]}

    def announce(self, revision: int, folder: Path, **changed: Any) -> None:
        asyncio.run(self._announce(revision, folder, **changed))

    async def _announce(self, revision: int, folder: Path, **changed: Any) -> None:
        log = self.stack.open_log()
        announcer = Announcer(log, self.stack.open_blobs(), "main")
        files = await announcer.put(folder)
        await announcer.adapter(NAME, revision, files, principals=["group:hr"], **changed)
        await announcer.alias(ALIAS, NAME, revision)
        await log.close()


def models(client: httpx.Client) -> dict[str, dict[str, Any]]:
    answer = client.get("/v1/models")
    assert answer.status_code == 200, answer.text
    assert [model["id"] for model in answer.json()["data"]] == [model["name"] for model in answer.json()["models"]]
    return {model["id"]: model for model in answer.json()["data"]}


def ask(client: httpx.Client, model: str, text: str = "Hello there.", **more: Any) -> httpx.Response:
    return client.post(
        "/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": text}], **more}
    )


@pytest.fixture(scope="module")
def desk(scripted_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    stack = scripted_stack
    with (
        stack.client(stack.administrator_key) as root,
        stack.client(stack.key("hanna", groups=("hr",))) as hanna,
        stack.client(stack.key("otto")) as other,
    ):
        adapters = {client: set(models(client)) - {BASE} for client in (root, hanna, other)}
        desk = Desk(stack, root, hanna, other, adapters)
        desk.announce(1, write_adapter(tmp_path_factory.mktemp("adapter") / "files"))
        stack.wait_until(lambda: NAME in models(hanna))
        yield desk
        desk.announce(9, write_adapter(tmp_path_factory.mktemp("adapter") / "files"), status=BLOCKED)
        stack.wait_until(lambda: NAME not in models(root))


def test_adapters_and_aliases_are_listed_for_their_audience(desk: Desk) -> None:
    for client in (desk.hanna, desk.root):
        shown = desk.new(client)
        assert {name: (it["parent"], it["owned_by"], it["alias"]) for name, it in shown.items()} == {
            BASE: (None, "corporate-brain", False),
            NAME: (BASE, "main", False),
            ALIAS: (NAME, "main", True),
        }
        for name in (NAME, ALIAS):
            one = client.get(f"/v1/models/{name}")
            assert one.status_code == 200, one.text
            assert one.json()["id"] == one.json()["name"] == name
    assert list(desk.new(desk.other)) == [BASE]
    assert desk.other.get(f"/v1/models/{NAME}").status_code == 404


def test_an_alias_answers_as_the_adapter_that_it_leads_to(desk: Desk) -> None:
    for asked in (NAME, ALIAS):
        answer = ask(desk.hanna, asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == NAME
        assert answer.json()["choices"][0]["message"]["content"].startswith(f"«{NAME}»")
    refused = ask(desk.other, ALIAS)
    assert refused.status_code == 404
    assert refused.json()["error"]["param"] == "model"
    completed = desk.hanna.post("/v1/completions", json={"model": ALIAS, "prompt": "Once", "max_tokens": 8})
    assert completed.status_code == 200, completed.text
    assert completed.json()["model"] == NAME


def test_an_adapter_answers_from_documents(desk: Desk) -> None:
    collection = new_collection(desk.hanna, "leave")
    upload(desk.hanna, collection, "leave.md", "# Leave\n\nEmployees of Larkspur get 31 days of paid leave a year.\n")
    indexed(desk.hanna, collection, 1)
    question = "How many days of paid leave do employees of Larkspur get?"
    answer = ask(desk.hanna, ALIAS, question, collections=[collection])
    assert answer.status_code == 200, answer.text
    assert "31 days" in answer.json()["choices"][0]["message"]["content"]
    assert answer.json()["citations"]


def test_a_blocked_adapter_is_refused_by_name_and_by_alias(desk: Desk, tmp_path: Path) -> None:
    desk.announce(2, write_adapter(tmp_path / "files"), status=BLOCKED, reason="document_deleted")
    desk.stack.wait_until(lambda: NAME not in models(desk.hanna))
    for asked in (NAME, ALIAS):
        for stream in (False, True):
            refused = ask(desk.hanna, asked, stream=stream)
            assert refused.status_code == 403, refused.text
            assert "document_deleted" in refused.json()["error"]["message"]
    assert ask(desk.hanna, "default").status_code == 200
    desk.announce(3, write_adapter(tmp_path / "files"))
    desk.stack.wait_until(lambda: ALIAS in models(desk.hanna))
