"""`/v1/completions`: plain continuation by the same engine."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from gateway.api.bodies import called
from gateway.api.call import Call
from gateway.api.openai.answers import DONE, FINISH, usage_json
from gateway.api.openai.chat import broken
from gateway.api.openai.requests import CompletionBody
from gateway.api.replies import Reply, Stream, json_line, json_reply
from gateway.api.routing import Body, Route
from gateway.domain.asking import Completion, Finish, Prompt, Sampling, TokenLogprob, TokenUsage
from gateway.ports import Generation
from services.chassis.errors import InvalidInput
from services.chassis.ids import new_id

__all__ = ["CompletionRoutes"]

_MAX_PROMPTS = 32
# OpenAI's default, which its clients count on.
_MAX_TOKENS = 16


class CompletionRoutes:
    """Continues prompts.

    Args:
        generation: The generation room.
    """

    def __init__(self, *, generation: Generation) -> None:
        self._generation = generation

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                "POST",
                "/v1/completions",
                self.complete,
                "Continue a prompt",
                body=Body.JSON,
                request=CompletionBody,
                makes_tokens=True,
            )
        ]

    async def complete(self, call: Call) -> Reply | Stream:
        """Continue one prompt or several."""
        body = await call.parse(CompletionBody)
        prompts, sampling = _prompts(body), _sampling(body)
        if body.stream:
            if len(prompts) > 1:
                raise InvalidInput("prompt: a stream continues one prompt; send one at a time.", param="prompt")
            with_usage = bool(body.stream_options and body.stream_options.include_usage)
            steps = self._generation.complete(body.model, prompts[0], sampling)
            return Stream(_frames(steps, call, with_usage=with_usage), on_error=broken)
        done = await self._all(body.model, prompts, sampling)
        usage = TokenUsage(
            sum(one.usage.prompt_tokens for one in done),
            sum(one.usage.cached_tokens for one in done),
            sum(one.usage.completion_tokens for one in done),
        )
        model = done[0].model or body.model
        call.spend(model, usage)
        choices = [choice for one in done for choice in one.choices()]
        return json_reply(
            {
                "id": new_id("cmpl-"),
                "object": "text_completion",
                "created": int(time.time()),
                "model": model,
                "choices": [{**choice, "index": index} for index, choice in enumerate(choices)],
                "usage": usage_json(usage),
                "system_fingerprint": None,
            }
        )

    async def _all(self, model: str, prompts: list[Prompt], sampling: Sampling) -> list["_Gathered"]:
        """Continue prompts at once; the first failure ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._gather(model, prompt, sampling)) for prompt in prompts]
        except ExceptionGroup as failed:  # what failed first says why; the others ended for it
            raise failed.exceptions[0] from failed
        return [task.result() for task in tasks]

    async def _gather(self, model: str, prompt: Prompt, sampling: Sampling) -> "_Gathered":
        gathered = _Gathered(sampling.n)
        with called("token_ids", "prompt"):
            async with aclosing(self._generation.complete(model, prompt, sampling)) as steps:
                async for step in steps:
                    gathered.take(step)
        return gathered


class _Gathered:
    """The continuations of one prompt."""

    def __init__(self, n: int) -> None:
        self.model = ""
        self.usage = TokenUsage()
        self._texts = [""] * n
        self._finishes = [Finish.STOP] * n
        self._logprobs: list[list[TokenLogprob]] = [[] for _ in range(n)]

    def take(self, step: Completion) -> None:
        """Add a step."""
        self.model = step.model or self.model
        self.usage = step.usage or self.usage
        self._texts[step.index] += step.text
        self._logprobs[step.index] += step.logprobs
        self._finishes[step.index] = step.finish or self._finishes[step.index]

    def choices(self) -> list[dict[str, Any]]:
        """Return the continuations."""
        return [
            {"text": text, "logprobs": _logprobs(logprobs), "finish_reason": FINISH[finish]}
            for text, logprobs, finish in zip(self._texts, self._logprobs, self._finishes, strict=True)
        ]


def _logprobs(tokens: list[TokenLogprob] | tuple[TokenLogprob, ...]) -> dict[str, Any] | None:
    """Return log probabilities in the shape of plain completions: parallel lists."""
    if not tokens:
        return None
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{other.token: other.logprob for other in token.top} for token in tokens],
        "text_offset": offsets,
    }


async def _frames(
    steps: AsyncGenerator[Completion, None], call: Call, *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    head: dict[str, Any] = {"id": new_id("cmpl-"), "object": "text_completion", "created": int(time.time())}
    usage = TokenUsage()
    async with aclosing(steps):
        async for step in steps:
            head.setdefault("model", step.model)
            usage = step.usage or usage
            choice = {
                "index": step.index,
                "text": step.text,
                "logprobs": _logprobs(step.logprobs),
                "finish_reason": None if step.finish is None else FINISH[step.finish],
            }
            if step.text or step.finish is not None:
                yield b"data: " + json_line({**head, "choices": [choice]}) + b"\n\n"
    call.spend(str(head.get("model", "")), usage)
    if with_usage:
        yield b"data: " + json_line({**head, "choices": [], "usage": usage_json(usage)}) + b"\n\n"
    yield DONE


def _prompts(body: CompletionBody) -> list[Prompt]:
    given: list[Any] = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if given and isinstance(given[0], int):
        given = [given]
    if not 1 <= len(given) <= _MAX_PROMPTS:
        raise InvalidInput(f"prompt: {len(given)} prompts; give 1 to {_MAX_PROMPTS}.", param="prompt")
    for index, one in enumerate(given):
        if not one:
            raise InvalidInput(f"prompt[{index}] is empty.", param="prompt")
    return [Prompt(text=one) if isinstance(one, str) else Prompt(token_ids=tuple(one)) for one in given]


def _sampling(body: CompletionBody) -> Sampling:
    for name, given in (("echo", body.echo), ("suffix", body.suffix), ("logit_bias", body.logit_bias)):
        if given:
            raise InvalidInput(f"{name}: not offered; send the request without it.", param=name)
    if body.best_of not in (None, 1, body.n):
        raise InvalidInput(f"best_of: {body.best_of} is not offered; leave it out.", param="best_of")
    drawn = body.sampling()
    return replace(
        drawn,
        max_tokens=drawn.max_tokens or _MAX_TOKENS,
        logprobs=body.logprobs is not None,
        top_logprobs=body.logprobs or 0,
    )
