"""The check before training: rows, tokens and the adapter's shape, as one report."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.chassis.errors import InvalidInput
from services.finetuning.domain.adapter_shape import AdapterShape, EngineLimits, check_adapter
from services.finetuning.domain.encoding import Encoded, RowTokens, measured
from services.finetuning.domain.preflight import Subject, check
from services.finetuning.domain.report import Finding, Report
from services.finetuning.domain.row_reading import RowFile
from services.finetuning.domain.rows import ASSISTANT, ChatRow, KtoRow, PreferenceRow, PromptRow, Row, TextRow, Turn
from services.finetuning.ports.tokens import Tokens
from services.finetuning.usecases.reading import ReadRows
from services.layout.texts import LayoutTexts


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What is to be checked.

    Attributes:
        stage: Name of the stage.
        training_file: File with the rows.
        validation_file: File with held-out rows; empty for none.
        max_length: Most tokens of a sequence.
        shape: The adapter that is asked for; None leaves it out.
        limits: What the engine serves; None leaves the adapter out.
        served_template_hash: Chat template that the engine serves; empty when that is not known.
        evaluation_questions: Questions by which the adapter will be graded.
        seed: Of the search for near duplicates.
    """

    stage: str
    training_file: str
    validation_file: str = ""
    max_length: int = 2048
    shape: AdapterShape | None = None
    limits: EngineLimits | None = None
    served_template_hash: str = ""
    evaluation_questions: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The report, and the rows that it is about: they need not be read again."""

    report: Report
    training: RowFile
    validation: RowFile | None


class CheckRows:
    """Checks what a job would train on.

    Args:
        read_rows: Reads the files.
        texts: What the layout of grounded turns says, by which questions are told from passages.
    """

    def __init__(self, *, read_rows: ReadRows, texts: LayoutTexts) -> None:
        self._read_rows = read_rows
        self._texts = texts

    async def __call__(self, request: CheckRequest, tokens: Tokens) -> CheckedRows:
        """Return what was found.

        Args:
            request: What is to be checked.
            tokens: Of the base model.

        Raises:
            NotFound: There is no such file that the caller may read.
            InvalidInput: A file was stored for another purpose.
        """
        training = await self._read_rows(request.training_file, stage=request.stage)
        validation = None
        if request.validation_file:
            validation = await self._read_rows(request.validation_file, stage=request.stage, param="validation_file")
        report = await asyncio.to_thread(self._checked, request, tokens, training, validation)
        return CheckedRows(report, training, validation)

    def _checked(self, request: CheckRequest, tokens: Tokens, training: RowFile, validation: RowFile | None) -> Report:
        shape: tuple[Finding, ...] = ()
        if request.shape is not None and request.limits is not None:
            shape = check_adapter(request.shape, request.limits, stage=request.stage)
        subject = Subject(
            stage=request.stage,
            training=training,
            tokens=tuple(row_tokens(one.row, tokens, max_length=request.max_length) for one in training.rows),
            max_length=request.max_length,
            template_hash=tokens.template_hash,
            served_template_hash=request.served_template_hash,
            special_tokens=tokens.special_tokens,
            validation=validation,
            evaluation_questions=request.evaluation_questions,
            mark=self._texts.question,
            seed=request.seed,
            more=shape,
        )
        return check(subject)


def row_tokens(row: Row, tokens: Tokens, *, max_length: int) -> RowTokens:
    """Return what a row costs and teaches; a row that the chat template refuses says so."""
    if not isinstance(row, TextRow) and not tokens.template_hash:
        return RowTokens(refused="The base model has no chat template.")
    try:
        sequences = _encoded(row, tokens)
    except InvalidInput as error:
        return RowTokens(refused=error.message)
    return measured(sequences, max_length=max_length, end_of_turn=tokens.end_of_turn)


def _encoded(row: Row, tokens: Tokens) -> Sequence[Encoded]:
    match row:
        case TextRow():
            return [tokens.encode_text(row.text)]
        case ChatRow() | PromptRow():
            return [tokens.encode_conversation(row.messages, row.tools)]
        case KtoRow():
            return [tokens.encode_conversation(_last_only(row.messages), row.tools)]
        case PreferenceRow():
            return [
                tokens.encode_conversation(_last_only((*row.messages, *answer)), row.tools)
                for answer in (row.preferred, row.rejected)
            ]


def _last_only(messages: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return a judged conversation: only the answer that was judged is learnt from, whatever was said before."""
    return (*(replace(turn, weight=0) if turn.role == ASSISTANT else turn for turn in messages[:-1]), messages[-1])
