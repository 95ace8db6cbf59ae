"""Events that reach the room: documents that go, judgements, answers, verdicts."""

from typing import Final

from google.protobuf.message import DecodeError

from brain.events.v1 import answer_pb2, document_pb2, feedback_pb2, verdict_pb2
from services.chassis.errors import BrainError, InvalidInput
from services.chassis.events.log import Envelope
from services.finetuning.domain.adapters import Withdrawal
from services.finetuning.domain.feedback import HeardJudgement
from services.finetuning.usecases.judgements import HearJudgements
from services.finetuning.usecases.promoting import Promotions
from services.finetuning.usecases.withdrawing import Withdraw

__all__ = ["ANSWER_TOPIC", "DOCUMENT_TOPIC", "FEEDBACK_TOPIC", "GROUP", "VERDICT_TOPIC", "Events"]

GROUP: Final = "finetuning"
DOCUMENT_TOPIC: Final = "brain.document.v1"
FEEDBACK_TOPIC: Final = "brain.feedback.v1"
ANSWER_TOPIC: Final = "brain.answer.v1"
VERDICT_TOPIC: Final = "brain.verdict.v1"

_KINDS: Final = {
    feedback_pb2.FEEDBACK_KIND_THUMB_UP: "thumb_up",
    feedback_pb2.FEEDBACK_KIND_THUMB_DOWN: "thumb_down",
    feedback_pb2.FEEDBACK_KIND_EDIT: "edit",
    feedback_pb2.FEEDBACK_KIND_RANKING: "ranking",
}


class Events:
    """Hands facts from other rooms to use cases; the tenant is the envelope's.

    Args:
        withdraw: Refuses what saw a document that goes.
        hear: Remembers judgements.
        promotions: Counts judgements and answers, and hears verdicts.
    """

    def __init__(self, *, withdraw: Withdraw, hear: HearJudgements, promotions: Promotions) -> None:
        self._withdraw = withdraw
        self._hear = hear
        self._promotions = promotions

    async def document(self, envelope: Envelope) -> None:
        """Hear what happened to a document.

        Raises:
            InvalidInput: The payload is not a DocumentEvent.
        """
        try:
            event = document_pb2.DocumentEvent.FromString(envelope.payload)
        except DecodeError as error:
            raise InvalidInput("The payload is not a DocumentEvent.", private=repr(error)) from error
        match event.WhichOneof("fact"):
            case "deleted":
                gone = Withdrawal(event.deleted.document_id, deleted=True)
                await self._withdraw.documents(envelope.tenant, [gone])
            case "access_changed":
                changed = event.access_changed
                narrowed = Withdrawal(changed.document_id, deleted=False, principals=tuple(changed.principals))
                await self._withdraw.documents(envelope.tenant, [narrowed])
            case _:
                # New versions and attributes teach no adapter anything and take nothing from one.
                return

    async def feedback(self, envelope: Envelope) -> None:
        """Hear a judgement, or that one was taken back.

        Raises:
            InvalidInput: The payload is not a FeedbackEvent, or of a kind that this version does not know.
        """
        try:
            event = feedback_pb2.FeedbackEvent.FromString(envelope.payload)
        except DecodeError as error:
            raise InvalidInput("The payload is not a FeedbackEvent.", private=repr(error)) from error
        match event.WhichOneof("fact"):
            case "given":
                await self._given(envelope, event.given)
            case "withdrawn":
                await self._withdraw.judgement(envelope.tenant, event.withdrawn.feedback_id)
            case _:
                raise InvalidInput(f"The event {envelope.type!r} is not known.")

    async def answer(self, envelope: Envelope) -> None:
        """Hear how a turn ended.

        Raises:
            InvalidInput: The payload is not an AnswerEvent.
        """
        try:
            event = answer_pb2.AnswerEvent.FromString(envelope.payload)
        except DecodeError as error:
            raise InvalidInput("The payload is not an AnswerEvent.", private=repr(error)) from error
        given = event.given
        if event.WhichOneof("fact") != "given" or not given.asked_model or not given.model:
            return
        await self._promotions.answered(
            envelope.tenant,
            alias=given.asked_model,
            model=given.model,
            key=envelope.event_id,
            failed=given.outcome == answer_pb2.ANSWER_OUTCOME_FAILED,
        )

    async def verdict(self, envelope: Envelope) -> None:
        """Hear what the evaluation room found.

        Raises:
            InvalidInput: The payload is not a VerdictEvent.
        """
        try:
            event = verdict_pb2.VerdictEvent.FromString(envelope.payload)
        except DecodeError as error:
            raise InvalidInput("The payload is not a VerdictEvent.", private=repr(error)) from error
        if event.WhichOneof("fact") != "reached":
            raise InvalidInput(f"The event {envelope.type!r} is not known.")
        reached = event.reached
        passed = reached.outcome == verdict_pb2.VERDICT_OUTCOME_PASSED
        outcome = verdict_pb2.VerdictOutcome.Name(reached.outcome).removeprefix("VERDICT_OUTCOME_").lower()
        reason = "; ".join([f"verdict {outcome}", *reached.reasons])
        await self._promotions.verdict(envelope.tenant, reached.promotion_id, passed=passed, reason=reason)

    async def on_dead(self, envelope: Envelope, error: BrainError) -> None:
        """Nothing of ours waits for an event that cannot be understood; the dead letters keep it."""

    async def _given(self, envelope: Envelope, given: feedback_pb2.FeedbackGiven) -> None:
        kind = _KINDS.get(given.kind)
        if kind is None:
            raise InvalidInput(f"The kind of feedback {given.kind} is not known.")
        await self._hear(
            envelope.tenant,
            HeardJudgement(
                feedback_id=given.feedback_id,
                kind=kind,
                model=given.model,
                collection_ids=tuple(given.collection_ids),
                sources=tuple((one.document_id, one.version) for one in given.sources),
                blob_key=given.blob_key,
                at=envelope.occurred_at.timestamp(),
            ),
        )
        if kind == "ranking" or not given.asked_model:
            return
        await self._promotions.judged(
            envelope.tenant,
            alias=given.asked_model,
            model=given.model,
            key=given.feedback_id,
            # Who writes a better answer was not content with the one that was given.
            bad=kind != "thumb_up",
        )
