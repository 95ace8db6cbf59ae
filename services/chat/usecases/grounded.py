"""The grounded answer: text from the prompt, guarded, cited, and withheld when nothing supports it."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from services.chat.domain.answer import AnswerText, says_not_found, uncited
from services.chat.domain.citations import Window, read, segments
from services.chat.domain.guard import AnswerGuard
from services.chat.domain.prompt import PromptTexts
from services.chat.domain.support import answers
from services.chat.domain.turn import (
    Abstention,
    Citation,
    CitationMode,
    Event,
    Evidence,
    FinishReason,
    Grounding,
    Message,
    Sampling,
    Source,
    TextDelta,
    TokenLogprob,
    TokenUsage,
)
from services.chat.ports import Engine
from services.chat.usecases.cite import Cite
from services.chat.usecases.stages import Stages
from services.layout.nearest import Neighbourhood
from services.layout.words import Stretch

Emit = Callable[[Event], None]
"""Takes an event on its way to the caller; never waits."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a grounded answer is made from.

    Attributes:
        messages: The prompt.
        sources: What the prompt holds.
        question: The question as it stands by itself.
        model: Who answers.
        sampling: How tokens are drawn.
        mode: When citations are sent.
        grounding: What happens without support.
        support: The probability that the sources hold an answer.
        excerpts: The stretches of the sources that lie nearest to the question, the best first.
    """

    messages: tuple[Message, ...]
    sources: tuple[Source, ...]
    question: str
    model: str
    sampling: Sampling
    mode: CitationMode
    grounding: Grounding
    support: float
    excerpts: tuple[Neighbourhood, ...]


@dataclass(slots=True)
class Said:
    """What came of it; `model` is who was to answer, until who did is known."""

    answer: str = ""
    citations: tuple[Citation, ...] = ()
    finish_reason: FinishReason = FinishReason.STOP
    usage: TokenUsage = field(default_factory=TokenUsage)
    prompt_hash: str = ""
    model: str = ""
    abstention: Abstention = Abstention.NONE

    @property
    def answered_by(self) -> str:
        """Who answered; empty when no model was asked."""
        return self.model if self.prompt_hash else ""


class AnswerGrounded:
    """Streams a grounded answer.

    Under strict grounding nothing unsupported stands alone: when the passages only may hold an answer, the text is held
    until a sentence of it is supported and answers the question; when they surely do, it streams at once, and if none of
    it turns out so the words of the document follow (docs/decisions/0020-unsupported-answers.md).

    Args:
        engine: The model.
        cite: Finds support.
        texts: The prompt texts.
        sure: Support from which text streams at once.
        allowed_hosts: Hosts that links may lead to.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        cite: Cite,
        texts: PromptTexts,
        sure: float,
        allowed_hosts: frozenset[str],
    ) -> None:
        self._engine = engine
        self._cite = cite
        self._texts = texts
        self._sure = sure
        self._allowed_hosts = allowed_hosts

    async def __call__(self, plan: Plan, said: Said, *, stages: Stages, emit: Emit) -> None:
        """Stream text and citations to `emit`; write the whole into `said`, as far as it came when it breaks off."""
        run = _Run(plan, said, self._guard(plan), stages=stages, emit=emit, cite=self._cite, sure=self._sure)
        with stages.stage("generate"):
            async with aclosing(
                self._engine.generate(plan.messages, model=plan.model, sampling=plan.sampling)
            ) as steps:
                async for step in steps:
                    run.said.prompt_hash = step.prompt_hash or run.said.prompt_hash
                    run.said.model = step.model or run.said.model
                    run.said.usage = step.usage or run.said.usage
                    run.said.finish_reason = step.finish_reason or run.said.finish_reason
                    await run.take(step.text, step.logprobs)
                    if run.text.leaked:
                        break
        await run.end(refusal=self._texts.refusal, quote=self._texts.quote)

    def _guard(self, plan: Plan) -> AnswerGuard:
        secret = "\n".join(message.content for message in plan.messages if message.role == "system")
        known = [plan.question, *(source.passage.text for source in plan.sources)]
        return AnswerGuard(
            secret=secret, known=known, allowed_hosts=self._allowed_hosts, removed_link=self._texts.removed_link
        )


