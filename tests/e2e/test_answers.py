"""Documents in, cited answers out, through HTTP and the real engine."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.running_stack import RunningStack, indexed, new_collection, upload

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

LEAVE = """# Leave policy

## Parental leave

Every employee of Fernwood Instruments may take 26 weeks of paid parental leave after the birth or adoption of a child.

## Sabbatical

After seven years of service an employee may take a sabbatical of three months at half pay.
"""
KITCHEN = """# Kitchen rules

The coffee machine on the second floor is cleaned every Friday at noon by the facilities team.
"""


@pytest.fixture(scope="module")
def alice(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.client(stack.key("alice")) as client:
        yield client


@pytest.fixture(scope="module")
def collection(alice: httpx.Client) -> str:
    collection = new_collection(alice, "house")
    for name, text in (("leave.md", LEAVE), ("kitchen.md", KITCHEN)):
        upload(alice, collection, name, text)
    indexed(alice, collection, 2)
    return collection


def ask(client: httpx.Client, question: str, **more: Any) -> dict[str, Any]:
    body = {"model": "default", "temperature": 0, "messages": [{"role": "user", "content": question}], **more}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_plain_chat_answers(alice: httpx.Client) -> None:
    answer = ask(alice, "Say hello.", max_completion_tokens=12)
    assert text_of(answer)
    assert answer["usage"]["completion_tokens"] <= 12
    assert answer["choices"][0]["finish_reason"] in {"stop", "length"}


def test_a_grounded_answer_cites_what_stands_in_the_document(alice: httpx.Client, collection: str) -> None:
    answer = ask(alice, "How many weeks of paid parental leave may an employee take?", collections=[collection])
    assert "26" in text_of(answer)
    assert answer["citations"], answer
    for citation in answer["citations"]:
        assert text_of(answer)[citation["start"] : citation["end"]] == citation["text"]
        for source in citation["sources"]:
            assert source["quote"] in LEAVE
            assert source["filename"] == "leave.md"
    assert answer["receipt_id"]


def test_a_follow_up_is_understood_and_its_receipt_replays_the_same_prompt(
    alice: httpx.Client, collection: str
) -> None:
    body = {
        "model": "default",
        "temperature": 0,
        "collections": [collection],
        "messages": [
            {"role": "user", "content": "How long is the sabbatical of an employee?"},
            {"role": "assistant", "content": "A sabbatical is three months at half pay."},
            {"role": "user", "content": "After how many years of service may I take it?"},
        ],
    }
    answer = alice.post("/v1/chat/completions", json=body).json()
    assert "seven" in text_of(answer).lower()
    receipt = alice.get(f"/brain/v1/receipts/{answer['receipt_id']}").json()
    assert "sabbatical" in receipt["queries"][0]
    replay = alice.post(f"/brain/v1/receipts/{answer['receipt_id']}/replay").json()
    assert replay["same_prompt"], replay
    assert replay["prompt_hash"] == receipt["prompt_hash"]


def test_what_the_documents_do_not_hold_is_said_so(alice: httpx.Client, collection: str) -> None:
    answer = ask(alice, "Who is the chief executive of Fernwood Instruments?", collections=[collection])
    assert not answer.get("citations")
    assert "document" in text_of(answer)


def test_a_stream_carries_text_and_ends(alice: httpx.Client, collection: str) -> None:
    body = {
        "model": "default",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "When is the coffee machine cleaned?"}],
        "collections": [collection],
    }
    with alice.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        frames = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    chunks = [json.loads(frame) for frame in frames[:-1]]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert "Friday" in text
    assert any(chunk.get("usage") for chunk in chunks)


def test_another_user_finds_nothing_of_it(stack: RunningStack, collection: str) -> None:
    with stack.client(stack.key("mallory")) as mallory:
        answer = ask(mallory, "How many weeks of paid parental leave may an employee take?", collections=[collection])
        assert "26" not in text_of(answer)
        assert not answer.get("citations")


def test_an_unknown_model_is_named(alice: httpx.Client) -> None:
    body = {"model": "gpt-nope", "messages": [{"role": "user", "content": "Hi"}]}
    answer = alice.post("/v1/chat/completions", json=body)
    assert answer.status_code == 404
    assert "gpt-nope" in answer.json()["error"]["message"]


def test_a_json_schema_is_followed(alice: httpx.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "rainy": {"type": "boolean"}},
        "required": ["city", "rainy"],
        "additionalProperties": False,
    }
    answer = ask(
        alice,
        "Name a city and whether it is rainy.",
        max_completion_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}},
    )
    parsed = json.loads(text_of(answer))
    assert set(parsed) == {"city", "rainy"}
    assert isinstance(parsed["rainy"], bool)


def test_thirty_two_streams_at_once_all_finish(stack: RunningStack, alice: httpx.Client) -> None:
    ends: list[str] = []

    def run(number: int) -> None:
        body = {
            "model": "default",
            "stream": True,
            "max_completion_tokens": 24,
            "messages": [{"role": "user", "content": f"Tell me about the number {number}."}],
        }
        with (
            stack.client(stack.administrator_key) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            ends.append(
                next((line for line in response.iter_lines() if "[DONE]" in line), f"HTTP {response.status_code}")
            )

    threads = [threading.Thread(target=run, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == ["data: [DONE]"] * 32


def test_a_client_that_leaves_ends_its_generation(stack: RunningStack, alice: httpx.Client) -> None:
    body = {
        "model": "default",
        "stream": True,
        # Whatever the model would rather say: it goes on until somebody ends it.
        "max_completion_tokens": 1900,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "Count from one to one thousand in words."}],
    }
    with alice.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(line for line in lines if '"content":"' in line and '"content":""' not in line)
        assert stack.metric("generation", "brain_generation_inflight_requests") == 1
    stack.wait_until(lambda: stack.metric("generation", "brain_generation_inflight_requests") == 0, timeout_s=30)
