"""The real engine's tokeniser: chat template, ids, bytes of tokens."""

import asyncio
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any, Final

from jinja2 import TemplateError

from services.chassis.errors import InvalidInput
from services.generation.domain import Conversation, EncodedPrompt, Prompt

__all__ = ["EngineTokens"]

# Texts beyond this many characters are tokenised in a thread, so that they do not hold up other streams.
_LONG: Final = 50_000


class EngineTokens:
    """Wraps a Hugging Face tokeniser.

    Args:
        tokenizer: The model's own.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # A fast tokeniser must not be used by two threads: long texts have a copy of their own.
        self._for_long = deepcopy(tokenizer)
        self._long = asyncio.Lock()
        self._special = tuple(token for token in tokenizer.all_special_tokens if token)
        self._size = len(tokenizer)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._byte_level = backend is not None and "ByteLevel" in repr(backend.decoder)
        self._from_unicode = _byte_alphabet()
        self._added = frozenset(tokenizer.get_added_vocab().values())
        self.token_bytes = lru_cache(maxsize=65_536)(self._token_bytes)

    @property
    def first_id(self) -> int:
        """A token that a text may begin with."""
        return next(
            (it for it in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id) if isinstance(it, int)), 0
        )

    async def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Return the ids of a text; with `special` what the model begins a text with is added."""
        if len(text) <= _LONG:
            return tuple(self._tokenizer.encode(text, add_special_tokens=special))
        async with self._long:
            return tuple(await asyncio.to_thread(self._for_long.encode, text, add_special_tokens=special))

    async def encode_prompt(self, prompt: Prompt) -> EncodedPrompt:
        """Return the prompt as the model sees it.

        Raises:
            InvalidInput: The template refuses the conversation, or an id is outside the vocabulary.
        """
        match prompt:
            case Conversation():
                text = self._render(prompt)
                return EncodedPrompt(await self.encode(text), text, prompt)
            case str():
                return EncodedPrompt(await self.encode(prompt, special=True), prompt)
            case _:
                self._check(prompt)
                return EncodedPrompt(prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included.

        Raises:
            InvalidInput: An id is outside the vocabulary.
        """
        self._check(ids)
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _check(self, ids: Sequence[int]) -> None:
        wrong = next((it for it in ids if not 0 <= it < self._size), None)
        if wrong is not None:
            raise InvalidInput(
                f"token_ids: {wrong} is not in the vocabulary of {self._size} tokens.", param="token_ids"
            )

    def _render(self, conversation: Conversation) -> str:
        messages = [{"role": turn.role, "content": self._defused(turn.content)} for turn in conversation.turns]
        continues = conversation.continues
        if continues and not messages[-1]["content"]:
            # Nothing to continue: the model begins the turn itself.
            messages, continues = messages[:-1], False
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=not continues, continue_final_message=continues
                )
            )
        except (TemplateError, ValueError, TypeError, IndexError) as error:
            raise InvalidInput(
                f"messages: the model's chat template refuses the conversation ({error}).", param="messages"
            ) from error

    def _defused(self, content: str) -> str:
        """Return content whose text cannot end its turn or begin another.

        A passage that holds the model's own control tokens would otherwise speak as the system or the user.
        """
        for token in self._special:
            if token in content:
                content = content.replace(token, f"{token[0]} {token[1:]}")
        return content

    def _token_bytes(self, number: int) -> bytes:
        token = self._tokenizer.convert_ids_to_tokens(number)
        if token is None:
            return b""
        if number in self._added:
            return str(token).encode()
        if self._byte_level:
            return bytes(self._from_unicode[character] for character in token if character in self._from_unicode)
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return str(token).replace("▁", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Return the bytes behind the characters of a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
