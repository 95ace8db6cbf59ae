"""Receipts: read under the rights of today, and replayed."""

from collections.abc import Sequence
from contextlib import aclosing

from opentelemetry.trace import Tracer

from services.chassis.auth import Caller
from services.chassis.errors import NotFound
from services.chat.domain.prompt import PromptTexts
from services.chat.domain.receipts import Receipt, Replay, ResolvedReceipt, ResolvedSpan
from services.chat.domain.turn import (
    CitationMode,
    Grounding,
    Message,
    Passage,
    Source,
)
from services.chat.ports import Clock, Engine, Library, Records
from services.chat.telemetry import Metrics
from services.chat.usecases.grounded import AnswerGrounded, Plan, Said
from services.chat.usecases.stages import Stages
from services.layout import prompt
from services.layout.nearest import Neighbourhood


class GetReceipt:
    """Returns a receipt with its texts as the reader may see them today.

    Args:
        records: Where receipts are kept.
        library: Where stored text is.
    """

    def __init__(self, *, records: Records, library: Library) -> None:
        self._records = records
        self._library = library

    async def __call__(self, caller: Caller, receipt_id: str) -> ResolvedReceipt:
        """Return the receipt to its owner or an administrator of the tenant.

        Raises:
            NotFound: There is none that the caller may know of.
        """
        receipt = await self._records.receipt(receipt_id, tenant=caller.tenant)
        if receipt is None or not (receipt.owner == caller.subject or caller.is_administrator):
            raise NotFound(f"No receipt {receipt_id!r}.", param="receipt_id")
        kept = [source.span for source in receipt.sources if not source.inline]
        resolved = iter(await self._library.resolve(kept) if kept else [])
        texts = tuple(ResolvedSpan(available=False) if source.inline else next(resolved) for source in receipt.sources)
        return ResolvedReceipt(receipt, texts)


class ReplayReceipt:
    """Builds the prompt again from a receipt and asks the same model with the same sampling.

    Args:
        get_receipt: Reads the receipt under the caller's rights.
        engine: The model.
        answer_grounded: The text, guarded and cited.
        texts: The prompt texts of today.
        metrics: The room's metrics.
        clock: The time.
        tracer: Where spans begin.
    """

    def __init__(
        self,
        *,
        get_receipt: GetReceipt,
        engine: Engine,
        answer_grounded: AnswerGrounded,
        texts: PromptTexts,
        metrics: Metrics,
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self._get_receipt = get_receipt
        self._engine = engine
        self._answer_grounded = answer_grounded
        self._texts = texts
        self._metrics = metrics
        self._clock = clock
        self._tracer = tracer

    async def __call__(self, caller: Caller, receipt_id: str) -> Replay:
        """Return the answer of today beside that of the receipt, and what differs.

        Raises:
            NotFound: There is no such receipt that the caller may know of, or its model is gone.
        """
        resolved = await self._get_receipt(caller, receipt_id)
        receipt = resolved.receipt
        if not receipt.prompt_hash:
            return Replay(
                answer=receipt.answer,
                prompt_hash="",
                same_prompt=True,
                same_answer=True,
                difference="No prompt was sent: the turn was refused before generation.",
            )
        if receipt.grounded:
            answer, prompt_hash = await self._grounded(resolved)
        else:
            answer, prompt_hash = await self._plain(receipt)
        same = prompt_hash == receipt.prompt_hash
        return Replay(
            answer=answer,
            prompt_hash=prompt_hash,
            same_prompt=same,
            same_answer=answer == receipt.answer,
            difference="" if same else " ".join(self._differences(resolved)),
        )

    async def _plain(self, receipt: Receipt) -> tuple[str, str]:
        system = (Message("system", receipt.instructions),) if receipt.instructions else ()
        messages = (*system, *receipt.history, Message("user", receipt.question))
        answer, prompt_hash = [], ""
        steps = self._engine.generate(messages, model=receipt.model, sampling=receipt.sampling)
        async with aclosing(steps):
            async for step in steps:
                prompt_hash = step.prompt_hash or prompt_hash
                if step.index == 0:
                    answer.append(step.text)
        return "".join(answer), prompt_hash

    async def _grounded(self, resolved: ResolvedReceipt) -> tuple[str, str]:
        receipt = resolved.receipt
        sources = _sources(resolved)
        excerpts = _excerpts(receipt, sources)
        messages = prompt.build(
            self._texts,
            instructions=receipt.instructions,
            sources=sources,
            excerpts=[place.text for place in excerpts],
            history=receipt.history,
            question=receipt.standalone,
        )
        plan = Plan(
            messages=messages,
            sources=sources,
            question=receipt.standalone,
            model=receipt.model,
            sampling=receipt.sampling,
            mode=CitationMode.ACCURATE,
            grounding=Grounding.STRICT if receipt.strict else Grounding.OPEN,
            support=receipt.support,
            excerpts=excerpts,
        )
        stages = Stages(clock=self._clock, metrics=self._metrics, tracer=self._tracer)
        said = Said()
        await self._answer_grounded(plan, said, stages=stages, emit=lambda _event: None)
        return said.answer, said.prompt_hash

    def _differences(self, resolved: ResolvedReceipt) -> Sequence[str]:
        receipt = resolved.receipt
        found = []
        if receipt.prompt_version != self._texts.version and receipt.grounded:
            found.append(f"The prompt texts are of version {self._texts.version}, not {receipt.prompt_version}.")
        pairs = [pair for pair in zip(receipt.sources, resolved.texts, strict=True) if pair[0].number]
        inline = sum(source.inline for source, _ in pairs)
        gone = sum(not text.available and not source.inline for source, text in pairs)
        old = sum(text.available and not text.current for _, text in pairs)
        if inline:
            found.append(f"{inline} passages came with the request; only their digests were kept.")
        if gone:
            found.append(f"{gone} passages are gone or may not be read by you.")
        if old:
            found.append(f"{old} passages are from document versions that are no longer active.")
        return found or ["The prompt is built from the same texts; the model or its chat template has changed."]


def _sources(resolved: ResolvedReceipt) -> tuple[Source, ...]:
    """Return the sources of the prompt in its order; those whose text is gone are left out."""
    found = [
        Source(
            record.number,
            Passage(
                document_id=record.span.document_id,
                version=record.span.version,
                start=record.span.start,
                end=record.span.end,
                text=text.text,
                title=text.title,
                filename=text.filename,
            ),
        )
        for record, text in zip(resolved.receipt.sources, resolved.texts, strict=True)
        if record.number and text.available
    ]
    return tuple(sorted(found, key=lambda source: source.number))


def _excerpts(receipt: Receipt, sources: Sequence[Source]) -> tuple[Neighbourhood, ...]:
    """Return the stretches that stood before the question, of those sources that are still there."""
    found = []
    for span in receipt.excerpts:
        for passage in (source.passage for source in sources):
            inside = passage.start <= span.start and span.end <= passage.end
            if (passage.document_id, passage.version) == (span.document_id, span.version) and inside:
                start, end = span.start - passage.start, span.end - passage.start
                found.append(Neighbourhood(passage, start, end, passage.text[start:end], ""))
                break
    return tuple(found)
