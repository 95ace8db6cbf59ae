"""The documents of a build: listed, read and put into clusters, under the caller's rights."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.chassis.errors import InvalidInput, TooLarge
from services.finetuning.domain.building import BuildSpec, Progress, Report, Tally
from services.finetuning.domain.documents import DocumentText, SourceDocument
from services.finetuning.domain.near_duplicates import Partition, clusters
from services.finetuning.domain.splits import drawn_groups
from services.finetuning.ports.documents import Documents

MOST_CHARACTERS: Final = 100_000_000
"""Most characters of all documents of a build: they are held in memory while rows are made."""

# Texts that are read at once: enough to hide the wait, few enough to leave ingestion to others.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class SourceSet:
    """The documents of a build.

    Attributes:
        texts: Those that rows are made of.
        listed: Every document of the collections that the caller may read: what rows may show at all.
        clusters: Cluster of each document, by id; near duplicates are in one.
        held_out: Documents of the clusters that are held out.
    """

    texts: tuple[DocumentText, ...]
    listed: Mapping[str, SourceDocument]
    clusters: Mapping[str, str]
    held_out: frozenset[str]


class ReadSources:
    """Reads the documents of a build.

    Args:
        documents: The ingestion room.
    """

    def __init__(self, *, documents: Documents) -> None:
        self._documents = documents

    async def __call__(self, spec: BuildSpec, tally: Tally, report: Report) -> SourceSet:
        """Return the documents.

        Raises:
            NotFound: A collection is none that the caller may know of.
            InvalidInput: A document that is named is not in the collections, or may not be read.
            TooLarge: The documents hold more text than a build takes.
        """
        listed: dict[str, SourceDocument] = {}
        for collection_id in dict.fromkeys(spec.collection_ids):
            async for document in self._documents.of_collection(collection_id):
                listed[document.document_id] = document
                report(Progress("documents", len(listed), 0))
        for document_id in spec.document_ids:
            if document_id not in listed:
                raise InvalidInput(
                    f"document_ids: {document_id!r} is no searchable document of the collections that you may read.",
                    param="document_ids",
                )
        wanted = (
            [listed[one] for one in dict.fromkeys(spec.document_ids)] if spec.document_ids else list(listed.values())
        )
        texts = await self._texts(wanted, tally, report)
        names, held_out = await asyncio.to_thread(_clustered, texts, spec)
        tally.count("documents_read", len(texts))
        return SourceSet(tuple(texts), listed, names, held_out)

    async def _texts(self, wanted: list[SourceDocument], tally: Tally, report: Report) -> list[DocumentText]:
        found: list[DocumentText] = []
        characters = 0
        for at in range(0, len(wanted), _AT_ONCE):
            batch = wanted[at : at + _AT_ONCE]
            for text in await asyncio.gather(*(self._documents.text(document) for document in batch)):
                if text is None:
                    tally.leave_out("document_gone")
                    continue
                characters += len(text.text)
                if characters > MOST_CHARACTERS:
                    raise TooLarge(
                        f"collection_ids: the documents hold more than {MOST_CHARACTERS} characters; name some of them in "
                        "document_ids.",
                        param="collection_ids",
                    )
                found.append(text)
            report(Progress("documents", min(at + _AT_ONCE, len(wanted)), len(wanted)))
        return found


def _clustered(texts: list[DocumentText], spec: BuildSpec) -> tuple[dict[str, str], frozenset[str]]:
    """Return the cluster of each document and the documents that are held out."""
    near = clusters([text.text for text in texts], seed=spec.seed)
    same = Partition(len(texts))
    for at, cluster in enumerate(near):
        same.join_by(at, cluster)
    names = [text.document.document_id for text in texts]
    groups = same.groups()
    drawn = drawn_groups(groups, names, wanted=spec.held_out_share * len(texts), seed=spec.seed)
    held_out = frozenset(names[at] for at in drawn) if spec.held_out_share else frozenset[str]()
    return {names[at]: f"documents:{min(names[one] for one in group)}" for group in groups for at in group}, held_out
