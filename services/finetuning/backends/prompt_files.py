"""The texts of `prompts/writing.toml`."""

import tomllib
from importlib import resources

from services.finetuning.domain.asking import WritingTexts


def read_writing() -> WritingTexts:
    """Return the texts that came with the code."""
    text = resources.files("services.finetuning").joinpath("prompts/writing.toml").read_text("utf-8")
    return WritingTexts(**{key: str(value).strip() for key, value in tomllib.loads(text).items()})
