"""The order in which rows are seen: drawn anew for each epoch, the same whenever the seed is, rows of a length together."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

__all__ = ["EpochOrder", "EpochPrompts", "length_grouped"]

# Batches that are sorted together: enough to leave hardly any padding, few enough for each to differ between epochs.
_BATCHES_TOGETHER: Final = 32


class EpochOrder(Sampler[int]):  # type: ignore[misc]  # torch has no types here
    """Rows in batches of like length.

    Args:
        lengths: Tokens of each row.
        batch: Rows in one step.
        seed: Seed of the order.
        fixed: Whether to keep the rows in their own order.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, *, fixed: bool = False) -> None:
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self._fixed = fixed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch; a resumed training thereby sees the rest of the same order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        if self._fixed:
            return iter(range(len(self._lengths)))
        return iter(length_grouped(self._lengths, self._batch, f"{self._seed}/{self._epoch}"))


class EpochPrompts(RepeatSampler):  # type: ignore[misc]  # TRL has no types
    """Prompts as GRPO wants them, each repeated for its answers, in an order that depends on seed and epoch only."""

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch."""
        if self.shuffle:
            self.generator.manual_seed(self.seed + epoch)


def length_grouped(lengths: Sequence[int], batch: int, seed: str) -> list[int]:
    """Return places of rows so that each batch holds rows of like length; the batch with the longest comes first.

    If memory does not suffice, that shows at once and not after hours. Within a batch the longest come first.
    """
    draw = random.Random(seed)  # noqa: S311  an order, no secret
    places = list(range(len(lengths)))
    draw.shuffle(places)
    together = batch * _BATCHES_TOGETHER
    batches: list[list[int]] = []
    rest: list[int] = []
    for start in range(0, len(places), together):
        group = sorted(places[start : start + together], key=lambda place: -lengths[place])
        batches += [group[at : at + batch] for at in range(0, len(group), batch)]
    if batches and len(batches[-1]) < batch:
        # The batch that is not full stays last: in any other place it would shift all that follow.
        rest = batches.pop()
    draw.shuffle(batches)
    if batches:
        longest = max(range(len(batches)), key=lambda at: lengths[batches[at][0]])
        batches[0], batches[longest] = batches[longest], batches[0]
    return [place for group in [*batches, rest] for place in group]
