"""The prompt texts: the layout's, and those of `prompts/chat.toml`."""

import tomllib
from importlib import resources

from services.chat.domain.prompt import PromptTexts, Rewrite
from services.layout.texts import read_layout


def read_prompts() -> PromptTexts:
    """Return the prompt texts that came with the code."""
    text = resources.files("services.chat").joinpath("prompts/chat.toml").read_text("utf-8")
    found = tomllib.loads(text)
    layout = read_layout()
    rewrites = tuple(Rewrite(**one) for one in found.pop("rewrites"))
    return PromptTexts(
        version=layout.version,
        system=layout.system,
        documents=layout.documents,
        excerpt=layout.excerpt,
        question=layout.question,
        not_found=layout.not_found,
        example=layout.example,
        rewrites=rewrites,
        **{key: str(one).strip() for key, one in found.items()},
    )
