"""`/v1/tokenize`, `/v1/detokenize` and `/v1/check-api-key`: the small verbs of Cohere's first API."""

import asyncio
from typing import Final

from gateway.api.bodies import called
from gateway.api.call import Call
from gateway.api.cohere.requests import DetokenizeBody, TokenizeBody
from gateway.api.replies import Reply, json_reply
from gateway.ports import Generation

__all__ = ["TokenRoutes"]

_META: Final = {"api_version": {"version": "1"}}
# Calls to the engine's room at once while the strings of single tokens are looked up.
_AT_ONCE: Final = 16


class TokenRoutes:
    """Tokens and keys.

    Args:
        generation: The generation room.
    """

    def __init__(self, *, generation: Generation) -> None:
        self._generation = generation

    async def tokenize(self, call: Call) -> Reply:
        """Return a text's token ids, and the text of each."""
        body = await call.parse(TokenizeBody)
        model = body.model or ""
        ids = (await self._generation.tokenize(model, [body.text])).sequences[0]
        strings = await self._strings(model, set(ids))
        return json_reply({"tokens": list(ids), "token_strings": [strings[token] for token in ids], "meta": _META})

    async def detokenize(self, call: Call) -> Reply:
        """Return the text of token ids."""
        body = await call.parse(DetokenizeBody)
        with called("token_ids", "tokens"):
            text = await self._generation.detokenize(body.model or "", body.tokens) if body.tokens else ""
        return json_reply({"text": text, "meta": _META})

    async def check_api_key(self, call: Call) -> Reply:
        """Say whose key this is; a bad one never gets here."""
        return json_reply({"valid": True, "organization_id": call.caller.tenant, "owner_id": call.caller.subject})

    async def _strings(self, model: str, ids: set[int]) -> dict[int, str]:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def text(token: int) -> str:
            async with gate:
                return await self._generation.detokenize(model, [token])

        ordered = list(ids)
        return dict(zip(ordered, await asyncio.gather(*(text(token) for token in ordered)), strict=True))
