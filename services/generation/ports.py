"""What the generation room needs from the world."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from services.generation.domain import (
    Adapter,
    AdapterFiles,
    AdapterSource,
    EncodedPrompt,
    Model,
    Prompt,
    Registration,
    Score,
    Step,
    Work,
)

__all__ = ["AdapterInspector", "AdapterShelf", "AdapterTable", "Engine", "TrialTable", "WithheldTable"]


class Engine(Protocol):
    """Something that continues prompts with one base model and the adapters loaded beside it."""

    @property
    def base(self) -> Model:
        """The base model."""

    async def encode(self, prompt: Prompt) -> EncodedPrompt:
        """Return the prompt as the model sees it, the chat template applied to a conversation.

        Raises:
            InvalidInput: The template refuses the conversation, or an id is outside the vocabulary.
        """

    async def tokenize(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the token ids of texts, without template and special tokens."""

    async def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included.

        Raises:
            InvalidInput: An id is outside the vocabulary.
        """

    def generate(self, work: Work) -> AsyncGenerator[Step, None]:
        """Yield what is produced, step by step; closing the generator ends the work.

        The last step of each continuation has `finish` set.

        Raises:
            InvalidInput: The engine refuses a parameter (a JSON Schema it cannot compile).
            Unavailable: The engine died.
        """

    async def score(self, work: Work, continuation: str) -> Score:
        """Return the log probabilities of `continuation` after the work's prompt.

        Prompt and continuation are tokenised together, so that tokens are those the model would read. Scored are all
        tokens from the first that holds a character of the continuation; where it also holds the prompt's last
        characters, the whole token counts.

        Raises:
            InvalidInput: Together they exceed the context window.
            Unavailable: The engine died.
        """

    async def load(self, adapter: Adapter) -> None:
        """Make an adapter ready.

        Raises:
            InvalidInput: The engine refuses its weights.
        """

    async def unload(self, adapter: Adapter) -> None:
        """Forget an adapter."""

    @property
    def steps(self) -> int:
        """How many steps the engine has made so far: what grows is alive."""

    def processor_s(self) -> float | None:
        """Return the processor time that the engine's processes have taken, in seconds; None where it has none of its own.

        What changes is at work, also in the middle of a step.
        """

    def check(self) -> None:
        """Return if the engine can go on.

        Raises:
            Unavailable: It died and will not come back.
        """

    async def probe(self) -> None:
        """Make the engine do one small piece of work."""

    async def close(self) -> None:
        """Stop the engine and everything that it started."""


class AdapterInspector(Protocol):
    """Looks into a directory that somebody put into the adapter folder."""

    async def inspect(self, path: str) -> AdapterFiles:
        """Return what the directory holds.

        Raises:
            InvalidInput: It is outside the adapter folder, incomplete, or nothing the engine can serve safely.
            TooLarge: Its weights exceed the limit.
        """


class AdapterShelf(Protocol):
    """The adapters' files on this machine: fetched where they are wanted, never changed, removed by least recent use.

    What is taken stays until it is given back: the engine reads an adapter that it has dropped again from its directory,
    and ends when it is gone.
    """

    async def take(self, source: AdapterSource) -> AdapterFiles:
        """Return the files of an adapter, which are what `source` says they are.

        Raises:
            InvalidInput: They are nothing the engine can serve safely.
            TooLarge: They exceed the limit.
            NotFound: They are gone where they come from.
            Conflict: They have other digests.
            Unavailable: They cannot be had at the moment.
        """

    def give_back(self, source: AdapterSource) -> None:
        """Say that one taker is done."""

    async def remove(self, source: AdapterSource) -> None:
        """Remove the files, unless somebody has taken them."""

    async def look(self, config_key: str, weights_key: str) -> AdapterFiles:
        """Return what two blobs hold, as `take` would, and keep nothing.

        Raises:
            InvalidInput: They are nothing the engine can serve safely.
            TooLarge: They exceed the limit.
            NotFound: There is no such blob.
            Unavailable: They cannot be had at the moment.
        """


class AdapterTable(Protocol):
    """Remembers which adapters were registered by hand, so that a restart serves them again."""

    async def add(self, registration: Registration) -> None:
        """Add an adapter.

        Raises:
            Conflict: The tenant has an adapter of that name.
        """

    async def remove(self, tenant: str, name: str) -> bool:
        """Remove an adapter; return whether there was one."""

    async def all(self) -> list[Registration]:
        """Return every adapter of every tenant, oldest first."""


class WithheldTable(Protocol):
    """Remembers which adapters are withheld, by tenant and name, and up to which revision."""

    async def add(self, tenant: str, revisions: Mapping[str, int]) -> None:
        """Withhold adapters by name; a higher revision that is noted already stays."""

    async def remove(self, tenant: str, name: str) -> None:
        """Forget one, withheld or not."""

    async def all(self) -> dict[tuple[str, str], int]:
        """Return all revisions by tenant and name."""


class TrialTable(Protocol):
    """Remembers which files the engine is being tried with, so that files which end it are not tried for ever."""

    async def begin(self, content: str) -> int:
        """Note a try; return how many there were lately, this one included, that nobody ended."""

    async def end(self, content: str) -> None:
        """Note that the engine has survived the try."""
