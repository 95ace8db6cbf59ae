"""Plain completions: several prompts at once, and a failure that stays what it is."""

from collections.abc import AsyncGenerator, Sequence

import orjson
import pytest

from gateway.api.call import Call
from gateway.api.openai.completions import CompletionRoutes
from gateway.api.replies import Reply
from gateway.domain.asking import Completion, Finish, Message, Model, Prompt, Sampling, Tokens, TokenUsage
from services.chassis.errors import InvalidInput, NotFound


class Echo:
    """A generation room that knows one model and one vocabulary."""

    async def models(self) -> Sequence[Model]:
        return ()

    async def complete(self, model: str, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Completion, None]:
        if model != "echo":
            raise NotFound(f"model: there is no model {model!r}.", param="model")
        if prompt.token_ids:
            raise InvalidInput(f"token_ids: {prompt.token_ids[0]} is not in the vocabulary.", param="token_ids")
        yield Completion(0, prompt.text.upper(), finish=Finish.STOP, usage=TokenUsage(1, 0, 1), model=model)

    async def tokenize(self, model: str, texts: Sequence[str], *, conversation: Sequence[Message] = ()) -> Tokens:
        raise NotImplementedError

    async def detokenize(self, model: str, token_ids: Sequence[int]) -> str:
        raise NotImplementedError


def asked(call: Call, **body: object) -> Call:
    call._body = orjson.dumps(body)
    return call


async def test_prompts_are_continued_in_their_order(call: Call) -> None:
    reply = await CompletionRoutes(generation=Echo()).complete(asked(call, model="echo", prompt=["a", "b"]))
    assert isinstance(reply, Reply)
    answer = orjson.loads(reply.body)
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [(0, "A"), (1, "B")]
    assert answer["usage"]["total_tokens"] == 4


async def test_what_the_room_refuses_is_refused_for_its_reason(call: Call) -> None:
    routes = CompletionRoutes(generation=Echo())
    with pytest.raises(NotFound) as missing:
        await routes.complete(asked(call, model="nope", prompt=["a", "b"]))
    assert missing.value.param == "model"
    with pytest.raises(InvalidInput, match=r"^prompt: 7 is not"):
        await routes.complete(asked(call, model="echo", prompt=[7]))
