"""People who stream one answer after the other while rooms die, and how each of their streams ended."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

from tests.running_stack import RunningStack

# Longer than the chat room waits for an engine: who hears nothing for so long is not told any more.
_SILENCE_S = 150.0


class Ending(StrEnum):
    """How a stream ended for its reader."""

    WHOLE = "whole"
    ERROR = "error"
    REFUSED = "refused"
    CUT = "cut"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Heard:
    """One stream from its reader's side."""

    question: str
    ending: Ending
    text: str = ""
    detail: str = ""


@dataclass
class Audience:
    """What the people hear."""

    heard: list[Heard] = field(default_factory=list)
    _reading: set[int] = field(default_factory=set)

    @property
    def reading(self) -> int:
        """How many are in the middle of an answer: there was text, and more is to come."""
        return len(self._reading)

    def endings(self, *questions: str) -> set[Ending]:
        """Return how the streams ended, those of some questions or all."""
        return {heard.ending for heard in self.heard if not questions or heard.question in questions}

    def listen(self, client: httpx.Client, question: str, body: Mapping[str, Any]) -> Heard:
        """Stream one answer to its end."""
        said, lines = "", [""]
        try:
            with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    told = response.status_code == httpx.codes.SERVICE_UNAVAILABLE and "error" in response.json()
                    return Heard(question, Ending.REFUSED if told else Ending.SILENT, detail=response.text)
                for line in response.iter_lines():
                    if not line.startswith("data: "):
                        continue
                    lines.append(line)
                    if line == "data: [DONE]":
                        continue
                    frame = json.loads(line.removeprefix("data: "))
                    if "error" in frame:
                        return Heard(question, Ending.ERROR, said, line)
                    said += "".join(choice["delta"].get("content") or "" for choice in frame["choices"])
                    if said:
                        self._reading.add(threading.get_ident())
        except httpx.ReadTimeout as error:
            return Heard(question, Ending.SILENT, said, repr(error))
        except httpx.ConnectError as error:
            return Heard(question, Ending.REFUSED, detail=repr(error))
        except httpx.TransportError as error:
            return Heard(question, Ending.CUT, said, repr(error))
        finally:
            self._reading.discard(threading.get_ident())
        return Heard(question, Ending.WHOLE if lines[-1] == "data: [DONE]" else Ending.SILENT, said, lines[-1])


@contextmanager
def audience(stack: RunningStack, key: str, questions: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Audience]:
    """Have each of some named questions asked again and again while the block runs; at its end all answers are heard out."""
    everybody = Audience()
    over = threading.Event()

    def keep_asking(question: str, body: Mapping[str, Any]) -> None:
        with stack.client(key) as client:
            client.timeout = httpx.Timeout(_SILENCE_S)
            while not over.is_set():
                heard = everybody.listen(client, question, body)
                everybody.heard.append(heard)
                if heard.ending is not Ending.WHOLE:
                    time.sleep(0.3)

    threads = [threading.Thread(target=keep_asking, args=entry) for entry in questions]
    for thread in threads:
        thread.start()
    try:
        yield everybody
    finally:
        over.set()
        for thread in threads:
            thread.join()
