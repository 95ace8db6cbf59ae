"""What a prompt is made of: turns, and passages of documents."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: role (system, user, assistant, tool) and text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Locator:
    """Where in its source a text stands; pages count from 1, 0 means the source has none."""

    page_first: int = 0
    page_last: int = 0
    heading_path: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: `text` is `stored_text[start:end]`, offsets in code points.

    Inline documents have version 0, no collection and no file; `data_json` is theirs alone.
    """

    document_id: str
    version: int
    start: int
    end: int
    text: str
    title: str = ""
    filename: str = ""
    collection_id: str = ""
    file_id: str = ""
    locator: Locator = field(default_factory=Locator)
    score: float = 0.0
    similarity: float = 0.0
    data_json: str = ""

    @property
    def inline(self) -> bool:
        """Whether the text came with the request."""
        return self.version == 0


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that the prompt holds, under the number by which it is called there, from 1."""

    number: int
    passage: Passage
