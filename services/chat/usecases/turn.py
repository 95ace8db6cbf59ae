"""One turn of a conversation, from the question to the receipt."""

from contextlib import aclosing
from dataclasses import replace

from opentelemetry.trace import Tracer

from services.chassis.auth import Caller
from services.chassis.errors import InvalidInput, NotFound
from services.chassis.ids import new_id
from services.chat import telemetry
from services.chat.domain.prompt import PromptTexts
from services.chat.domain.receipts import (
    Conversation,
)
from services.chat.domain.rewriting import last_question
from services.chat.domain.turn import (
    Abstention,
    CitationMode,
    FinishReason,
    Grounding,
    Message,
    PassagesChosen,
    QueriesMade,
    Question,
    Sampling,
    TextDelta,
    TokenUsage,
    TurnFinished,
    TurnStarted,
)
from services.chat.ports import Clock, Engine, Records
from services.chat.telemetry import Metrics
from services.chat.usecases.grounded import AnswerGrounded, Emit, Plan, Said
from services.chat.usecases.keeping import Grounds, KeepTurn, Turn, instructions_of
from services.chat.usecases.passages import FindPassages
from services.chat.usecases.prompting import FitPrompt
from services.chat.usecases.queries import MakeQueries
from services.chat.usecases.stages import Stages
from services.chat.usecases.support import JudgeSupport

_ROLES = frozenset({"system", "user", "assistant", "tool"})
_TITLE_CHARACTERS = 80
_MOST_MESSAGES = 1_000


