"""People who ask about documents while a server below the rooms is hurt: each hears the right thing, or that it is away."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from tests.running_stack import RunningStack

# What each of them asks in turn.
_WAYS = ("search", "chat", "stream")


class Heard(StrEnum):
    """What a question was answered with."""

    RIGHT = "right"
    """The document's own words, with the document named."""
    AWAY = "away"
    """503 with Retry-After, or an error event that says the same."""
    WRONG = "wrong"
    """Anything else: another status, no time to come back, an answer that no document stands behind."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question and what came of it.

    Attributes:
        began: Monotonic time.
        took_s: Until the end of the answer.
        way: search, chat or stream.
        detail: What was heard where it was not right.
    """

    began: float
    took_s: float
    way: str
    heard: Heard
    detail: str = ""


@dataclass
class Questions:
    """Every question, in the order of their ends."""

    asked: list[Question] = field(default_factory=list)

    def of(self, heard: Heard) -> list[Question]:
        return [one for one in self.asked if one.heard is heard]

    def right_since(self, moment: float) -> bool:
        """Return whether each way has been answered rightly from its beginning after a moment."""
        return {one.way for one in self.of(Heard.RIGHT) if one.began > moment} == set(_WAYS)


def ask(client: httpx.Client, collection: str, number: int, way: str) -> Question:
    """Ask how heavy an instrument of `documents.text` is."""
    began = time.monotonic()
    question = f"How many grams does the Fern-{number:04d} weigh?"
    try:
        if way == "search":
            answer = client.post(
                f"/v1/vector_stores/{collection}/search", json={"query": question, "max_num_results": 50}
            )
        else:
            body = {
                "model": "default",
                "messages": [{"role": "user", "content": question}],
                "collections": [collection],
                "stream": way == "stream",
            }
            answer = client.post("/v1/chat/completions", json=body)
        heard, detail = judge(answer, number, way)
    except httpx.TransportError as error:
        heard, detail = Heard.WRONG, repr(error)
    return Question(began, time.monotonic() - began, way, heard, detail)


def judge(answer: httpx.Response, number: int, way: str) -> tuple[Heard, str]:
    """Say what an answer is."""
    detail = f"{answer.status_code} {answer.text[-600:]}"
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return (Heard.AWAY if int(answer.headers.get("retry-after", 0)) > 0 else Heard.WRONG), detail
    if answer.status_code != httpx.codes.OK:
        return Heard.WRONG, detail
    match way:
        case "search":
            hits = answer.json()["data"]
            mine = [hit["content"][0]["text"] for hit in hits if hit["filename"] == f"fern-{number}.md"]
            is_right = len(mine) == 1 and is_said_somewhere(mine[0])
        case "chat":
            said = answer.json()
            is_right = is_said_somewhere(said["choices"][0]["message"]["content"]) and bool(said["citations"])
        case _:
            frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
            if not frames or frames[-1] != "[DONE]":
                return Heard.WRONG, detail
            told = [json.loads(frame) for frame in frames[:-1]]
            if any("error" in frame for frame in told):
                return Heard.AWAY, detail
            text = "".join(
                choice["delta"].get("content") or "" for frame in told for choice in frame.get("choices", ())
            )
            is_right = is_said_somewhere(text) and '"citations":[{' in answer.text.replace(" ", "")
    return (Heard.RIGHT, "") if is_right else (Heard.WRONG, detail)


def is_said_somewhere(answer: str) -> bool:
    """Return whether an answer holds the weight of an instrument as its document has it."""
    said = re.search(r"Fern-(\d{4}) weighs (\d+) grams", answer)
    return said is not None and int(said[2]) == int(said[1]) + 100


@contextmanager
def asking(
    stack: RunningStack, key: str, collection: str, documents: int, *, people: int, pause_s: float = 0.2
) -> Iterator[Questions]:
    """Have some people ask about one document after the other while the block runs."""
    questions = Questions()
    is_over = threading.Event()

    def keep_asking(person: int) -> None:
        with stack.client(key) as client:
            turn = person
            while not is_over.is_set():
                way = _WAYS[turn % len(_WAYS)]
                questions.asked.append(ask(client, collection, turn * 7 % documents, way))
                turn += 1
                is_over.wait(pause_s)

    threads = [threading.Thread(target=keep_asking, args=(person,)) for person in range(people)]
    for thread in threads:
        thread.start()
    try:
        yield questions
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
