"""The prompt texts from `prompts/chat.toml`."""

import tomllib
from importlib import resources

from services.chat.domain.prompt import PromptTexts


def read_prompts() -> PromptTexts:
    """Return the prompt texts that came with the code."""
    text = resources.files("services.chat").joinpath("prompts/chat.toml").read_text("utf-8")
    return PromptTexts(**{key: str(value).strip() for key, value in tomllib.loads(text).items()})
