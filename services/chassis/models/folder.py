"""Where a base model's files lie on this machine, and what identifies them."""

import asyncio
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.chassis.errors import InvalidInput
from services.chassis.models.packaged import PACKAGED_NAME, packaged_model

__all__ = ["PACKAGED", "BaseModel", "base_digest", "base_name", "open_model", "template_hash", "user_cache"]

# What a setting says to mean the model of the installed package.
PACKAGED: Final = "packaged"
_READ_BYTES: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on this machine.

    Attributes:
        name: How it is listed and how adapters name it.
        folder: Its files in the Hugging Face layout.
        digest: SHA-256 over its weight files, hexadecimal.
        template_hash: SHA-256 of its chat template, hexadecimal; empty where it has none.
        width: Numbers in its hidden states.
    """

    name: str
    folder: Path
    digest: str
    template_hash: str
    width: int


def user_cache() -> Path:
    """Return this product's folder in the user's cache (XDG Base Directory)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corporate-brain"


def base_name(model: str) -> str:
    """Return the name under which a model is listed: the packaged one's, a folder's own, or a hub name as it is."""
    if model == PACKAGED:
        return PACKAGED_NAME
    return Path(model).resolve().name if Path(model).is_dir() else model


async def open_model(model: str, *, cache: Path, served_name: str = "") -> BaseModel:
    """Return a base model, made from its package or fetched from the hub where it is not there yet.

    Args:
        model: `packaged`, a local folder, or a name on the hub.
        cache: Where the packaged model is made.
        served_name: Name to list it under; empty takes it from `model`.

    Raises:
        InvalidInput: There is no such folder, and the hub has or gives none.
        Unavailable: The packaged model could not be made.
    """
    folder = await packaged_model(cache) if model == PACKAGED else await asyncio.to_thread(_folder, model)
    digest = await asyncio.to_thread(base_digest, folder)
    return BaseModel(served_name or base_name(model), folder, digest, template_hash(folder), _width(folder))


def base_digest(folder: Path) -> str:
    """Return the SHA-256 over names and bytes of a folder's safetensors files, in the order of their names.

    It is kept beside no file: a model's weights are read once at a start, and a digest of their own would have to be
    believed.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
    return digest.hexdigest()


def template_hash(folder: Path) -> str:
    """Return the SHA-256 of a folder's chat template; empty where it has none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    config = folder / "tokenizer_config.json"
    template = json.loads(config.read_bytes()).get("chat_template") if config.is_file() else None
    return hashlib.sha256(json.dumps(template).encode()).hexdigest() if template else ""


def _width(folder: Path) -> int:
    """Return the hidden size that a folder's configuration gives; models of several parts keep that of their text apart.

    Raises:
        InvalidInput: It gives none.
    """
    path = folder / "config.json"
    config = json.loads(path.read_bytes()) if path.is_file() else {}
    width = config.get("text_config", config).get("hidden_size")
    if not isinstance(width, int) or width < 1:
        raise InvalidInput(f"model: {folder.name!r} has no config.json that gives a hidden_size.", param="model")
    return width


def _folder(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download  # noqa: PLC0415  only for models of the hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        # Weights in safetensors and texts only: pickled weights and code are never fetched.
        return Path(snapshot_download(model, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InvalidInput(
            f"model: {model!r} is no folder on this machine and cannot be had from the hub.",
            param="model",
            private=repr(error),
        ) from error
