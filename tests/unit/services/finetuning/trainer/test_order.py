"""The order of rows: all of them once, each step a sample, drawn anew each epoch, and the same for a seed."""

import random

from services.finetuning.trainer.order import EpochOrder, steps

_DRAW = random.Random(2)
LENGTHS = [_DRAW.randrange(5, 500) for _ in range(203)]


def padding(order: list[int], batch: int) -> float:
    """Return the share of padding."""
    batches = [order[at : at + batch] for at in range(0, len(order), batch)]
    padded = sum(max(LENGTHS[place] for place in it) * len(it) for it in batches)
    return 1 - sum(LENGTHS) / padded


def test_every_row_is_seen_once() -> None:
    for batch in (1, 3, 8, 300):
        assert sorted(steps(LENGTHS, batch, "7")) == list(range(len(LENGTHS)))
    assert steps([], 4, "7") == []


def test_rows_of_like_length_pass_together() -> None:
    drawn = list(range(len(LENGTHS)))
    random.Random(1).shuffle(drawn)
    assert padding(steps(LENGTHS, 16, "7"), 2) < 0.1
    assert padding(drawn, 2) > 0.2


def test_a_step_is_a_sample_of_all_rows() -> None:
    # Steps of like rows pull one way after the other: a training of few steps ended with a loss a tenth higher.
    order = steps(LENGTHS, 8, "7")[:200]
    means = [sum(LENGTHS[place] for place in order[at : at + 8]) / 8 for at in range(0, 200, 8)]
    assert max(means) - min(means) < 250
    assert min(means) > 100


def test_the_longest_rows_come_first_so_that_memory_fails_at_once() -> None:
    assert LENGTHS[steps(LENGTHS, 8, "7")[0]] == max(LENGTHS)


def test_an_epoch_has_its_own_order_which_comes_again() -> None:
    orders = []
    for seed, epoch in ((1, 0), (1, 1), (1, 1), (2, 1)):
        sampler = EpochOrder(LENGTHS, 8, seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    first, second, again, other = orders
    assert first != second == again != other


def test_a_fixed_order_is_the_rows_own() -> None:
    assert list(EpochOrder(LENGTHS, 8, 1, fixed=True)) == list(range(len(LENGTHS)))
