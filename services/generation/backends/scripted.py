"""A deterministic engine: no weights, instant start, the same behaviour around the tokens as the real one.

For load tests of everything in front of the engine, fast development loops, and tests that must know what the model
will say (docs/scripted-engine.md).
"""

import asyncio
import json
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from services.chassis.errors import InvalidInput, Unavailable
from services.generation.backends.adapter_content import CONFIG, WEIGHTS, largest_values
from services.generation.backends.scripted_json import as_json
from services.generation.backends.scripted_script import Answers, ScriptOptions, load_answers, make_script
from services.generation.backends.scripted_tokens import WhiteSpaceTokens
from services.generation.domain import (
    Adapter,
    Alternative,
    Conversation,
    EncodedPrompt,
    Finish,
    Model,
    Prompt,
    Score,
    Step,
    TokenLogprob,
    Work,
)

__all__ = ["ScriptedEngine", "ScriptedOptions"]

_BLOCK: Final = 32
_REMEMBERED_PROMPTS: Final = 256
# What an adapter's halves and scale multiply to: below the first it is rounded away, above the second nothing is computed.
_NOTHING: Final = 1e-8
_TOO_MUCH: Final = 1e12
_SHIFT: Final = -0.05


@dataclass(frozen=True, slots=True)
class ScriptedOptions:
    """What the engine's URL says: `scripted://?mode=…&rate=…`.

    Attributes:
        mode: echo, canned, paced, obedient or extract.
        rate: Tokens a second for each continuation; 0 means as fast as they are taken.
        tokens: Tokens of an answer in mode paced.
        window: Context window.
        answers: JSON file of mode canned.
        stall_after: Steps after which the engine makes no more progress; 0 never. For fault tests.
        die_after: Steps after which the engine dies; 0 never. For fault tests.
        base_digest: Digest of the weights that the engine says it has; empty serves adapters of any base model.
        template_hash: The same for the chat template.
    """

    mode: str = "echo"
    rate: float = 0.0
    tokens: int = 64
    window: int = 8192
    answers: str = ""
    stall_after: int = 0
    die_after: int = 0
    base_digest: str = ""
    template_hash: str = ""

    @classmethod
    def from_url(cls, url: str) -> "ScriptedOptions":
        """Read the options.

        Raises:
            InvalidInput: An option is not known or has a wrong value.
        """
        kinds = {"mode": str, "answers": str, "rate": float, "tokens": int, "window": int, "stall_after": int, "die_after": int, "base_digest": str, "template_hash": str}  # fmt: skip
        given: dict[str, object] = {}
        for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items():
            if name not in kinds:
                raise InvalidInput(f"engine: option {name!r} is not known; use {', '.join(kinds)}.", param="engine")
            try:
                given[name] = kinds[name](values[-1])
            except ValueError as error:
                raise InvalidInput(f"engine: {name}={values[-1]!r} is not a number.", param="engine") from error
        return cls(**given)  # type: ignore[arg-type]


