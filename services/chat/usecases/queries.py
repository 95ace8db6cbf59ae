"""From the turn to search queries."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from services.chassis.errors import Overloaded, Unavailable
from services.chat.domain import rewriting
from services.chat.domain.prompt import PromptTexts
from services.chat.domain.turn import Message, RewriteMethod, Sampling
from services.chat.ports import Engine
from services.layout.prompt import escaped

_log = structlog.get_logger()
# Turns that the rewriting model reads: what a pronoun points to is seldom further back.
_TURNS_READ = 4
_CHARACTERS_READ = 400


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries, how they came about, and the question as it stands by itself."""

    queries: tuple[str, ...]
    method: RewriteMethod
    standalone: str


class MakeQueries:
    """Makes one or more search queries of a question and its history.

    Args:
        engine: The model that rewrites.
        texts: The prompt texts.
    """

    def __init__(self, *, engine: Engine, texts: PromptTexts) -> None:
        self._engine = engine
        self._texts = texts

    async def __call__(self, question: str, history: Sequence[Message], *, model: str) -> Queries:
        """Return the queries; a self-contained question costs no call."""
        said = [message for message in history if message.role in {"user", "assistant"}]
        if rewriting.is_self_contained(question, said):
            return Queries(rewriting.split(question), RewriteMethod.SELF_CONTAINED, question)
        written = await self._ask(question, said, model=model)
        accepted = rewriting.accept_rewrite(written, question, said)
        if accepted is not None:
            return Queries(rewriting.split(accepted), RewriteMethod.MODEL, accepted)
        lexical = rewriting.lexical_rewrite(question, said)
        return Queries(rewriting.split(lexical), RewriteMethod.LEXICAL, lexical)

    async def _ask(self, question: str, history: Sequence[Message], *, model: str) -> str:
        said = [(message.role, message.content[:_CHARACTERS_READ]) for message in history[-_TURNS_READ:]]
        shown = [
            message
            for one in self._texts.rewrites
            for message in (
                self._request([("user", one.asked), ("assistant", one.answered)], one.question),
                Message("assistant", one.rewritten),
            )
        ]
        prompt = (Message("system", self._texts.rewrite_system), *shown, self._request(said, question))
        sampling = Sampling(temperature=0.0, max_tokens=rewriting.MOST_REWRITE_TOKENS, stop=("\n",))
        try:
            async with aclosing(self._engine.generate(prompt, model=model, sampling=sampling)) as steps:
                return "".join([step.text async for step in steps])
        except (Overloaded, Unavailable) as error:
            # The lexical rewrite needs no engine; the receipt says that it was used.
            _log.info("rewrite_without_model", reason=error.code)
            return ""

    def _request(self, said: Sequence[tuple[str, str]], question: str) -> Message:
        turns = [f"{role.capitalize()}: {escaped(content)}" for role, content in said]
        return Message("user", "\n".join([*turns, f"{self._texts.last_question} {escaped(question)}"]))
