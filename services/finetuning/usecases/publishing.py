"""Publishing: weights become an immutable version that the engine has accepted, in one transaction with what made them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from services.chassis.errors import BrainError, InvalidInput
from services.chassis.ids import new_id
from services.finetuning.domain.adapters import AdapterSource, AdapterStatus, AdapterVersion, audience_of
from services.finetuning.domain.jobs import SourceCount, TuningJob
from services.finetuning.domain.owners import Owner
from services.finetuning.ports.blobs import Blobs
from services.finetuning.ports.readers import Readers
from services.finetuning.ports.records import Change, Reading
from services.finetuning.ports.serving import AdapterCheck, EngineLimits, Serving

__all__ = ["BaseFacts", "Publish", "Upload", "merged_sources"]

_log = structlog.get_logger()

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What is known of the base model beside its name."""

    name: str
    digest: str
    template_hash: str
    licence: str


@dataclass(frozen=True, slots=True)
class Upload:
    """Adapter files in the blob store that the engine has looked into."""

    config_key: str
    weights_key: str
    check: AdapterCheck


class Publish:
    """Uploads adapter files, has the engine check them, and makes them a version.

    Args:
        blobs: Where weights lie.
        serving: The engine that will serve them.
        readers: Who may read documents.
        base: The base model.
        now: Seconds since 1970.
    """

    def __init__(
        self, *, blobs: Blobs, serving: Serving, readers: Readers, base: BaseFacts, now: Callable[[], float]
    ) -> None:
        self._blobs = blobs
        self._serving = serving
        self._readers = readers
        self._base = base
        self._now = now

    async def upload(self, tenant: str, name: str, folder: Path) -> Upload:
        """Keep an adapter's two files under keys that carry the name, and have the engine check them.

        The keys are those of this upload alone: a late copy of a job that uploads, and then discards what it uploaded, leaves
        the files of the version as they are.

        Raises:
            InvalidInput: A file is missing, the adapter cannot be served, or it is for another base model.
            Unavailable: The blob store or the engine is away.
        """
        missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
        if missing:
            raise InvalidInput(f"file: the adapter has no {' and no '.join(missing)}.", param="file")
        prefix = f"{tenant}/adapters/{name.replace(':', '_')}/{new_id('')}"
        keys = {file: f"{prefix}/{file}" for file in (CONFIG, WEIGHTS)}
        try:
            for file, key in keys.items():
                await self._blobs.put(key, await asyncio.to_thread((folder / file).read_bytes))
            self._same_base(await self._serving.limits())
            check = await self._serving.check(config_key=keys[CONFIG], weights_key=keys[WEIGHTS])
        except BrainError:
            await self._blobs.delete(keys.values())
            raise
        return Upload(keys[CONFIG], keys[WEIGHTS], check)

    async def discard(self, upload: Upload) -> None:
        """Remove files that did not become a version."""
        await self._blobs.delete([upload.config_key, upload.weights_key])

    async def audience(
        self, wanted: Sequence[str], owner: Owner, tenant: str, sources: Sequence[SourceCount | AdapterSource]
    ) -> tuple[str, ...]:
        """Return who may ask an adapter that learned from `sources`: those who may read every document of them.

        Documents that are gone meanwhile are left out here: a version that saw one is published as blocked.
        """
        documents = sorted({source.id for source in sources if source.kind == "document"})
        lists = await self._readers.readers(owner.caller(tenant), documents)
        return audience_of(wanted, owner, lists.values())

    async def add(
        self,
        change: Change,
        *,
        name: str,
        tenant: str,
        suffix: str,
        owner: Owner,
        upload: Upload,
        principals: tuple[str, ...],
        sources: Sequence[AdapterSource],
        job: TuningJob | None = None,
        step: int = 0,
        number: int = 0,
        settings_json: str = "",
        metrics: dict[str, float] | None = None,
    ) -> AdapterVersion:
        """Make a version in a transaction and announce it; one that saw what is gone is announced as blocked.

        `number` is that of the version whose state at a step this is; 0 for the suffix's next one.
        """
        gone = await self._gone(change, tenant, sources)
        marked = [
            AdapterSource(one.kind, one.id, one.version, one.rows, withdrawn=(one.kind, one.id) in gone)
            for one in sources
        ]
        version = AdapterVersion(
            name=name,
            tenant=tenant,
            suffix=suffix,
            number=number or await change.next_version(tenant, suffix),
            owner=owner,
            created_at=self._now(),
            status=AdapterStatus.BLOCKED if gone else AdapterStatus.PUBLISHED,
            config_key=upload.config_key,
            weights_key=upload.weights_key,
            weights_digest=upload.check.weights_digest,
            config_digest=upload.check.config_digest,
            size_bytes=upload.check.size_bytes,
            rank=upload.check.rank,
            base_model=self._base.name,
            base_digest=self._base.digest,
            base_licence=self._base.licence,
            template_hash=self._base.template_hash,
            parent=job.parent if job else "",
            job_id=job.job_id if job else "",
            step=step,
            seed=job.seed if job else 0,
            settings_json=settings_json,
            metrics=metrics or {},
            principals=principals,
            reason_code="document_deleted" if gone else "",
            reason=f"it was trained on what is gone: {', '.join(sorted(one for _, one in gone))[:300]}" if gone else "",
        )
        await change.put_adapter(version)
        await change.put_sources(tenant, name, marked)
        await change.announce_adapter(version)
        _log.info("adapter_published", adapter=name, digest=version.weights_digest, status=version.status.value)
        return version

    async def _gone(self, reading: Reading, tenant: str, sources: Sequence[AdapterSource]) -> set[tuple[str, str]]:
        documents = [one.id for one in sources if one.kind == "document"]
        judgements = [one.id for one in sources if one.kind == "feedback"]
        gone = {("document", one.document_id) for one in await reading.withdrawals(tenant, documents) if one.deleted}
        return gone | {("feedback", one) for one in await reading.withdrawn_feedback(tenant, judgements)}

    def _same_base(self, limits: EngineLimits) -> None:
        if limits.base_digest and limits.base_digest != self._base.digest:
            raise InvalidInput(
                f"model: the engine serves other weights of {limits.base_model} than those that were trained on.",
                param="model",
            )
        if limits.template_hash and limits.template_hash != self._base.template_hash:
            raise InvalidInput(
                "model: the engine uses another chat template than the one that rows were rendered with.", param="model"
            )


def merged_sources(parts: Sequence[Sequence[SourceCount | AdapterSource]]) -> tuple[AdapterSource, ...]:
    """Return the union of several lists of sources; rows of the same source add up."""
    rows: dict[tuple[str, str, int], int] = {}
    for part in parts:
        for one in part:
            key = (one.kind, one.id, one.version)
            rows[key] = rows.get(key, 0) + one.rows
    return tuple(AdapterSource(kind, source, version, count) for (kind, source, version), count in sorted(rows.items()))
