"""The prompt texts from `prompts/chat.toml`."""

import tomllib
from importlib import resources

from services.chat.domain.prompt import Example, PromptTexts, Rewrite


def read_prompts() -> PromptTexts:
    """Return the prompt texts that came with the code."""
    text = resources.files("services.chat").joinpath("prompts/chat.toml").read_text("utf-8")
    found = tomllib.loads(text)
    example = Example(**found.pop("example"))
    rewrites = tuple(Rewrite(**one) for one in found.pop("rewrites"))
    return PromptTexts(example=example, rewrites=rewrites, **{key: str(one).strip() for key, one in found.items()})