class ScriptedEngine:
    """Answers by a script.

    Args:
        options: From the engine's URL.
        name: Name of its base model.
    """

    def __init__(self, options: ScriptedOptions, *, name: str) -> None:
        self._options = options
        answers = load_answers(Path(options.answers)) if options.answers else Answers()
        self._script = make_script(options.mode, ScriptOptions(answers=answers, tokens=options.tokens))
        self._tokens = WhiteSpaceTokens()
        self._base = Model(
            name,
            options.window,
            "scripted",
            datetime.now(UTC),
            base_digest=options.base_digest,
            template_hash=options.template_hash,
        )
        # Numbers of the adapters that are loaded, and how much each adds to the logarithm of a probability.
        self._loaded: dict[int, float] = {}
        self._seen: OrderedDict[tuple[str, int, tuple[int, ...]], None] = OrderedDict()
        self._steps = 0

    @property
    def base(self) -> Model:
        """The base model."""
        return self._base

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self._steps

    def processor_s(self) -> None:
        """Return None: it has no processes of its own."""

    async def encode(self, prompt: Prompt) -> EncodedPrompt:
        """Return the prompt with the engine's plain template applied."""
        match prompt:
            case Conversation():
                text = "\n".join(f"<{turn.role}> {turn.content}" for turn in prompt.turns)
                text += "" if prompt.continues else "\n<assistant>"
                return EncodedPrompt(self._tokens.encode(text), text, prompt)
            case str():
                return EncodedPrompt(self._tokens.encode(prompt), prompt)
            case _:
                return EncodedPrompt(prompt, self._tokens.decode(prompt))

    async def tokenize(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the ids of texts."""
        return [self._tokens.encode(text) for text in texts]

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        return self._tokens.decode(ids)

    async def generate(self, work: Work) -> AsyncGenerator[Step, None]:
        """Yield the script's answer, one token a step for each continuation."""
        cached = self._cached(work)
        pieces, finish = self._answer(work)
        ids = self._tokens.ids(pieces)
        for position, (piece, number) in enumerate(zip(pieces, ids, strict=True)):
            await self._pace()
            logprobs = (_logprob(piece, work.sampling.top_logprobs),) if work.sampling.logprobs else ()
            ended = finish if position == len(pieces) - 1 else None
            for index in range(work.sampling.n):
                yield Step(index, piece, (number,), logprobs, ended, cached)
        if not pieces:
            await self._pace()
            for index in range(work.sampling.n):
                yield Step(index, "", (), (), finish, cached)

    async def score(self, work: Work, continuation: str) -> Score:
        """Score words: those that the prompt holds are likely, others are not."""
        pieces = self._tokens.pieces(continuation)
        if len(work.prompt.ids) + len(pieces) > self._base.context_window:
            raise InvalidInput(
                f"continuations: prompt and continuation have {len(work.prompt.ids) + len(pieces)} tokens; the context "
                f"window has {self._base.context_window}.",
                param="continuations",
            )
        await self._pace()
        known = {word.strip(".,;:!?").lower() for word in (work.prompt.text or "").split()}
        shift = self._loaded[work.adapter.number] if work.adapter else 0.0
        return Score(tuple(shift - (0.1 if it.strip(" \n.,;:!?").lower() in known else 2.0) for it in pieces))

    async def load(self, adapter: Adapter) -> None:
        """Remember an adapter, and what it does to scores."""
        self._loaded[adapter.number] = await asyncio.to_thread(_shift, Path(adapter.files.path))

    async def unload(self, adapter: Adapter) -> None:
        """Forget an adapter."""
        self._loaded.pop(adapter.number, None)

    def check(self) -> None:
        """Return unless the engine died."""
        if self._options.die_after and self._steps >= self._options.die_after:
            raise Unavailable("The engine died.")

    async def probe(self) -> None:
        """Make one step."""
        await self._pace()

    async def close(self) -> None:
        """Nothing runs beside the engine."""

    async def _pace(self) -> None:
        self.check()
        if self._options.stall_after and self._steps >= self._options.stall_after:
            await asyncio.Event().wait()
        await asyncio.sleep(1 / self._options.rate if self._options.rate else 0)
        self._steps += 1

    def _answer(self, work: Work) -> tuple[list[str], Finish]:
        sampling = work.sampling
        # Only who asks for a seeded draw gets another answer than the first: everything else stays the same each time.
        text = self._script(work.prompt, (sampling.seed or 0) if sampling.temperature else 0)
        if sampling.json_schema or sampling.json_object:
            text = as_json(text, sampling.json_schema)
        if work.adapter is not None and not sampling.json_schema:
            text = f"«{work.adapter.name}» {text}"
        pieces = self._tokens.pieces(text)
        # The end is not honoured before min_tokens, and never with ignore_eos: the answer is said again.
        least = sampling.max_tokens if sampling.ignore_eos else sampling.min_tokens
        while pieces and len(pieces) < least:
            pieces += [f" {piece.lstrip()}" for piece in self._tokens.pieces(text)]
        stopped = _cut(pieces, sampling.stop, sampling.min_tokens)
        if len(stopped) > sampling.max_tokens:
            return stopped[: sampling.max_tokens], Finish.LENGTH
        exhausted = sampling.ignore_eos and len(stopped) == len(pieces)
        return stopped, Finish.LENGTH if exhausted else Finish.STOP

    def _cached(self, work: Work) -> int:
        """Return how many prompt tokens an engine with a prefix cache would not compute again."""
        number = work.adapter.number if work.adapter else 0
        blocks = len(work.prompt.ids) // _BLOCK
        keys = [(work.salt, number, work.prompt.ids[: count * _BLOCK]) for count in range(1, blocks + 1)]
        hits = 0
        for key in keys:
            if key not in self._seen:
                break
            hits += 1
        for key in keys:
            self._seen[key] = None
            self._seen.move_to_end(key)
        while len(self._seen) > _REMEMBERED_PROMPTS:
            self._seen.popitem(last=False)
        return hits * _BLOCK


def _shift(folder: Path) -> float:
    """Return what an adapter does to scores: as to an engine of 16-bit numbers, the faint is nothing, the huge no number."""
    config = json.loads((folder / CONFIG).read_bytes())
    largest = largest_values(folder / WEIGHTS)
    halves = [
        (value, largest.get(name.replace("lora_A", "lora_B"), 0.0))
        for name, value in largest.items()
        if "lora_A" in name
    ]
    product = max((one * other for one, other in halves), default=0.0) * float(config["lora_alpha"]) / int(config["r"])
    if product < _NOTHING:
        return 0.0
    return _SHIFT if product < _TOO_MUCH else math.nan


def _cut(pieces: list[str], stops: Sequence[str], least: int) -> list[str]:
    """Return the pieces before the first stop text that ends after `least` pieces."""
    text = "".join(pieces)
    protected = len("".join(pieces[:least]))
    found = [at for stop in stops if (at := text.find(stop, max(0, protected - len(stop) + 1))) >= 0]
    if not found:
        return pieces
    kept, length = [], 0
    for piece in pieces:
        if length + len(piece) > min(found):
            if rest := piece[: min(found) - length]:
                kept.append(rest)
            break
        kept.append(piece)
        length += len(piece)
    return kept


def _logprob(piece: str, alternatives: int) -> TokenLogprob:
    """Return a shape like the real engine's: the said token is the likeliest, each alternative half as likely."""
    top = [Alternative(piece, piece.encode(), -0.1)]
    top += [
        Alternative(f"{piece}~{rank}", f"{piece}~{rank}".encode(), -0.1 - 0.7 * rank) for rank in range(1, alternatives)
    ]
    return TokenLogprob(piece, piece.encode(), -0.1, tuple(top[:alternatives]))
