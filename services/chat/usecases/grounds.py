"""What a grounded answer rests on, and what is said on it: one answer to a reader, or several to be compared."""

from dataclasses import dataclass, replace

from services.chat import telemetry
from services.chat.domain.prompt import PromptTexts
from services.chat.domain.rewriting import last_question
from services.chat.domain.turn import (
    Abstention,
    CitationMode,
    FinishReason,
    Grounding,
    Passage,
    Question,
    Sampling,
    TextDelta,
)
from services.chat.usecases.grounded import AnswerGrounded, Emit, Plan, Said
from services.chat.usecases.passages import FindPassages
from services.chat.usecases.prompting import FitPrompt
from services.chat.usecases.queries import MakeQueries, Queries
from services.chat.usecases.stages import Stages
from services.chat.usecases.support import JudgeSupport, Support
from services.chat.usecases.talk import Turn, instructions_of
from services.layout.fitting import FittedPrompt


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a grounded turn rests on."""

    queries: Queries
    passages: tuple[Passage, ...]
    prompt: FittedPrompt
    support: Support
    # Who will answer: an alias is resolved.
    model: str


class FindGrounds:
    """From a turn to the prompt of its answer: queries, passages, whether they hold an answer, what fits.

    Args:
        make_queries: From the turn to search queries.
        find_passages: From queries to passages.
        judge_support: Whether the passages hold an answer.
        fit_prompt: The prompt within the window.
    """

    def __init__(
        self,
        *,
        make_queries: MakeQueries,
        find_passages: FindPassages,
        judge_support: JudgeSupport,
        fit_prompt: FitPrompt,
    ) -> None:
        self._make_queries = make_queries
        self._find_passages = find_passages
        self._judge_support = judge_support
        self._fit_prompt = fit_prompt

    async def __call__(self, turn: Turn, stages: Stages) -> Grounds:
        """Return what the turn's answer rests on.

        Raises:
            TooLarge: The question alone fills the model's window.
            Unavailable: Retrieval or the engine is away.
        """
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
            prompt, model = await self._fit_prompt(
                model=question.model,
                instructions=instructions_of(turn),
                passages=passages,
                excerpts=support.places,
                history=spoken,
                question=queries.standalone,
                max_tokens=question.sampling.max_tokens,
            )
        return Grounds(queries, passages, prompt, support, model)


class SayGrounded:
    """Answers on grounds, or refuses.

    Args:
        answer_grounded: The text, guarded and cited.
        texts: The prompt texts.
        answerable: Support below which a strict turn is refused before generation.
        temperature: Temperature when the caller does not say.
        frequency_penalty: The same for the penalty on repeated tokens.
    """

    def __init__(
        self,
        *,
        answer_grounded: AnswerGrounded,
        texts: PromptTexts,
        answerable: float,
        temperature: float,
        frequency_penalty: float,
    ) -> None:
        self._answer_grounded = answer_grounded
        self._texts = texts
        self._answerable = answerable
        self._temperature = temperature
        self._frequency_penalty = frequency_penalty

    async def __call__(self, question: Question, grounds: Grounds, said: Said, *, stages: Stages, emit: Emit) -> None:
        """Stream the answer to `emit`, and write into `said` what has been said, also when it breaks off."""
        strict = question.grounding is not Grounding.OPEN
        if strict and (not grounds.prompt.sources or grounds.support.score < self._answerable):
            said.answer = self._texts.refusal
            said.abstention = Abstention.NOT_SUPPORTED if grounds.passages else Abstention.NOTHING_FOUND
            stages.first_text()
            emit(TextDelta(0, said.answer, (), FinishReason.STOP))
            return
        plan = Plan(
            messages=grounds.prompt.messages,
            sources=grounds.prompt.sources,
            question=grounds.queries.standalone,
            model=question.model,
            sampling=self.sampling(question.sampling, grounds.prompt.answer_tokens),
            mode=question.citation_mode or CitationMode.ACCURATE,
            grounding=Grounding.STRICT if strict else Grounding.OPEN,
            support=grounds.support.score,
            excerpts=grounds.prompt.excerpts,
        )
        await self._answer_grounded(plan, said, stages=stages, emit=emit)

    def sampling(self, wanted: Sampling, answer_tokens: int) -> Sampling:
        """Return how the tokens of a grounded answer are drawn."""
        temperature = self._temperature if wanted.temperature is None else wanted.temperature
        penalty = self._frequency_penalty if wanted.frequency_penalty is None else wanted.frequency_penalty
        # A small model goes on with a question of its own when it has answered ours.
        stop = (*wanted.stop, f"\n{self._texts.question}", "\n<document")
        return replace(
            wanted, temperature=temperature, frequency_penalty=penalty, stop=stop, max_tokens=answer_tokens, n=1
        )
