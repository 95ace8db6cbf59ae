"""The tokenizer that lies beside a base model's weights.

Of `transformers` the one class that reads a `tokenizer.json`: the automatic choice would load torch, which a room that
checks rows has no use for.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerFast

from services.chassis.errors import InvalidInput
from services.chassis.models.folder import template_hash
from services.finetuning.domain.encoding import Encoded
from services.finetuning.domain.rows import ASSISTANT, Turn
from services.layout.turns import Message

_PROBE: Final = "x"


class FolderTokens:
    """Tokens of a model in the Hugging Face layout, for any thread. No code of the folder is run.

    Args:
        folder: The model's files.

    Raises:
        InvalidInput: There is no `tokenizer.json` in the folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise InvalidInput(
                f"model: the folder {folder.name!r} holds no tokenizer.json that can be read.",
                param="model",
                private=repr(error),
            ) from error
        self._template_hash = template_hash(folder)
        self._lock = threading.Lock()

    @property
    def template_hash(self) -> str:
        """SHA-256 of the chat template, hexadecimal; empty where there is none."""
        return self._template_hash

    @cached_property
    def special_tokens(self) -> frozenset[str]:
        """Texts that stand for one token with a meaning of its own."""
        return frozenset(
            str(token)
            for token in self._tokenizer.added_tokens_decoder.values()
            if token.special and str(token).strip()
        )

    @cached_property
    def end_of_turn(self) -> frozenset[int]:
        """The special tokens that the chat template writes behind an answer, and the one that ends a text."""
        ends = {self._tokenizer.eos_token_id} - {None}
        if self._template_hash:
            encoded = self.encode_conversation([Turn("user", _PROBE), Turn(ASSISTANT, _PROBE)])
            special = set(self._tokenizer.all_special_ids)
            ends |= {
                token for token, label in zip(encoded.ids, encoded.labels, strict=True) if label and token in special
            }
        return frozenset(ends)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, without special ones."""
        return [len(ids) for ids in self._encoded(list(texts))["input_ids"]] if texts else []

    def count_conversation(self, messages: Sequence[Message]) -> int:
        """Return the tokens of a conversation in the chat template, the opening of the answer included."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return len(self._encoded(self._rendered(turns, (), answering=True))["input_ids"])

    def encode_conversation(self, messages: Sequence[Turn], tools: Sequence[Mapping[str, Any]] = ()) -> Encoded:
        """Return a conversation in the chat template; labels are the assistant's turns that are learnt, with their end."""
        turns = [{"role": turn.role, "content": turn.content} | dict(turn.extra) for turn in messages]
        text = self._rendered(turns, tools, answering=False)
        spans = []
        for at, turn in enumerate(messages):
            if turn.is_learnt:
                start = self._rendered(turns[:at], tools, answering=True)
                end = text if at + 1 == len(turns) else self._rendered(turns[: at + 1], tools, answering=False)
                if not (end.startswith(start) and text.startswith(end)):
                    raise InvalidInput(
                        f"messages[{at}]: the chat template writes this turn otherwise when others follow, so that what is "
                        "learnt would not be what is said; make each answer the last turn of a row of its own.",
                        param="messages",
                    )
                spans.append((len(start), len(end)))
        encoded = self._encoded(text, return_offsets_mapping=True)
        labels = _within(encoded["offset_mapping"], spans)
        return Encoded(tuple(encoded["input_ids"]), labels)

    def encode_text(self, text: str) -> Encoded:
        """Return raw text with the token that ends a text; all of it is learnt."""
        end = self._tokenizer.eos_token_id
        ids = (*self._encoded(text)["input_ids"], *(() if end is None else (end,)))
        return Encoded(ids, (True,) * len(ids))

    def _encoded(self, text: str | list[str], **more: Any) -> Mapping[str, Any]:
        # How long a row may be is for the caller to say, and to report.
        options = {"truncation": False, "padding": False, "return_attention_mask": False, "verbose": False}
        # The library sets its options on the one tokenizer before it reads; two threads at once make it raise.
        with self._lock:
            found: Mapping[str, Any] = self._tokenizer(text, add_special_tokens=False, **options, **more)
        return found

    def _rendered(
        self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], *, answering: bool
    ) -> str:
        if not self._template_hash:
            raise InvalidInput("model: the base model has no chat template; use text rows.", param="model")
        try:
            text: str = self._tokenizer.apply_chat_template(
                list(turns), tools=list(tools) or None, tokenize=False, add_generation_prompt=answering
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidInput(
                f"messages: the chat template of the base model refuses them: {str(error)[:200]}", param="messages"
            ) from error
        return text


def _within(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> tuple[bool, ...]:
    """Return for each token whether it begins within one of the spans; both are in order."""
    labels = []
    at = 0
    for start, _ in offsets:
        while at < len(spans) and start >= spans[at][1]:
            at += 1
        labels.append(at < len(spans) and spans[at][0] <= start)
    return tuple(labels)