class _Run:
    """One answer in the making."""

    def __init__(
        self, plan: Plan, said: Said, guard: AnswerGuard, *, stages: Stages, emit: Emit, cite: Cite, sure: float
    ) -> None:
        strict = plan.grounding is Grounding.STRICT
        self._plan = plan
        self._stages = stages
        self._emit = emit
        self._cite = cite
        self._strict = strict
        self._confident = plan.support >= sure
        self._windows: tuple[Window, ...] = read(plan.sources)
        self._tried: list[Stretch] = []
        self._cited: list[Citation] = []
        self._unsent: list[Citation] = []
        self._logprobs: list[TokenLogprob] = []
        self.text = AnswerText(guard, held=strict and not self._confident)
        self.said = said

    async def take(self, produced: str, logprobs: Sequence[TokenLogprob]) -> None:
        """Take one step of the model."""
        self._logprobs += logprobs
        self.text.feed(produced)
        if self.text.held or self._plan.mode is CitationMode.FAST:
            # The last sentence may go on.
            complete = segments(self.text.text)[:-1]
            if complete and (complete[-1].start, complete[-1].end) not in {(one.start, one.end) for one in self._tried}:
                await self._cite_now(complete)
        self._send(self.text.release())

    async def _cite_now(self, stretches: Sequence[Stretch]) -> None:
        fresh = uncited(stretches, self._tried, self._cited)
        self._tried += fresh
        if not fresh:
            return
        with self._stages.stage("cite"):
            found = await self._cite(fresh, self._windows, question=self._plan.question)
        self._cited += found
        self._unsent += found
        self.text.held = self.text.held and not self._answered

    @property
    def _answered(self) -> bool:
        """Whether something that is supported answers the question."""
        return any(answers(self._plan.question, citation.text) for citation in self._cited)

    def _send(self, text: str, *, finish_reason: FinishReason | None = None) -> None:
        if text or finish_reason is not None:
            if text:
                self._stages.first_text()
            self._emit(TextDelta(0, text, tuple(self._logprobs), finish_reason))
            self._logprobs = []
        if self._plan.mode is CitationMode.FAST and not self.text.held:
            self._send_citations()

    def _send_citations(self) -> None:
        for citation in sorted(self._unsent, key=lambda one: one.start):
            self._emit(citation)
        self._unsent = []

    async def end(self, *, refusal: str, quote: str) -> None:
        """Decide what becomes of an unsupported answer, send the rest, and close."""
        self.text.finish()
        if self._strict or self._plan.mode is not CitationMode.OFF:
            await self._cite_now(segments(self.text.text))
        if self._strict and not self._answered:
            self._without_support(refusal, quote)
        self.text.held = False
        self._send(self.text.release_all(), finish_reason=self.said.finish_reason)
        if self._plan.mode is not CitationMode.OFF:
            self._send_citations()
            self.said.citations = tuple(sorted(self._cited, key=lambda one: one.start))
        self.said.answer = self.text.text

    def _without_support(self, refusal: str, quote: str) -> None:
        place = next((place.words for place in self._plan.excerpts), None)
        source = place.source(self._plan.sources) if place else None
        # A model that finds no answer is believed, unless the passages surely hold one.
        denied = says_not_found(self.text.text) and not self._confident
        if not self.text.sent:
            # What was held back and found no support is not said.
            self._cited, self._unsent = [], []
        if place is None or source is None or denied:
            self._close_with(refusal)
            self.said.abstention = Abstention.NOT_SUPPORTED
            return
        self._close_with(quote)
        words = " ".join(place.text.split())
        start = len(self.text.text) + 2
        self.text.append(f" “{words}”")
        evidence = Evidence(
            source.number,
            source.passage.start + place.start,
            source.passage.start + place.end,
            place.text,
            source.passage.locator,
            1.0,
        )
        citation = Citation(start, start + len(words), words, (evidence,))
        self._cited.append(citation)
        self._unsent.append(citation)

    def _close_with(self, text: str) -> None:
        if self.text.sent:
            self.text.append(f"\n\n{text}")
        else:
            self.text.replace(text)
