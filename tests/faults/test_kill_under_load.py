"""`kill -9` of every room, the real engine's first, while answers stream and documents flow in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest

from tests.faults.audience import Ending, audience
from tests.faults.documents import assert_found_once, assert_rows_once, flowing_in, reachable
from tests.running_stack import RunningStack, indexed, new_collection, running_stack, upload

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

ROOMS = ("generation", "chat", "retrieval", "ingestion", "gateway")
DOCUMENTS = 10
LEAVE = """# Leave policy

Every employee of Fernwood Instruments may take 26 weeks of paid parental leave after the birth or adoption of a child.
"""


@dataclass
class House:
    stack: RunningStack
    key: str
    client: httpx.Client
    policies: str
    instruments: str
    documents: int = 0

    @property
    def grounded(self) -> dict[str, Any]:
        question = "How many weeks of paid parental leave may an employee take?"
        return {
            "model": "default",
            "temperature": 0,
            "messages": [{"role": "user", "content": question}],
            "collections": [self.policies],
        }

    @property
    def plain(self) -> dict[str, Any]:
        # Long enough that a room dies in the middle of it, whatever the model would rather say.
        return {
            "model": "default",
            "max_completion_tokens": 200,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": "Count from one to one thousand in words."}],
        }

    def ask(self) -> httpx.Response:
        return self.client.post("/v1/chat/completions", json=self.grounded)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_stack(tmp_path_factory.mktemp("load"), engine="vllm://") as stack:
        key = stack.key("kira", role="curator")
        with stack.client(key) as client:
            policies = new_collection(client, "policies")
            upload(client, policies, "leave.md", LEAVE)
            indexed(client, policies, 1)
            yield House(stack, key, client, policies, new_collection(client, "instruments"))


def is_alive(process: psutil.Process) -> bool:
    try:
        # One that nobody asks how it ended stays in the table, and holds nothing.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("room", ROOMS)
def test_everybody_is_told_and_nothing_is_lost(house: House, room: str) -> None:
    stack = house.stack
    numbers = range(house.documents, house.documents + DOCUMENTS)
    house.documents += DOCUMENTS
    questions = [("plain", house.plain)] * 3 + [("grounded", house.grounded)] * 2
    with (
        audience(stack, house.key, questions) as people,
        flowing_in(stack, house.key, house.instruments, numbers) as acknowledged,
    ):
        stack.wait_until(lambda: len(acknowledged) >= 2 and people.reading >= 3)
        before = stack.state["rooms"][room]
        family = psutil.Process(before["pid"]).children(recursive=True)
        if room == "generation":
            assert any("EngineCore" in one.name() for one in family), "the engine runs in a process of its own"
        stack.kill(room)
        stack.wait_until(lambda: stack.pid(room) != before["pid"] and stack.ready, timeout_s=420)
        assert stack.state["rooms"][room]["restarts"] == before["restarts"] + 1
        assert not any(is_alive(one) for one in family), "what the room had started must not outlive it"

    assert Ending.SILENT not in people.endings(), people.heard
    assert all("26" in heard.text for heard in people.heard if heard.question == "grounded" and heard.ending == "whole")
    if room in {"generation", "chat"}:
        assert Ending.ERROR in people.endings("plain"), "the kill must have bitten"
    if room == "gateway":
        assert Ending.CUT in people.endings(), "the kill must have bitten"
    else:
        assert Ending.CUT not in people.endings(), people.heard
    if room in {"retrieval", "ingestion"}:
        assert people.endings("plain") == {Ending.WHOLE}, "who asks no document does not notice"

    # Nothing goes on for somebody who is not there any more.
    stack.wait_until(lambda: stack.metric("generation", "brain_generation_inflight_requests") == 0)
    stack.wait_until(lambda: reachable(house.client, house.instruments))
    # Callers look for a room that was away once a second; until then they say that it is away.
    stack.wait_until(lambda: house.ask().status_code != 503)
    answer = house.ask()
    assert answer.status_code == 200, answer.text
    assert "26" in answer.json()["choices"][0]["message"]["content"]
    assert answer.json()["citations"]
    assert indexed(house.client, house.instruments, house.documents)["completed"] == house.documents
    for number in numbers:
        assert_found_once(house.client, house.instruments, number)
    assert_rows_once(stack, house.instruments, house.documents)
