"""One turn of a conversation, from the question to the receipt."""

from contextlib import aclosing

from opentelemetry.trace import Tracer

from services.chassis.auth import Caller
from services.chassis.errors import DeadlineExceeded, Internal, NotFound, Unavailable
from services.chassis.ids import new_id
from services.chat import telemetry
from services.chat.domain.asking import check
from services.chat.domain.receipts import Conversation
from services.chat.domain.turn import (
    Abstention,
    FinishReason,
    Message,
    PassagesChosen,
    QueriesMade,
    Question,
    TextDelta,
    TokenUsage,
    TurnFinished,
    TurnStarted,
)
from services.chat.ports import Clock, Engine, Records
from services.chat.telemetry import Metrics
from services.chat.usecases.grounded import Emit, Said
from services.chat.usecases.grounds import FindGrounds, SayGrounded
from services.chat.usecases.keeping import KeepTurn
from services.chat.usecases.stages import Stages
from services.chat.usecases.talk import Turn

_TITLE_CHARACTERS = 80
# What an engine breaks off with: not a wrong request, a missing model, or no room at the moment.
_FAILURES = (DeadlineExceeded, Internal, Unavailable)


class AnswerTurn:
    """Answers one turn.

    Args:
        engine: The model.
        records: Conversations and receipts.
        keep_turn: Stores what was said.
        find_grounds: From the turn to the prompt of a grounded answer.
        say_grounded: From the prompt to the answer.
        most_history: Most earlier turns that are read from a stored conversation.
        metrics: The room's metrics.
        clock: The time.
        tracer: Where spans begin.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        records: Records,
        keep_turn: KeepTurn,
        find_grounds: FindGrounds,
        say_grounded: SayGrounded,
        most_history: int,
        metrics: Metrics,
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self._engine = engine
        self._records = records
        self._keep_turn = keep_turn
        self._find_grounds = find_grounds
        self._say_grounded = say_grounded
        self._most_history = most_history
        self._metrics = metrics
        self._clock = clock
        self._tracer = tracer

    async def __call__(self, question: Question, caller: Caller, emit: Emit) -> None:
        """Answer a turn; its events go to `emit` as they happen.

        Whatever can be refused is refused before the first event. When the caller leaves, the engine's work ends and
        nothing is stored.

        Raises:
            InvalidInput: The request contradicts itself; `param` names the field.
            NotFound: No such conversation, collection or model.
            TooLarge: The question alone fills the model's window.
            Unavailable: Retrieval or the engine is away: there is no ungrounded answer in a grounded one's place.
        """
        check(question)
        with self._tracer.start_as_current_span(
            telemetry.SPAN_TURN,
            attributes={telemetry.GEN_AI_OPERATION: "chat", telemetry.GEN_AI_MODEL: question.model},
            record_exception=False,
        ) as span:
            stages = Stages(clock=self._clock, metrics=self._metrics, tracer=self._tracer)
            turn = await self._open(question, caller)
            if question.grounded:
                said = await self._grounded(turn, stages, emit)
            else:
                said = await self._plain(turn, stages, emit)
            span.set_attributes(
                {
                    telemetry.GEN_AI_INPUT_TOKENS: said.usage.prompt_tokens,
                    telemetry.GEN_AI_OUTPUT_TOKENS: said.usage.completion_tokens,
                    telemetry.GEN_AI_FINISH_REASONS: [said.finish_reason.value],
                    telemetry.GEN_AI_CONVERSATION: turn.conversation_id,
                    telemetry.CHAT_ABSTENTION: said.abstention.value,
                    telemetry.CHAT_CITATIONS: len(said.citations),
                }
            )

    async def _open(self, question: Question, caller: Caller) -> Turn:
        response_id = new_id("resp_")
        if not question.stored:
            return Turn(question, caller, response_id, None, ())
        now = self._clock.now()
        if not question.conversation_id:
            asked = next(message.content for message in question.messages if message.role == "user")
            title = " ".join(asked.split())[:_TITLE_CHARACTERS]
            return Turn(question, caller, response_id, Conversation(new_id("conv_"), title, now, now), ())
        found = await self._records.conversation(question.conversation_id, tenant=caller.tenant, owner=caller.subject)
        if found is None:
            raise NotFound(f"No conversation {question.conversation_id!r}.", param="conversation_id")
        said = tuple(Message(turn.role, turn.content) for turn in found.turns)
        instructions = tuple(message for message in said if message.role == "system")
        spoken = tuple(message for message in said if message.role != "system")
        kept = spoken[max(0, len(spoken) - self._most_history) :]
        return Turn(question, caller, response_id, found, (*instructions, *kept))

    async def _plain(self, turn: Turn, stages: Stages, emit: Emit) -> Said:
        """Pass the engine's stream through: nothing is added, nothing is looked at."""
        said = Said()
        try:
            await self._pass_through(turn, said, stages, emit)
        except _FAILURES:
            if turn.conversation is not None:
                await self._keep_turn.failed(turn, said)
            raise
        receipt_id = ""
        if turn.conversation is not None:
            receipt_id = await self._keep_turn(turn, said, stages, grounds=None, sampling=turn.question.sampling)
        emit(TurnFinished(said.finish_reason, said.usage, receipt_id, Abstention.NONE, stages.timings))
        return said

    async def _pass_through(self, turn: Turn, said: Said, stages: Stages, emit: Emit) -> None:
        question = turn.question
        ends: dict[int, FinishReason] = {}
        usages: dict[int, TokenUsage] = {}
        pieces: list[str] = []
        steps = self._engine.generate(turn.messages, model=question.model, sampling=question.sampling)
        with stages.stage("generate"):
            async with aclosing(steps):
                async for step in steps:
                    if not said.model:
                        said.model, said.prompt_hash = step.model or question.model or "base", step.prompt_hash
                        # Only now: what the engine refuses is still a plain error.
                        emit(TurnStarted(turn.response_id, turn.conversation_id, said.model))
                    if step.text:
                        stages.first_text()
                    emit(TextDelta(step.index, step.text, step.logprobs, step.finish_reason))
                    if step.usage is not None:
                        usages[step.index] = step.usage
                    if step.finish_reason is not None:
                        ends[step.index] = step.finish_reason
                    if step.index == 0:
                        pieces.append(step.text)
        said.answer = "".join(pieces)
        said.finish_reason = ends.get(0, FinishReason.STOP)
        said.usage = _total(usages)

    async def _grounded(self, turn: Turn, stages: Stages, emit: Emit) -> Said:
        question = turn.question
        grounds = await self._find_grounds(turn, stages)
        emit(TurnStarted(turn.response_id, turn.conversation_id, grounds.model))
        emit(QueriesMade(grounds.queries.queries, grounds.queries.method))
        emit(PassagesChosen(grounds.prompt.sources))
        said = Said(model=grounds.model)
        try:
            await self._say_grounded(question, grounds, said, stages=stages, emit=emit)
        except _FAILURES:
            await self._keep_turn.failed(turn, said)
            raise
        if said.abstention is not Abstention.NONE:
            self._metrics.abstentions.labels(reason=said.abstention.value).inc()
        sampling = self._say_grounded.sampling(question.sampling, grounds.prompt.answer_tokens)
        receipt_id = await self._keep_turn(turn, said, stages, grounds=grounds, sampling=sampling)
        emit(TurnFinished(said.finish_reason, said.usage, receipt_id, said.abstention, stages.timings))
        return said


def _total(usages: dict[int, TokenUsage]) -> TokenUsage:
    """Sum the answers' tokens; the prompt is read once, however many answers it gets."""
    if not usages:
        return TokenUsage()
    return TokenUsage(
        prompt_tokens=max(usage.prompt_tokens for usage in usages.values()),
        cached_tokens=max(usage.cached_tokens for usage in usages.values()),
        completion_tokens=sum(usage.completion_tokens for usage in usages.values()),
    )
