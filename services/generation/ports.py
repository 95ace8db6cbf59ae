"""What the generation room needs from the world."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from services.generation.domain import Adapter, AdapterFiles, EncodedPrompt, Model, Prompt, Score, Step, Work

__all__ = ["AdapterInspector", "AdapterTable", "Engine"]


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
    """Looks into an adapter directory before any of it is used."""

    async def inspect(self, path: str) -> AdapterFiles:
        """Return what the directory holds.

        Raises:
            InvalidInput: It is outside the adapter folder, incomplete, or nothing the engine can serve safely.
            TooLarge: Its weights exceed the limit.
        """


class AdapterTable(Protocol):
    """Remembers which adapters are served, so that a restart serves them again."""

    async def add(self, tenant: str, name: str, files: AdapterFiles) -> Adapter:
        """Add an adapter and return it with its number.

        Raises:
            Conflict: The tenant has an adapter of that name.
        """

    async def remove(self, tenant: str, name: str) -> Adapter | None:
        """Remove an adapter and return it; None when there is none."""

    async def all(self) -> list[Adapter]:
        """Return every adapter of every tenant, oldest first."""