class AnswerTurn:
    """Answers one turn.

    Args:
        engine: The model.
        records: Conversations and receipts.
        keep_turn: Stores what was said.
        make_queries: From the turn to search queries.
        find_passages: From queries to passages.
        judge_support: Whether the passages hold an answer.
        fit_prompt: The prompt within the window.
        answer_grounded: The text, guarded and cited.
        texts: The prompt texts.
        answerable: Support below which a strict turn is refused before generation.
        temperature: Temperature of grounded answers when the caller does not say.
        frequency_penalty: The same for the penalty on repeated tokens.
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
        make_queries: MakeQueries,
        find_passages: FindPassages,
        judge_support: JudgeSupport,
        fit_prompt: FitPrompt,
        answer_grounded: AnswerGrounded,
        texts: PromptTexts,
        answerable: float,
        temperature: float,
        frequency_penalty: float,
        most_history: int,
        metrics: Metrics,
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self._engine = engine
        self._records = records
        self._keep_turn = keep_turn
        self._make_queries = make_queries
        self._find_passages = find_passages
        self._judge_support = judge_support
        self._fit_prompt = fit_prompt
        self._answer_grounded = answer_grounded
        self._texts = texts
        self._answerable = answerable
        self._temperature = temperature
        self._frequency_penalty = frequency_penalty
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
        _check(question)
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
        question = turn.question
        said = Said()
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
        receipt_id = ""
        if turn.conversation is not None:
            receipt_id = await self._keep_turn(turn, said, stages, grounds=None, sampling=question.sampling)
        emit(TurnFinished(said.finish_reason, said.usage, receipt_id, Abstention.NONE, stages.timings))
        return said

    async def _grounded(self, turn: Turn, stages: Stages, emit: Emit) -> Said:
        question = turn.question
        model = question.model or await self._engine.base_model()
        grounds = await self._grounds(turn, stages, model)
        emit(TurnStarted(turn.response_id, turn.conversation_id, model))
        emit(QueriesMade(grounds.queries.queries, grounds.queries.method))
        emit(PassagesChosen(grounds.prompt.sources))
        strict = question.grounding is not Grounding.OPEN
        if strict and (not grounds.prompt.sources or grounds.support.score < self._answerable):
            said = Said(
                answer=self._texts.refusal,
                model=model,
                abstention=Abstention.NOT_SUPPORTED if grounds.passages else Abstention.NOTHING_FOUND,
            )
            stages.first_text()
            emit(TextDelta(0, said.answer, (), FinishReason.STOP))
        else:
            plan = Plan(
                messages=grounds.prompt.messages,
                sources=grounds.prompt.sources,
                question=grounds.queries.standalone,
                model=question.model,
                sampling=self._sampling(question.sampling, grounds.prompt.answer_tokens),
                mode=question.citation_mode or CitationMode.ACCURATE,
                grounding=Grounding.STRICT if strict else Grounding.OPEN,
                support=grounds.support.score,
                excerpts=grounds.prompt.excerpts,
            )
            said = await self._answer_grounded(plan, stages=stages, emit=emit)
            said.model = said.model or model
        if said.abstention is not Abstention.NONE:
            self._metrics.abstentions.labels(reason=said.abstention.value).inc()
        receipt_id = await self._keep_turn(
            turn,
            said,
            stages,
            grounds=grounds,
            sampling=self._sampling(question.sampling, grounds.prompt.answer_tokens),
        )
        emit(TurnFinished(said.finish_reason, said.usage, receipt_id, said.abstention, stages.timings))
        return said

    async def _grounds(self, turn: Turn, stages: Stages, model: str) -> Grounds:
        question = turn.question
        spoken = tuple(message for message in turn.messages[:-1] if message.role != "system")
        asked = last_question(turn.messages)
        with stages.stage("rewrite") as span:
            queries = await self._make_queries(asked, spoken, model=question.model)
            span.set_attribute(telemetry.CHAT_REWRITE, queries.method.value)
        with stages.stage("retrieve") as span:
            passages = await self._find_passages(
                queries.queries, options=question.retrieval, documents=question.documents
            )
            span.set_attribute(telemetry.CHAT_PASSAGES, len(passages))
        with stages.stage("judge") as span:
            support = await self._judge_support(queries.queries, passages)
            span.set_attribute(telemetry.CHAT_SUPPORT, round(support.score, 4))
        with stages.stage("prompt"):
            prompt = await self._fit_prompt(
                model=question.model,
                instructions=instructions_of(turn),
                passages=passages,
                excerpts=support.places,
                history=spoken,
                question=queries.standalone,
                max_tokens=question.sampling.max_tokens,
            )
        return Grounds(queries, passages, prompt, support)

    def _sampling(self, wanted: Sampling, answer_tokens: int) -> Sampling:
        temperature = self._temperature if wanted.temperature is None else wanted.temperature
        penalty = self._frequency_penalty if wanted.frequency_penalty is None else wanted.frequency_penalty
        # A small model goes on with a question of its own when it has answered ours.
        stop = (*wanted.stop, f"\n{self._texts.question}", "\n<document")
        return replace(
            wanted, temperature=temperature, frequency_penalty=penalty, stop=stop, max_tokens=answer_tokens, n=1
        )


def _check(question: Question) -> None:
    if not question.messages:
        raise InvalidInput("messages is empty; it must end in a user turn.", param="messages")
    if len(question.messages) > _MOST_MESSAGES:
        raise InvalidInput(
            f"messages holds {len(question.messages)} turns; at most {_MOST_MESSAGES}.", param="messages"
        )
    for position, message in enumerate(question.messages):
        if message.role not in _ROLES:
            raise InvalidInput(
                f"messages[{position}].role is {message.role!r}; allowed are {', '.join(sorted(_ROLES))}.",
                param=f"messages[{position}].role",
            )
    last = question.messages[-1]
    if last.role != "user" or not last.content.strip():
        raise InvalidInput("messages must end in a user turn that says something.", param="messages")
    if question.grounded and question.sampling.n > 1:
        raise InvalidInput(f"n is {question.sampling.n}; with documents or collections only 1 is allowed.", param="n")


def _total(usages: dict[int, TokenUsage]) -> TokenUsage:
    """Sum the answers' tokens; the prompt is read once, however many answers it gets."""
    if not usages:
        return TokenUsage()
    return TokenUsage(
        prompt_tokens=max(usage.prompt_tokens for usage in usages.values()),
        cached_tokens=max(usage.cached_tokens for usage in usages.values()),
        completion_tokens=sum(usage.completion_tokens for usage in usages.values()),
    )
