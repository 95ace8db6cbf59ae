"""The texts of `prompts/chat.toml`, beside those of the layout."""

from dataclasses import dataclass

from services.layout.texts import LayoutTexts


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A question that points back, and the same one as it stands by itself."""

    asked: str
    answered: str
    question: str
    rewritten: str


@dataclass(frozen=True, slots=True)
class PromptTexts(LayoutTexts):
    """What the room says to the model and to people: the layout's texts and its own."""

    refusal: str
    quote: str
    removed_link: str
    rewrite_system: str
    last_question: str
    rewrites: tuple[Rewrite, ...]
