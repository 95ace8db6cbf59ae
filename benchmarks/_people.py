"""People who judge answers by one rule, over the API: they rank, give thumbs and write better answers.

The rule is one that a small model can learn and a reader can check: an answer should say that the handbook is its source.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, Self

from benchmarks._asking import at_once
from client.errors import GatewayError
from client.gateway import Gateway
from client.settings import Connection
from examples.generate import Fact, Made
from services.local.child import ChildStack

__all__ = ["MARK", "People", "answered", "asking", "sampled"]

MARK: Final = "handbook"
_ANSWERS: Final = 4
_TOKENS: Final = 32


def asking(document: Made, fact: Fact) -> list[dict[str, str]]:
    """Return the conversation that shows the sentence of a document that holds a fact, and asks for it."""
    return [{"role": "user", "content": f"{document.sentence(fact)}\n\nQuestion: {fact.phrasings[0]}"}]


def answered(fact: str, *, named: bool) -> str:
    """Return an answer, with its source or without."""
    return f"According to the {MARK}, it is {fact}." if named else f"It is {fact}."


def sampled(
    gateway: Gateway, model: str, prompts: Sequence[Sequence[Mapping[str, str]]], count: int, *, seed: int
) -> list[list[str]]:
    """Return `count` answers to each prompt, drawn at temperature 1."""
    asked = [
        (messages, seed * 1_000_003 + place * count + one)
        for place, messages in enumerate(prompts)
        for one in range(count)
    ]
    given = at_once(lambda one: _drawn(gateway, model, one[0], one[1])[0], asked)
    return [given[place : place + count] for place in range(0, len(given), count)]


class People:
    """Raters with a key each. Questions are dealt out, so that nobody's judgements train and grade the same adapter.

    Args:
        stack: The stack that they use.
        count: How many there are.
    """

    def __init__(self, stack: ChildStack, count: int) -> None:
        self._stack = stack
        self._count = count
        self._open = ExitStack()
        self._keys: list[Gateway] = []

    def __enter__(self) -> Self:
        with Gateway(Connection(self._stack.base_url, self._stack.administrator_key)) as root:
            for number in range(self._count):
                made = root.send("POST", "/brain/v1/keys", body={"subject": f"rater-{number}", "roles": ["viewer"]})
                gateway = Gateway(Connection(self._stack.base_url, str(made["secret"])))
                self._keys.append(self._open.enter_context(gateway))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    def rank(self, gateway: Gateway, model: str, prompts: Sequence[Sequence[Mapping[str, str]]], *, seed: int) -> int:
        """Have answers sampled and ranked; return the number of questions whose answers could be told apart.

        Args:
            gateway: Of whoever may have answers sampled.
            model: Whose answers.
            prompts: Conversations.
            seed: Of the sampling.
        """

        def one(dealt: tuple[Gateway, int, Sequence[Mapping[str, str]]]) -> int:
            rater, number, messages = dealt
            body = {
                "messages": list(messages),
                "models": [model],
                "answers": _ANSWERS,
                "temperature": 1.0,
                "max_tokens": _TOKENS,
                "seed": seed + number,
            }
            try:
                made = gateway.send("POST", "/brain/v1/comparisons", body=body)
            except GatewayError as refused:
                # A model that always says the same has nothing to rank.
                if str(refused).startswith("answers: there are no two different ones"):
                    return 0
                raise
            ranks = [{"answer_id": it["id"], "rank": 1 if MARK in it["text"] else 2} for it in made["answers"]]
            rater.send("POST", f"/brain/v1/comparisons/{made['id']}/rank", body={"ranks": ranks})
            return int(len({it["rank"] for it in ranks}) > 1)

        return sum(at_once(one, list(self._dealt(prompts))))

    def thumbs(self, model: str, prompts: Sequence[Sequence[Mapping[str, str]]], *, seed: int) -> list[bool]:
        """Ask, and give each answer a thumb; return them: True for up."""

        def one(dealt: tuple[Gateway, int, Sequence[Mapping[str, str]]]) -> bool:
            rater, number, messages = dealt
            text, receipt = _drawn(rater, model, messages, seed + number)
            good = MARK in text
            body = {"receipt_id": receipt, "thumb": "up" if good else "down"}
            rater.send("POST", "/brain/v1/feedback", body=body)
            return good

        return at_once(one, list(self._dealt(prompts)))

    def edit(
        self, model: str, prompts: Sequence[Sequence[Mapping[str, str]]], facts: Sequence[str], *, seed: int
    ) -> int:
        """Ask, and write a better answer where the source is not named; return how many were edited."""

        def one(dealt: tuple[tuple[Gateway, int, Sequence[Mapping[str, str]]], str]) -> int:
            (rater, number, messages), fact = dealt
            text, receipt = _drawn(rater, model, messages, seed + number)
            if MARK in text:
                return 0
            body = {"receipt_id": receipt, "edited": answered(fact, named=True)}
            rater.send("POST", "/brain/v1/feedback", body=body)
            return 1

        return sum(at_once(one, list(zip(self._dealt(prompts), facts, strict=True))))

    def _dealt(self, prompts: Sequence[Sequence[Mapping[str, str]]]) -> Iterator[tuple[Gateway, int, Any]]:
        order = list(range(len(prompts)))
        random.Random(0).shuffle(order)
        for place, number in zip(order, range(len(prompts)), strict=True):
            yield self._keys[place % self._count], number, prompts[number]


def _drawn(rater: Gateway, model: str, messages: Sequence[Mapping[str, str]], seed: int) -> tuple[str, str]:
    """Return an answer that is drawn at temperature 1, and its receipt."""
    # Only an answer that is kept can be judged.
    body = {
        "model": model,
        "messages": list(messages),
        "temperature": 1.0,
        "max_tokens": _TOKENS,
        "seed": seed,
        "store": True,
    }
    answer = rater.send("POST", "/v1/chat/completions", body=body)
    return str(answer["choices"][0]["message"]["content"]), str(answer["receipt_id"])
