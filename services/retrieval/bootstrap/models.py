"""Which embedders and rerankers there are, by the room's settings."""

import asyncio
from typing import Final

from services.chassis.errors import Conflict, InvalidInput
from services.chassis.lifecycle import Lifecycle
from services.retrieval.domain import PROBES, IndexRecord, alike
from services.retrieval.ports import Embedder, Reranker
from services.retrieval.settings import EmbedderSettings, RetrievalSettings

__all__ = ["MAXSIM", "ConfiguredEmbedders", "Models", "open_models"]

MAXSIM: Final = "minilm-maxsim"


class ConfiguredEmbedders:
    """The embedders of the settings; each is opened when it is asked for first.

    Args:
        said: What the settings say of each, `embedder_…` first.
        packaged: The packaged model, which is there in any case.
        lifecycle: Closes them.
    """

    def __init__(self, said: tuple[EmbedderSettings, ...], *, packaged: Embedder, lifecycle: Lifecycle) -> None:
        self._said = said
        self._packaged = packaged
        self._lifecycle = lifecycle
        self._opened: dict[str, Embedder] = {}
        self._checked: dict[str, Embedder] = {}
        self._opening = asyncio.Lock()

    async def configured(self) -> Embedder:
        """Return that of `embedder_url`."""
        return await self._open(self._said[0])

    async def next(self) -> Embedder:
        """Return that of `next_embedder_url`.

        Raises:
            InvalidInput: The setting is empty.
        """
        if len(self._said) == 1:
            raise InvalidInput("next_embedder_url: names no embedder; set it here and in every process of the room.")
        return await self._open(self._said[1])

    async def of(self, record: IndexRecord) -> Embedder:
        """Return the one whose vectors an index holds: by its digest, and by what it says of the probes."""
        if record.name in self._checked:
            return self._checked[record.name]
        known = []
        for said in self._said:
            embedder = await self._open(said)
            known.append(f"{said.name}_url is {embedder.model} ({embedder.digest[:12]})")
            if embedder.digest != record.digest:
                continue
            if not alike((await embedder.embed(PROBES, queries=False)).vectors, record.probes):
                raise Conflict(
                    f"{said.name}_url: {embedder.model} answers with other vectors than those in index {record.name}: "
                    "another model is served under the same name. Serve the earlier one again, or give this one a name "
                    "of its own and run `python -m services.retrieval reembed`."
                )
            self._checked[record.name] = embedder
            return embedder
        raise Conflict(
            f"embedder_url: index {record.name} holds vectors of {record.model} ({record.digest[:12]}), but "
            f"{' and '.join(known)}. Set embedder_url back to the index's embedder; to change it, set next_embedder_url "
            "to the new one and run `python -m services.retrieval reembed`."
        )

    async def _open(self, said: EmbedderSettings) -> Embedder:
        async with self._opening:
            if said.name not in self._opened:
                self._opened[said.name] = await _embedder(said, self._packaged, self._lifecycle)
            return self._opened[said.name]


class Models:
    """What the room's settings choose.

    Attributes:
        embedders: Texts to vectors.
        rerankers: By name.
        packaged: Name of the packaged embedder's model.
    """

    def __init__(self, embedders: ConfiguredEmbedders, rerankers: dict[str, Reranker], packaged: str) -> None:
        self.embedders = embedders
        self.rerankers = rerankers
        self.packaged = packaged


async def open_models(settings: RetrievalSettings, lifecycle: Lifecycle) -> Models:
    """Start the packaged model, which reranks whichever model embeds, and make the others ready to be asked for.

    Raises:
        InvalidInput: A setting names something that is not offered.
        Unavailable: The packaged model is not installed.
    """
    from services.retrieval.backends.maxsim_reranker import (  # noqa: PLC0415  imported when it is started
        MaxSimReranker,
        WeakestMaxSimReranker,
    )
    from services.retrieval.backends.onnx_embedder import OnnxEmbedder  # noqa: PLC0415  the same
    from services.retrieval.backends.onnx_worker import OnnxWorker  # noqa: PLC0415  the same

    for said in settings.embedders():
        _check(said)
    worker = OnnxWorker(max_waiting=settings.max_waiting_texts)
    await worker.start()
    lifecycle.on_stop(worker.stop, name="embedder")
    rerankers: dict[str, Reranker] = {one.name: one for one in (MaxSimReranker(worker), WeakestMaxSimReranker(worker))}
    if settings.reranker_url:
        from services.retrieval.backends.http_reranker import HttpReranker  # noqa: PLC0415  only what is chosen

        key = settings.reranker_key_file.read_text().strip() if settings.reranker_key_file else ""
        remote = HttpReranker(settings.reranker_url, model=settings.reranker_model, key=key)
        lifecycle.on_stop(remote.close, name="reranker")
        rerankers[remote.name] = remote
    if settings.ranker != "none" and settings.ranker not in rerankers:
        raise InvalidInput(f"ranker: {settings.ranker!r} is not one of none, {', '.join(sorted(rerankers))}.")
    packaged = OnnxEmbedder(worker)
    embedders = ConfiguredEmbedders(settings.embedders(), packaged=packaged, lifecycle=lifecycle)
    return Models(embedders, rerankers, packaged.model)


def _check(said: EmbedderSettings) -> None:
    scheme = said.url.partition("://")[0]
    if scheme not in {"minilm", "openai", "openais"}:
        raise InvalidInput(
            f"{said.name}_url: {scheme!r} is not offered; use minilm:// or openai://HOST[:PORT]/PATH?model=NAME "
            "(openais:// for TLS)."
        )


async def _embedder(said: EmbedderSettings, packaged: Embedder, lifecycle: Lifecycle) -> Embedder:
    if said.url.startswith("minilm://"):
        return packaged
    from services.retrieval.backends.openai_embedder import (  # noqa: PLC0415  only what is chosen
        EmbeddingEndpoint,
        OpenAIEmbedder,
    )

    remote = OpenAIEmbedder(
        EmbeddingEndpoint.of_url(
            f"{said.name}_url",
            said.url,
            key=said.key_file.read_text().strip() if said.key_file else "",
            ca_file=said.ca_file,
            query_prefix=said.query_prefix,
            passage_prefix=said.passage_prefix,
            batch=said.batch,
            max_characters=said.max_characters,
            timeout_s=said.timeout_s,
        )
    )
    try:
        await remote.open()
    except BaseException:
        await remote.close()
        raise
    lifecycle.on_stop(remote.close, name=said.name)
    return remote
