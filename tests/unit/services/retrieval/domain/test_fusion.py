import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retrieval.domain import Fusion, diversify, join_rankings

RANKING = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.floats(-1, 30), max_size=12)


@given(RANKING, RANKING, st.floats(0, 1), st.sampled_from(Fusion))
def test_joined_scores_lie_within_0_and_1_and_miss_nothing(
    dense: dict[str, float], keyword: dict[str, float], alpha: float, fusion: Fusion
) -> None:
    joined = join_rankings(dense, keyword, alpha=alpha, fusion=fusion)
    assert set(joined) == set(dense) | set(keyword)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in joined.values())


@pytest.mark.parametrize("fusion", Fusion)
def test_alpha_decides_between_the_rankings(fusion: Fusion) -> None:
    dense, keyword = {"a": 0.9, "b": 0.1}, {"b": 12.0, "a": 1.0}
    assert max(join_rankings(dense, keyword, alpha=1, fusion=fusion).items(), key=lambda pair: pair[1])[0] == "a"
    assert max(join_rankings(dense, keyword, alpha=0, fusion=fusion).items(), key=lambda pair: pair[1])[0] == "b"


def test_relative_scores_keep_distances_and_reciprocal_ranks_do_not() -> None:
    dense = {"a": 1.0, "b": 0.99, "c": 0.0}
    relative = join_rankings(dense, {}, alpha=1, fusion=Fusion.RELATIVE_SCORE)
    assert relative == {"a": 1.0, "b": pytest.approx(0.99), "c": 0.0}
    ranked = join_rankings(dense, {}, alpha=1, fusion=Fusion.RECIPROCAL_RANK)
    assert ranked["a"] - ranked["b"] == pytest.approx(ranked["b"] - ranked["c"], rel=0.1)


def test_diversity_passes_over_a_copy() -> None:
    east, north = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    scores, vectors = [1.0, 0.99, 0.5], [east, east, north]
    assert diversify(scores, vectors, top_k=3, weight=1.0) == [0, 1, 2]
    assert diversify(scores, vectors, top_k=2, weight=0.5) == [0, 2]
    assert diversify([], [], top_k=5, weight=0.5) == []
