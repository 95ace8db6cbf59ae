"""A tokeniser on white space whose tokens join to exactly the text they came from."""

import re
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from services.chassis.errors import InvalidInput

__all__ = ["WhiteSpaceTokens"]

# A token is a word with the space before it; space at the end is a token of its own.
_PIECE: Final = re.compile(r"\s*\S+|\s+\Z")
# Words remembered for the way back; a load test has fewer, and the oldest go first.
MAX_WORDS: Final = 1_000_000


class WhiteSpaceTokens:
    """Gives every piece an id that is the same in every process (CRC-32; the next free one after a collision)."""

    def __init__(self) -> None:
        self._pieces: OrderedDict[int, str] = OrderedDict()

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of a text; joined they are the text."""
        return _PIECE.findall(text)

    def ids(self, pieces: Iterable[str]) -> tuple[int, ...]:
        """Return the ids of pieces."""
        return tuple(self._id(piece) for piece in pieces)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text."""
        return self.ids(self.pieces(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids.

        Raises:
            InvalidInput: An id stands for nothing that was seen.
        """
        try:
            return "".join(self._pieces[it] for it in ids)
        except KeyError as error:
            raise InvalidInput(f"token_ids: {error.args[0]} is not in the vocabulary.", param="token_ids") from error

    def _id(self, piece: str) -> int:
        number = zlib.crc32(piece.encode("utf-8", "surrogatepass"))
        while (known := self._pieces.get(number)) is not None and known != piece:
            number = (number + 1) & 0xFFFF_FFFF
        self._pieces[number] = piece
        self._pieces.move_to_end(number)
        if len(self._pieces) > MAX_WORDS:
            self._pieces.popitem(last=False)
        return number
