"""Answers sampled to one question, to be compared."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from opentelemetry.trace import Tracer

from services.chassis.auth import Caller
from services.chassis.errors import Conflict
from services.chassis.ids import new_id
from services.chat import telemetry
from services.chat.domain.asking import check
from services.chat.domain.comparisons import ComparedAnswer, Comparison, SamplesWanted, checked_samples
from services.chat.domain.feedback import JudgedSource, conversation_of
from services.chat.domain.rewriting import last_question
from services.chat.domain.turn import Abstention, FinishReason, Message, Question, TokenUsage
from services.chat.ports import Clock, Engine, Judgements
from services.chat.telemetry import Metrics
from services.chat.usecases.grounded import Said
from services.chat.usecases.grounds import FindGrounds, Grounds, SayGrounded
from services.chat.usecases.stages import Stages
from services.chat.usecases.talk import Turn, instructions_of

__all__ = ["SampleAnswers"]

# A cool model says the same again: each answer gets so many seeds to differ from the others.
_ROUNDS: Final = 3
_FEWEST: Final = 2
_SEEDS: Final = 2**31


class SampleAnswers:
    """Draws different answers to one question and keeps them as a comparison.

    A grounded question is searched once; every answer is drawn from the same prompt, as a turn would be.

    Args:
        engine: The model.
        judgements: Where comparisons are kept.
        find_grounds: From the question to the prompt of a grounded answer.
        say_grounded: From the prompt to an answer.
        temperature: How much answers vary when the caller does not say.
        metrics: The room's metrics.
        clock: The time.
        tracer: Where spans begin.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        judgements: Judgements,
        find_grounds: FindGrounds,
        say_grounded: SayGrounded,
        temperature: float,
        metrics: Metrics,
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self._engine = engine
        self._judgements = judgements
        self._find_grounds = find_grounds
        self._say_grounded = say_grounded
        self._temperature = temperature
        self._metrics = metrics
        self._clock = clock
        self._tracer = tracer

    async def __call__(self, caller: Caller, asked: SamplesWanted) -> tuple[Comparison, Mapping[str, TokenUsage]]:
        """Return the comparison, and the tokens that it took by model.

        Raises:
            InvalidInput: A field is out of range; `param` names it.
            NotFound: No such collection or model.
            Conflict: There are no two different answers.
            Unavailable: Retrieval or the engine is away.
        """
        wanted = checked_samples(asked, temperature=self._temperature)
        check(wanted.question)
        turn = Turn(wanted.question, caller, "", None, ())
        with self._tracer.start_as_current_span(
            telemetry.SPAN_SAMPLE,
            attributes={telemetry.GEN_AI_OPERATION: "chat", telemetry.GEN_AI_MODEL: wanted.question.model},
            record_exception=False,
        ):
            stages = Stages(clock=self._clock, metrics=self._metrics, tracer=self._tracer)
            grounds = await self._find_grounds(turn, stages) if wanted.question.grounded else None
            answers, spent = await self._different(wanted, grounds, stages)
        comparison = Comparison(
            id=new_id("cmp_"),
            tenant=caller.tenant,
            owner=caller.subject,
            created_at=self._clock.now(),
            messages=_messages(turn, grounds),
            question=last_question(turn.messages),
            collection_ids=wanted.question.retrieval.collection_ids,
            sources=_sources(grounds),
            raters=wanted.raters,
            # By ids that were drawn by lot: the order tells nothing of who answered.
            answers=tuple(sorted(answers, key=lambda answer: answer.id)),
        )
        await self._judgements.add_comparison(comparison)
        self._metrics.comparisons.inc()
        return comparison, spent

    async def _different(
        self, wanted: SamplesWanted, grounds: Grounds | None, stages: Stages
    ) -> tuple[list[ComparedAnswer], Mapping[str, TokenUsage]]:
        """Draw until there are as many different answers as wanted, or no more come."""
        first = wanted.question.sampling.seed
        seed = secrets.randbelow(_SEEDS) if first is None else first
        places = [wanted.models[place % len(wanted.models)] for place in range(wanted.answers)]
        kept: dict[str, ComparedAnswer] = {}
        spent: dict[str, TokenUsage] = {}
        refused = True
        for _ in range(_ROUNDS):
            questions = [_seeded(wanted.question, model, seed + place) for place, model in enumerate(places)]
            seed += len(questions)
            missing = []
            for question, said in zip(questions, await self._say_all(questions, grounds, stages), strict=True):
                asked = question.model or said.model
                if said.answered_by:
                    spent[said.model] = spent.get(said.model, TokenUsage()) + said.usage
                refused = refused and said.abstention is not Abstention.NONE
                words = " ".join(said.answer.split())
                if not words or words in kept or said.finish_reason is FinishReason.ERROR:
                    missing.append(question.model)
                    continue
                drawn = question.sampling.seed or 0
                kept[words] = ComparedAnswer(f"ans_{secrets.token_hex(6)}", said.answer, said.answered_by, asked, drawn)
            places = missing
            if not places:
                break
        if len(kept) < _FEWEST:
            reason = (
                "the documents do not answer this question; ask what they do"
                if refused and grounds is not None
                else f"every one of {_ROUNDS} tries said the same; raise the temperature or ask another question"
            )
            raise Conflict(f"answers: there are no two different ones: {reason}.", param="answers")
        return list(kept.values()), spent

    async def _say_all(self, questions: Sequence[Question], grounds: Grounds | None, stages: Stages) -> list[Said]:
        """Answer at once; when one breaks off the others end too."""
        tasks = [asyncio.create_task(self._say(question, grounds, stages)) for question in questions]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _say(self, question: Question, grounds: Grounds | None, stages: Stages) -> Said:
        if grounds is not None:
            said = Said(model=question.model or await self._engine.base_model())
            await self._say_grounded(question, grounds, said, stages=stages, emit=lambda _event: None)
            return said
        said = Said()
        with stages.stage("generate"):
            steps = self._engine.generate(question.messages, model=question.model, sampling=question.sampling)
            async with aclosing(steps):
                async for step in steps:
                    said.model = step.model or said.model
                    said.prompt_hash = step.prompt_hash or said.prompt_hash
                    said.usage = step.usage or said.usage
                    said.finish_reason = step.finish_reason or said.finish_reason
                    said.answer += step.text
        said.model = said.model or question.model
        return said


def _seeded(question: Question, model: str, seed: int) -> Question:
    return replace(question, model=model, sampling=replace(question.sampling, seed=seed))


def _messages(turn: Turn, grounds: Grounds | None) -> tuple[Message, ...]:
    """Return the conversation as the model read it, without passages."""
    if grounds is not None:
        return conversation_of(instructions_of(turn), grounds.prompt.history, grounds.queries.standalone)
    spoken = tuple(message for message in turn.messages[:-1] if message.role != "system")
    return conversation_of(instructions_of(turn), spoken, last_question(turn.messages))


def _sources(grounds: Grounds | None) -> tuple[JudgedSource, ...]:
    if grounds is None:
        return ()
    held = (source.passage for source in grounds.prompt.sources if not source.passage.inline)
    return tuple(dict.fromkeys(JudgedSource(passage.document_id, passage.version) for passage in held))
