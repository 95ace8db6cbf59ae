"""The order in which rows are seen: drawn anew for each epoch, the same whenever the seed is, the rows of a step by length."""

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

__all__ = ["EpochOrder", "EpochPrompts", "steps"]


class EpochOrder(Sampler[int]):  # type: ignore[misc]  # torch has no types here
    """Rows in a drawn order, those of a step by length.

    A step's rows are a sample of all rows: steps of like rows pull one way after the other, which trains worse. Passes
    that make up a step hold rows of like length, which leaves little padding.

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
        return iter(steps(self._lengths, self._batch, f"{self._seed}/{self._epoch}"))


class EpochPrompts(RepeatSampler):  # type: ignore[misc]  # TRL has no types
    """Prompts as GRPO wants them, each repeated for its answers, in an order that depends on seed and epoch only."""

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch."""
        if self.shuffle:
            self.generator.manual_seed(self.seed + epoch)


def steps(lengths: Sequence[int], batch: int, seed: str) -> list[int]:
    """Return places of rows step by step, the longest row of each step first, and the step with the longest of all.

    If memory does not suffice, that shows at once and not after hours. A step that is not full stays last.
    """
    draw = random.Random(seed)  # noqa: S311  an order, no secret
    places = list(range(len(lengths)))
    draw.shuffle(places)
    made = [places[start : start + batch] for start in range(0, len(places), batch)]
    full = [step for step in made if len(step) == batch]
    if full:
        longest = max(range(len(full)), key=lambda at: max(lengths[place] for place in full[at]))
        made[0], made[longest] = made[longest], made[0]
    return [place for step in made for place in sorted(step, key=lambda place: -lengths[place])]
